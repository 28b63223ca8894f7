"""Which file an index in SQLite is: a cluster must not write one on each of its hosts, or in each of two folders.

The file that is written first is noted in the cluster's Redis, with its host. A host is known by its name or, for
containers have names of their own, by its kernel, whose id changes when it is started again.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import redis

from datafab.errors import FlowError
from datafab.settings import PREFIX

#: Seconds that a file is remembered after the last of the processes that write it has begun to.
KEPT = 30 * 24 * 3600
_KEY = f"{PREFIX}index-file"
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
    """The file that is the index of a cluster, as its Redis knows it."""

    def __init__(self, client: redis.Redis, file: Path, here: Host | None = None) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._file = str(file.resolve())
        self._here = here or Host.this()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def check(self) -> None:
        """See that the index is no other file.

        Raises:
            FlowError: it is.
        """
        held = self._redis.get(_KEY)
        if held is None:
            return
        known = json.loads(held)
        host = Host(known["host"], known["kernel"])
        if not self._here.is_also(host):
            self._refuse(
                f"a file of the host {host.name}, and this is {self._here.name}: give all hosts an Elasticsearch in"
                " DATAFAB_INDEX_URL, or run what indexes and searches on one host only"
            )
        if known["file"] != self._file:
            self._refuse(
                f"the file {known['file']}, and here it is {self._file}: give all processes the same DATAFAB_INDEX_URL"
                " (or DATAFAB_HOME, where that is unset)"
            )

    def claim(self, *, move: bool = False) -> None:
        """Note that it is this one, unless it is another; ``move``: from now on it is this one.

        Raises:
            FlowError: it is another.
        """
        value = json.dumps({"host": self._here.name, "kernel": self._here.kernel, "file": self._file})
        if not self._redis.set(_KEY, value, nx=True, ex=KEPT):
            if not move:
                self.check()
            self._redis.set(_KEY, value, ex=KEPT)

    def _refuse(self, why: str) -> NoReturn:
        msg = f"the index of this cluster is {why}; `datafab index rebuild` makes it this one"
        raise FlowError(msg, code="index", field="DATAFAB_INDEX_URL")
