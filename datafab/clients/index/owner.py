"""Whose file an index in SQLite is: a cluster of several hosts must not write one on each of them.

The host that writes first is noted in the cluster's Redis. A host is known by its name or, for containers have names
of their own, by its kernel, whose id changes when it is started again.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis

from datafab.errors import FlowError
from datafab.settings import PREFIX

#: Seconds that a host is remembered after the last of its processes has begun to write.
KEPT = 30 * 24 * 3600
_KEY = f"{PREFIX}index-host"
_KERNEL = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the cluster."""

    name: str
    kernel: str

    @classmethod
    def this(cls) -> Self:
        """Return the one that this is."""
        name = platform.node()
        return cls(name, _KERNEL.read_text().strip() if _KERNEL.exists() else name)

    def is_also(self, other: Self) -> bool:
        """Tell whether it is the same."""
        return self.name == other.name or self.kernel == other.kernel


class Owner:
    """The host on which the index of a cluster lies, in its Redis."""

    def __init__(self, client: redis.Redis, here: Host | None = None) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._here = here or Host.this()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def check(self) -> None:
        """See that the index is not on another host.

        Raises:
            FlowError: it is.
        """
        held = self._redis.get(_KEY)
        if held is None:
            return
        name, _, kernel = str(held).rpartition(" ")
        if not self._here.is_also(Host(name, kernel)):
            msg = (
                f"the index of this cluster is a file of the host {name}, and this is {self._here.name}: give all hosts"
                " an Elasticsearch in DATAFAB_INDEX_URL, or run what indexes and searches on one host only;"
                " `datafab index rebuild` makes it this one"
            )
            raise FlowError(msg, code="index", field="DATAFAB_INDEX_URL")

    def claim(self, *, move: bool = False) -> None:
        """Note that it is here, unless it is elsewhere; ``move``: from now on it is here.

        Raises:
            FlowError: it is.
        """
        value = f"{self._here.name} {self._here.kernel}"
        if not self._redis.set(_KEY, value, nx=True, ex=KEPT):
            if not move:
                self.check()
            self._redis.set(_KEY, value, ex=KEPT)
