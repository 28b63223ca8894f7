"""A store's files in a folder of this host."""

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
from datafab.store.files import raise_store_error
from datafab.store.regularfile import NotRegular

#: Folder of a store that exists from its first use on.
MARK_FOLDER = "resource"


class Folder:
    """A folder of this host, by plain system calls: fsspec's local files cost several times as much."""

    concurrency = 1
    touches = True

    def __init__(self, root: str) -> None:
        self._root = str(Path(root).absolute())
        # Beside the folders that are listed, and on the same file system, so that a rename is enough.
        self._temporary = str(Path(self._root, "tmp"))

    def ping(self) -> None:
        """Raise FlowError unless a file can be written; create the folder by which other hosts recognise the store."""
        file = self.create_temporary()
        file.close()
        os.unlink(file.name)
        self.tidy()
        try:
            os.makedirs(f"{self._root}/{MARK_FOLDER}", exist_ok=True)
        except OSError as error:
            raise_store_error(f"{self._root}/{MARK_FOLDER}", error)

    def require_marked(self) -> None:
        """Raise FlowError unless a process on any host has pinged it."""
        # Jobs that a former version started may still have the other folder alone.
        if not (os.path.isdir(f"{self._root}/{MARK_FOLDER}") or os.path.isdir(self._temporary)):
            msg = (
                f"{self._root} on {platform.node()} is not the folder in which the job started: all hosts must share it"
            )
            raise FlowError(msg, code="store", field="store")

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None when there is none."""
        path = f"{self._root}/{name}"
        try:
            return os.stat(path).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise_store_error(path, error)

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading; FileNotFoundError when there is none."""
        path = f"{self._root}/{name}"
        try:
            # Opening a pipe would block.
            number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if not stat.S_ISREG(os.fstat(number).st_mode):
                os.close(number)
                raise NotRegular("is not a regular file", path)
            return open(number, "rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise_store_error(path, error)

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a whole file; readers see the old or the new one, never a part."""
        file = self.create_temporary()
        try:
            try:
                with file:
                    file.write(data)
            except OSError as error:
                raise_store_error(file.name, error)
            self.finish(file.name, name)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(file.name)
            raise

    def create_temporary(self) -> BinaryIO:
        """Open a new file on the same file system."""
        path = f"{self._temporary}/{uuid4().hex}"
        while True:
            try:
                return open(path, "xb")
            except (FileNotFoundError, NotADirectoryError):
                self._make_temporary()  # in a loop: another process may remove it at this moment
            except OSError as error:
                raise_store_error(path, error)

    def _make_temporary(self) -> None:
        try:
            os.makedirs(self._temporary, exist_ok=True)
        except FileExistsError as error:
            # A folder that another process removed between the two system calls is none; the caller tries again.
            if os.path.lexists(self._temporary) and not os.path.isdir(self._temporary):
                raise_store_error(self._temporary, error)
        except OSError as error:
            raise_store_error(self._temporary, error)

    def tidy(self) -> None:
        """Remove the folder of temporary files unless it is in use: people synchronise the store's root."""
        with suppress(OSError):
            os.rmdir(self._temporary)

    def finish(self, path: str, name: str) -> None:
        """Rename the file at ``path`` (one of ``create_temporary``) to ``name``."""
        target = f"{self._root}/{name}"
        try:
            try:
                os.replace(path, target)
            except FileNotFoundError:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        except OSError as error:
            raise_store_error(target, error)

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Provide a file at its path; FileNotFoundError when there is none."""
        self.open(name).close()
        return nullcontext(self.path(name))

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all files below a folder, in any order."""
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
            raise_store_error(f"{self._root}/{folder}", error)

    def files_with_age(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Yield the files below a folder: name, bytes, Unix time of the last write or touch."""
        for name in self.names(folder):
            with suppress(FileNotFoundError):
                found = os.stat(f"{self._root}/{name}")
                yield name, found.st_size, max(found.st_mtime, found.st_atime)

    def touch(self, name: str) -> None:
        """Let the age of a file count from now."""
        path = f"{self._root}/{name}"
        with suppress(OSError):  # the file of another user cannot be touched
            # The access time only: by the time of the last write, tools that synchronise see what has changed.
            os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))

    def remove(self, name: str, before: float) -> bool:
        """Remove a file; return False when it is younger than this Unix time, or gone."""
        path = f"{self._root}/{name}"
        try:
            found = os.stat(path)
            if max(found.st_mtime, found.st_atime) >= before:
                return False
            os.unlink(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise_store_error(path, error)
        return True

    def path(self, name: str) -> Path:
        """Return the local path of a file."""
        return Path(self._root, name)

    def sweep(self, folder: str, before: float) -> int:
        """Remove a folder's files last written before this Unix time; return their number."""
        removed = sweep_paths(Path(self._root, folder).glob("*"), before)
        self.tidy()
        return removed


def sweep_paths(paths: Iterable[Path], before: float) -> int:
    """Remove the files last written before this Unix time; return their number."""
    removed = 0
    for path in paths:
        with suppress(OSError):  # another worker sweeps too, and a file that cannot be removed must not stop a job
            if path.stat().st_mtime < before:
                path.unlink()
                removed += 1
    return removed
