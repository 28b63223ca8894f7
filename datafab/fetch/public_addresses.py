"""Which IP addresses are public: IANA's registries of special-purpose addresses, as of 2025-10.

Python's ``ipaddress`` has these tables, too, but their content depends on Python's patch version. IPv4 is public except
for the ranges listed here. Of IPv6, IANA has assigned ``2000::/3`` to global unicast; nothing else is public, so ranges
that are reserved later need no entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

#: https://www.iana.org/assignments/iana-ipv4-special-registry. The few anycast addresses in these ranges that can be
#: reached from everywhere serve no files.
NOT_PUBLIC_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private use
            "100.64.0.0/10",  # shared by a provider's customers
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local, with the metadata services of clouds
            "172.16.0.0/12",  # private use
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.88.99.0/24",  # relays of 6to4, deprecated
            "192.168.0.0/16",  # private use
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and the limited broadcast
        ),
    )
)
GLOBAL_UNICAST_V6 = IPv6Network("2000::/3")
#: https://www.iana.org/assignments/iana-ipv6-special-registry, within global unicast.
NOT_PUBLIC_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
        ),
    )
)
#: IPv6 addresses from which a translator makes IPv4 packets (RFC 6052). The prefix for local use, 64:ff9b:1::/48, is
#: not public: only its network knows where in it the IPv4 address is.
NAT64 = IPv6Network("64:ff9b::/96")
#: Interface identifiers of ISATAP (RFC 5214), which end in an IPv4 address.
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


def is_permitted(address: str, networks: Iterable[IPv4Network | IPv6Network] = ()) -> bool:
    """Return whether an IP address is public, or in one of the networks.

    An IPv6 address that leads to an IPv4 address is judged by that one.
    """
    networks = tuple(networks)
    ip = ip_address(address.partition("%")[0])
    if any(ip in network for network in networks):
        return True
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in NOT_PUBLIC_V4)
    if tunnelled := list(_tunnelled(ip)):
        return all(is_permitted(str(inner), networks) for inner in tunnelled)
    if ip not in GLOBAL_UNICAST_V6 or any(ip in network for network in NOT_PUBLIC_V6):
        return False
    return not _is_isatap(ip) or is_permitted(str(_last_32_bits(ip)), networks)


def _tunnelled(ip: IPv6Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses to which packets for an IPv6 address go."""
    if ip.ipv4_mapped is not None:
        yield ip.ipv4_mapped
    elif ip in NAT64:
        yield _last_32_bits(ip)
    elif ip.sixtofour is not None:
        yield ip.sixtofour
    elif ip.teredo is not None:
        yield from ip.teredo


def _is_isatap(ip: IPv6Address) -> bool:
    return (int(ip) >> 32) & 0xFFFF_FFFF in _ISATAP


def _last_32_bits(ip: IPv6Address) -> IPv4Address:
    return IPv4Address(int(ip) & 0xFFFF_FFFF)
