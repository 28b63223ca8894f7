"""Files of this host that are read as a whole: regular files only, and only those that fit in memory.

Devices and pipes may never end, and files of ``/proc`` may hold secrets of a process. They are refused by their kind
before they are read, and before they are opened where opening has an effect.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

#: Bytes of a file that is read into memory: an endpoint.csv, an event, a plan.
MAX_FILE_BYTES = 128 * 1024**2
#: Bytes of one read.
READ_BYTES = 1024**2
#: Folders of files that the kernel makes up.
KERNEL_FOLDERS = tuple(Path(place) for place in ("/proc", "/sys"))
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class NotRegular(OSError):
    """There is no regular file at a path, or it is too large; ``strerror`` says which."""

    def __init__(self, why: str, path: Path | str) -> None:
        super().__init__(errno.EINVAL, why, str(path))


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        NotRegular: the path is not a regular file.
        OSError: it cannot be opened.
    """
    _check(Path(path).stat(), path)
    real = Path(path).resolve()
    if any(real.is_relative_to(place) for place in KERNEL_FOLDERS):
        raise NotRegular("is a file of the kernel, not a regular one", path)
    # Another file may have replaced it by now: opening a pipe would block.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fstat(number), path)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_regular(path: Path | str, limit: int = MAX_FILE_BYTES, check: Callable[[], None] = lambda: None) -> bytes:
    """Read a regular file.

    Args:
        path: the file.
        limit: largest number of bytes.
        check: called with every read; raises when the job was cancelled.

    Raises:
        NotRegular: the path is not a regular file, or it is too large.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise _too_large(path, limit)
        parts, size = [], 0
        while block := file.read(min(READ_BYTES, limit + 1 - size)):
            check()
            parts.append(block)
            size += len(block)
            if size > limit:
                raise _too_large(path, limit)
    return b"".join(parts)


def _check(found: os.stat_result, path: Path | str) -> None:
    if not stat.S_ISREG(found.st_mode):
        what = next((what for is_so, what in _KINDS if is_so(found.st_mode)), "something else")
        raise NotRegular(f"is {what}, not a regular file", path)


def _too_large(path: Path | str, limit: int) -> NotRegular:
    return NotRegular(f"has more than {limit} bytes", path)
