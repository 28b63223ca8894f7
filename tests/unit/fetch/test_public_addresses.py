"""Which addresses may be fetched from, whatever Python's own tables say."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from datafab.fetch import public_addresses
from datafab.fetch.public_addresses import is_permitted

#: Ranges of which no address is public: the first, the last and one between are tried.
SPECIAL = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
    "::/128", "::1/128", "::/96", "::ffff:0:0:0/96", "::ffff:10.0.0.0/104", "::ffff:127.0.0.0/104", "0200::/7",
    "64:ff9b::10.0.0.0/104", "64:ff9b::169.254.0.0/112", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
    "2001:2::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:1::/32", "2001:100::/24", "2001:db8::/32",
    "2002:7f00::/24", "2002:a00::/24", "2002:a9fe:a9fe::/48", "2002:c0a8::/32", "2002:6440::/26", "2002:e000::/20",
    "3fff::/20", "4000::/2", "5f00::/16", "8000::/1", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
]  # fmt: skip
#: The same, but public.
PUBLIC = [
    "1.0.0.0/24", "8.8.8.8/32", "9.255.255.255/32", "11.0.0.0/8", "100.63.255.255/32", "100.128.0.0/10", "126.0.0.0/8",
    "128.0.0.0/8", "169.253.0.0/16", "172.15.0.0/16", "172.32.0.0/16", "192.0.1.0/24", "192.31.196.0/24",
    "192.52.193.0/24", "192.175.48.0/24", "192.169.0.0/16", "198.17.0.0/16", "198.20.0.0/16", "223.255.255.0/24",
    "2001:200::/23", "2001:4860::/32", "2003::/18", "2400::/12", "2606:2800:220:1::/64", "2a00::/12", "3ffe::/16",
    "3fff:1000::/20", "64:ff9b::93.184.216.0/120", "::ffff:93.184.216.0/120", "2002:5db8::/32",
]  # fmt: skip
#: An address that holds another: whether it is permitted.
WRAPPED = {
    "2001:0:5db8:d822:8000:63bf:a247:27dd": True,  # Teredo: server and client 93.184.216.34
    "2001:0:4136:e378:8000:63bf:80ff:fffe": False,  # client 127.0.0.1
    "2001:0:7f00:1:8000:63bf:a247:27dd": False,  # server 127.0.0.1
    "2606:2800::5efe:5db8:d822": True,  # ISATAP
    "2606:2800::5efe:a00:1": False,
    "2606:2800::200:5efe:7f00:1": False,
    "fe80::5efe:5db8:d822": False,
    "::5db8:d822": False,  # IPv4-compatible, deprecated
    "fe80::1%eth0": False,
}


def addresses(network: str) -> set[str]:
    found = ip_network(network)
    return {str(found[index]) for index in (0, found.num_addresses // 2, -1)}


@pytest.mark.parametrize(("networks", "permitted"), [(SPECIAL, False), (PUBLIC, True)])
def test_ranges(networks, permitted):
    wrong = [each for network in networks for each in addresses(network) if is_permitted(each) is not permitted]
    assert not wrong


def test_addresses_within_others():
    assert {address: is_permitted(address) for address in WRAPPED} == WRAPPED


def test_python_is_not_asked(monkeypatch):
    """Its answer depends on its patch version."""
    for name in ("is_global", "is_private", "is_reserved", "is_multicast", "is_link_local", "is_site_local"):
        for kind in (public_addresses.IPv4Address, public_addresses.IPv6Address):
            if hasattr(kind, name):
                monkeypatch.setattr(kind, name, property(lambda _: pytest.fail("asked")))
    test_ranges(SPECIAL, permitted=False)
    test_ranges(PUBLIC, permitted=True)


@pytest.mark.parametrize(
    ("address", "network", "permitted"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("64:ff9b::a01:203", "10.0.0.0/8", True),
        ("64:ff9b:1::a01:203", "10.0.0.0/8", False),
        ("64:ff9b:1::a01:203", "64:ff9b:1::/48", True),
        ("fec0::1", "fec0::/10", True),
        ("127.0.0.1", "10.0.0.0/8", False),
        ("fe80::1%eth0", "fe80::/10", True),
    ],
)
def test_networks_that_the_settings_allow(address, network, permitted):
    assert is_permitted(address, [ip_network(network)]) is permitted
