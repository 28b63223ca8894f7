"""Where a store's bytes lie: a folder of this host, or whatever fsspec reaches.

Nothing is synced to disk (fsync): a resource can be fetched again, and ten times the speed is worth more. After a
power cut a file may be short; ``Store`` compares sizes and writes such a resource again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, cast
from uuid import uuid4

from datafab.errors import FlowError

#: Folder of the files under way: on the same file system, and outside all that readers list or sync.
TEMPORARY = "tmp"


class Files(Protocol):
    """Named bytes below a root. Every failure but a missing file is a FlowError that names the path."""

    def ping(self) -> None:
        """Raise unless a file can be written."""

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None when there is none."""

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None when there is none."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; raises FileNotFoundError."""

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a whole file, replacing what was there; readers see the old or the new one, never a part."""

    def begin(self) -> BinaryIO:
        """Open a file under way; ``name`` is its path. To be ended by ``adopt`` or ``discard``."""

    def adopt(self, file: BinaryIO, name: str) -> None:
        """Give a file under way its name."""

    def discard(self, file: BinaryIO) -> None:
        """Remove a file under way."""

    def path(self, name: str) -> Path:
        """Return the local path of a file."""

    def sweep(self, before: float) -> int:
        """Remove files under way that were last written before this Unix time; return how many."""


class Folder:
    """A folder of this host."""

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self._temporary = f"{self._root}/{TEMPORARY}"

    def ping(self) -> None:
        """Raise unless a file can be written."""
        self.discard(self.begin())

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None when there is none."""
        try:
            return os.stat(f"{self._root}/{name}").st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _broken(f"{self._root}/{name}", error) from error

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None when there is none."""
        try:
            with self.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _broken(f"{self._root}/{name}", error) from error

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; raises FileNotFoundError."""
        return open(f"{self._root}/{name}", "rb")  # noqa: SIM115 - the caller closes it

    def write(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a whole file, replacing what was there; readers see the old or the new one, never a part."""
        file = self.begin()
        try:
            for part in parts:
                file.write(part)
            self.adopt(file, name)
        except BaseException as error:
            self.discard(file)
            if isinstance(error, OSError):
                raise _broken(f"{self._root}/{name}", error) from error
            raise

    def begin(self) -> BinaryIO:
        """Open a file under way; ``name`` is its path. To be ended by ``adopt`` or ``discard``."""
        path = f"{self._temporary}/{uuid4().hex}"
        try:
            try:
                return open(path, "xb", buffering=0)  # type: ignore[return-value]
            except FileNotFoundError:
                os.makedirs(self._temporary, exist_ok=True)
                return open(path, "xb", buffering=0)  # type: ignore[return-value]
        except OSError as error:
            raise _broken(self._root, error) from error

