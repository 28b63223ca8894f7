"""Files of this host that are read as a whole: regular ones only, and no larger than what fits in memory.

A device or a pipe never ends, a file of ``/proc`` holds what belongs to a process, and a folder is none. They are
refused by their kind before anything is read, and before they are opened where opening alone does something.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

#: Bytes of a file that is held in memory: an endpoint.csv, an event, a plan.
LARGEST = 128 * 1024**2
#: Bytes read at once.
BLOCK = 1024**2
#: Where the kernel shows files that lie on no disk.
KERNEL = tuple(Path(place) for place in ("/proc", "/sys"))
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class NotRegular(OSError):
    """What lies at a path is no regular file, or too large; ``strerror`` says which."""

    def __init__(self, why: str, path: Path | str) -> None:
        super().__init__(errno.EINVAL, why, str(path))


def open_regular(path: Path | str) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        NotRegular: something else is there.
        OSError: it cannot be opened.
    """
    _check(Path(path).stat(), path)
    real = Path(path).resolve()
    if any(real.is_relative_to(place) for place in KERNEL):
        raise NotRegular("is a file of the kernel, not a regular one", path)
    # It may have become another since: a pipe that nobody writes to must not hold us.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fstat(number), path)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_regular(path: Path | str, limit: int = LARGEST, check: Callable[[], None] = lambda: None) -> bytes:
    """Return what a regular file holds.

    Args:
        path: the file.
        limit: the most bytes that it may have.
        check: called with every block; raises when the work is no longer wanted.

    Raises:
        NotRegular: something else is there, or it is too large.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise _too_large(path, limit)
        parts, size = [], 0
        while block := file.read(min(BLOCK, limit + 1 - size)):
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
