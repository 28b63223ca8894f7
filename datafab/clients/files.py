"""Where a store's bytes lie: a folder of this host, or what fsspec reaches.

Nothing is forced to disk (fsync): it would cost more than the fetch, and whatever a power cut takes can be fetched
again. A file that it left short is found by its size when the same bytes come in again (``Store.incoming``).
"""

# pathlib would take a tenth of the time that collecting an endpoint takes in all.
# ruff: noqa: PTH105, PTH108, PTH112, PTH116, PTH123

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from fsspec.core import url_to_fs

from datafab.errors import FlowError, SettingError


class Files(Protocol):
    """Named bytes below a root. What goes wrong is a FlowError that names the path."""

    def ping(self) -> None:
        """Raise FlowError unless a file can be written."""

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None when there is none."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; FileNotFoundError when there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file over what was there: readers see the one or the other, never a part."""

    def temporary(self) -> str:
        """Return the path of a new local file, which nobody will take for a finished one."""

    def adopt(self, path: str, name: str) -> None:
        """Make the file at ``path`` (one of ``temporary``) the one called ``name``."""

    def path(self, name: str) -> Path:
        """Return the local path of a file."""

    def sweep(self, folder: str, before: float) -> int:
        """Remove a folder's files last written before this Unix time; return how many."""


class Folder:
    """A folder of this host, by plain system calls: fsspec's local files cost several times as much."""

    def __init__(self, root: str) -> None:
        self._root = str(Path(root).absolute())
        # Beside what is listed and synced, and on the same file system, so that a rename is enough.
        self._temporary = str(Path(self._root, "tmp"))

    def ping(self) -> None:
        """Raise FlowError unless a file can be written."""
        path = self.temporary()
        _save(path, b"")
        os.unlink(path)

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None when there is none."""
        path = f"{self._root}/{name}"
        try:
            return os.stat(path).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            broken(path, error)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; FileNotFoundError when there is none."""
        path = f"{self._root}/{name}"
        try:
            return open(path, "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            broken(path, error)

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file over what was there: readers see the one or the other, never a part."""
        path = self.temporary()
        try:
            _save(path, data)
            self.adopt(path, name)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(path)
            raise

    def temporary(self) -> str:
        """Return the path of a new file on the same file system."""
        if not os.path.isdir(self._temporary):
            try:
                Path(self._temporary).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                broken(self._temporary, error)
        return f"{self._temporary}/{uuid4().hex}"

    def adopt(self, path: str, name: str) -> None:
        """Rename the file at ``path`` (one of ``temporary``) to ``name``."""
        target = f"{self._root}/{name}"
        try:
            try:
                os.replace(path, target)
            except FileNotFoundError:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        except OSError as error:
            broken(target, error)

    def path(self, name: str) -> Path:
        """Return the local path of a file."""
        return Path(self._root, name)

    def sweep(self, folder: str, before: float) -> int:
        """Remove a folder's files last written before this Unix time; return how many."""
        return _sweep(Path(self._root, folder).glob("*"), before)


class Bucket:
    """Anything else that fsspec reaches, where a file appears whole or not at all (object stores)."""

    def __init__(self, system: Any, root: str) -> None:
        self._system = system
        self._root = root

    def ping(self) -> None:
        """Raise FlowError unless a file can be written."""
        name = f"tmp/{uuid4().hex}"
        self.write(name, b"")
        self._system.rm_file(f"{self._root}/{name}")

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None when there is none."""
        try:
            return int(self._system.size(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None
        except OSError as error:
            broken(f"{self._root}/{name}", error)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; FileNotFoundError when there is none."""
        file: BinaryIO = self._system.open(f"{self._root}/{name}", "rb")
        return file

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file over what was there."""
        try:
            self._system.pipe_file(f"{self._root}/{name}", data)
        except OSError as error:
            broken(f"{self._root}/{name}", error)

    def temporary(self) -> str:
        """Return the path of a new file on this host."""
        return f"{tempfile.gettempdir()}/datafab-{uuid4().hex}"

    def adopt(self, path: str, name: str) -> None:
        """Upload the file at ``path``, then remove it."""
        try:
            self._system.put_file(path, f"{self._root}/{name}")
        except OSError as error:
            broken(f"{self._root}/{name}", error)
        os.unlink(path)

    def path(self, name: str) -> Path:
        """Refuse: nothing here lies on this host."""
        msg = f"{self._root}/{name} is not on this host: open it instead"
        raise FlowError(msg, code="store")

    def sweep(self, folder: str, before: float) -> int:
        """Remove what this host's uploads left behind; in the bucket itself that is a lifecycle rule's work."""
        return _sweep(Path(tempfile.gettempdir()).glob("datafab-*"), before) if folder == "tmp" else 0


def files_at(root: str) -> Files:
    """Return the files below a root: a plain path, ``file://`` or another URL that fsspec knows.

    Raises:
        SettingError: the root is empty or fsspec cannot reach it.
    """
    if not root:
        msg = "the store has no root: give a folder or a URL"
        raise SettingError(msg, field="store")
    scheme = urlsplit(root).scheme
    if scheme in {"", "file"}:
        return Folder(unquote(urlsplit(root).path) if scheme else root)
    try:
        system, path = url_to_fs(root)
    except (ValueError, ImportError) as error:
        msg = f"store {root!r}: {error}; give a folder or a URL such as file:///srv/store"
        raise SettingError(msg, field="store") from error
    return Bucket(system, path)


def broken(path: str, error: OSError) -> NoReturn:
    """Raise the FlowError for a path that cannot be read or written."""
    msg = f"{path}: {error.strerror or error}; the store needs room and the right to write there"
    raise FlowError(msg, code="store", field="store") from error


def a_day_ago() -> float:
    """Return the Unix time before which nobody can still be writing a file."""
    return time.time() - 24 * 3600


def _save(path: str, data: bytes) -> None:
    try:
        with open(path, "xb") as file:
            file.write(data)
    except OSError as error:
        broken(path, error)


def _sweep(paths: Iterable[Path], before: float) -> int:
    gone = 0
    for path in paths:
        with suppress(FileNotFoundError):  # another worker sweeps too
            if path.stat().st_mtime < before:
                path.unlink()
                gone += 1
    return gone
