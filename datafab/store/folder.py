"""A store's bytes in a folder of this host."""

# pathlib would take a tenth of the time that collecting an endpoint takes in all.
# ruff: noqa: PTH103, PTH105, PTH106, PTH108, PTH112, PTH116, PTH123

from __future__ import annotations

import os
import platform
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from datafab.errors import FlowError
from datafab.store.files import broken
from datafab.store.regularfile import NotRegular

#: The folder of a store that is there from its first use on.
MARK = "resource"


class Folder:
    """A folder of this host, by plain system calls: fsspec's local files cost several times as much."""

    side_by_side = 1
    renews = True

    def __init__(self, root: str) -> None:
        self._root = str(Path(root).absolute())
        # Beside what is listed and synced, and on the same file system, so that a rename is enough.
        self._temporary = str(Path(self._root, "tmp"))

    def ping(self) -> None:
        """Raise FlowError unless a file can be written; make the folder by which other hosts recognise the store."""
        file = self.create()
        file.close()
        os.unlink(file.name)
        self.tidy()
        try:
            os.makedirs(f"{self._root}/{MARK}", exist_ok=True)
        except OSError as error:
            broken(f"{self._root}/{MARK}", error)

    def require_marked(self) -> None:
        """Raise FlowError unless somebody has pinged it, whatever host that was on."""
        # A version before this one recognised it by the other folder, which a job that it began still has.
        if not (os.path.isdir(f"{self._root}/{MARK}") or os.path.isdir(self._temporary)):
            msg = f"{self._root} on {platform.node()} is not the folder in which this began: all hosts must share it"
            raise FlowError(msg, code="store", field="store")

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
            # A pipe that somebody put there must not hold us.
            number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(number).st_mode):
                os.close(number)
                raise NotRegular("is no regular file", path)
            return open(number, "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            broken(path, error)

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file over what was there: readers see the one or the other, never a part."""
        file = self.create()
        try:
            try:
                with file:
                    file.write(data)
            except OSError as error:
                broken(file.name, error)
            self.adopt(file.name, name)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(file.name)
            raise

    def create(self) -> BinaryIO:
        """Open a new file on the same file system."""
        path = f"{self._temporary}/{uuid4().hex}"
        while True:
            try:
                return open(path, "xb")
            except (FileNotFoundError, NotADirectoryError):
                self._make_temporary()  # and again: another process may tidy up at this very moment
            except OSError as error:
                broken(path, error)

    def _make_temporary(self) -> None:
        try:
            os.makedirs(self._temporary, exist_ok=True)
        except OSError as error:
            broken(self._temporary, error)

    def tidy(self) -> None:
        """Remove the folder for files under way, unless somebody has one there: people sync what is stored."""
        with suppress(OSError):
            os.rmdir(self._temporary)

    def adopt(self, path: str, name: str) -> None:
        """Rename the file at ``path`` (one of ``create``) to ``name``."""
        target = f"{self._root}/{name}"
        try:
            try:
                os.replace(path, target)
            except FileNotFoundError:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        except OSError as error:
            broken(target, error)

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Have a file at a path of this host; FileNotFoundError when there is none."""
        self.open(name).close()
        return nullcontext(self.path(name))

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all files below a folder, in no order."""
        try:
            with os.scandir(f"{self._root}/{folder}") as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}"
                    if entry.is_dir():
                        yield from self.names(name)
                    else:
                        yield name
        except FileNotFoundError:
            return
        except OSError as error:
            broken(f"{self._root}/{folder}", error)

    def aged(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Yield all files below a folder: name, bytes, Unix time of the last write or ``renew``."""
        for name in self.names(folder):
            with suppress(FileNotFoundError):
                found = os.stat(f"{self._root}/{name}")
                yield name, found.st_size, max(found.st_mtime, found.st_atime)

    def renew(self, name: str) -> None:
        """Make a file as young as one that is written now."""
        path = f"{self._root}/{name}"
        with suppress(OSError):  # one of another user: it is there all the same
            # Not the time of its last write, by which those who sync a store see that it has not changed.
            os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))

    def remove(self, name: str, before: float) -> bool:
        """Remove a file, unless it is younger than this Unix time, or gone: False then."""
        path = f"{self._root}/{name}"
        try:
            found = os.stat(path)
            if max(found.st_mtime, found.st_atime) >= before:
                return False
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            broken(path, error)
        return True

    def path(self, name: str) -> Path:
        """Return the local path of a file."""
        return Path(self._root, name)

    def sweep(self, folder: str, before: float) -> int:
        """Remove a folder's files last written before this Unix time; return how many."""
        gone = sweep_paths(Path(self._root, folder).glob("*"), before)
        self.tidy()
        return gone


def sweep_paths(paths: Iterable[Path], before: float) -> int:
    """Remove the files last written before this Unix time; return how many."""
    gone = 0
    for path in paths:
        with suppress(OSError):  # another worker sweeps too, and one that stays must not stop a collection
            if path.stat().st_mtime < before:
                path.unlink()
                gone += 1
    return gone
