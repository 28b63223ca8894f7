"""Record which file is the SQLite index of a cluster, as it must not write one on each host or in different folders.

The first file that is written is recorded in the cluster's Redis, with its host. A host is identified by its name or,
as containers have names of their own, by the boot id of its kernel, which changes at each start.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from datafab.core.redis import ClusterRedis
from datafab.errors import FlowError

#: Seconds for which the record is kept after a process has last claimed the file.
RETENTION_SECONDS = 30 * 24 * 3600
_KERNEL = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Host:
    """A host of the cluster."""

    name: str
    kernel: str

    @classmethod
    def this(cls) -> Self:
        """Return the current host."""
        name = platform.node()
        return cls(name, _KERNEL.read_text().strip() if _KERNEL.exists() else name)

    def is_also(self, other: Self) -> bool:
        """Tell whether another record is of the same host."""
        return self.name == other.name or self.kernel == other.kernel


class IndexFileOwner:
    """The record in Redis of the file that is the index of a cluster."""

    def __init__(self, client: ClusterRedis, file: Path, here: Host | None = None) -> None:
        self._redis: Any = client  # its types do not consider that answers are decoded
        self._key = f"{client.prefix}index-file"
        self._file = str(file.resolve())
        self._here = here or Host.this()

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def check(self) -> None:
        """Check that the recorded file is this one, or that there is no record.

        Raises:
            FlowError: the recorded file is another.
        """
        recorded = self._redis.get(self._key)
        if recorded is None:
            return
        owner = json.loads(recorded)
        host = Host(owner["host"], owner["kernel"])
        if not self._here.is_also(host):
            self._refuse(
                f"a file of the host {host.name}, and this is {self._here.name}: give all hosts an Elasticsearch in"
                " DATAFAB_INDEX_URL, or run what indexes and searches on one host only"
            )
        if owner["file"] != self._file:
            self._refuse(
                f"the file {owner['file']}, and here it is {self._file}: give all processes the same DATAFAB_INDEX_URL"
                " (or DATAFAB_HOME, where that is unset)"
            )

    def claim(self, *, move: bool = False) -> None:
        """Record this file, unless another is recorded; with ``move``, replace the record.

        Raises:
            FlowError: another file is recorded.
        """
        value = json.dumps({"host": self._here.name, "kernel": self._here.kernel, "file": self._file})
        if not self._redis.set(self._key, value, nx=True, ex=RETENTION_SECONDS):
            if not move:
                self.check()
            self._redis.set(self._key, value, ex=RETENTION_SECONDS)

    def _refuse(self, why: str) -> NoReturn:
        msg = f"the index of this cluster is {why}; `datafab index rebuild` makes it this one"
        raise FlowError(msg, code="index", field="DATAFAB_INDEX_URL")
