"""The budget of failed logins, by address and in all. Kept by each process, in bounded memory.

A valid token is never refused for the failures of others: only a wrong one, after the budget is spent, is answered 429
and no longer logged one by one. Guessing is hopeless anyway, as secrets have 256 random bits; the budget keeps the log
readable, and tells a program with an old token to slow down.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

#: Failures at once, and in each minute after them.
PER_ADDRESS, IN_ALL = 10, 100
#: Addresses that are remembered; the one that failed longest ago is forgotten first.
MAX_ADDRESSES = 1000
MINUTE = 60.0


@dataclass(slots=True)
class _Budget:
    """A bucket of failures, which fills up again within a minute."""

    size: int
    left: float
    at: float

    def spend(self, now: float) -> float:
        """Count a failure; return the seconds until the next one is allowed, 0 if this one was."""
        self.left = min(self.size, self.left + (now - self.at) * self.size / MINUTE)
        self.at = now
        if self.left < 1:
            return (1 - self.left) * MINUTE / self.size
        self.left -= 1
        return 0.0


class FailedLogins:
    """The failed logins of this process.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._all = _Budget(IN_ALL, IN_ALL, clock())
        self._addresses: OrderedDict[str, _Budget] = OrderedDict()

    def count(self, address: str) -> float:
        """Count a failure from an address; return the seconds to wait, 0 while the budget lasts."""
        now, network = self._clock(), _network(address)
        with self._lock:
            budget = self._addresses.setdefault(network, _Budget(PER_ADDRESS, PER_ADDRESS, now))
            self._addresses.move_to_end(network)
            while len(self._addresses) > MAX_ADDRESSES:
                self._addresses.popitem(last=False)
            # A flood from one address does not spend the budget of the others.
            return budget.spend(now) or self._all.spend(now)

    def __len__(self) -> int:
        return len(self._addresses)


def _network(address: str) -> str:
    """Return the address; of an IPv6 address its /64, all of which belongs to one customer."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return ""  # a Unix socket
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)
