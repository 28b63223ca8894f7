"""Temporary files of datafab's processes, and the removal of those that killed processes have left.

Each process has a folder of its own in this host's folder for temporary files (``TMPDIR``). It holds a lock on a file
in it, which the system releases when the process ends, however it does. So a folder whose lock is free was left behind,
and one whose lock is held is in use, whatever its age. Workers let all libraries put their temporary files there, too.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

#: Of the names of these folders: no other program's folder, such as that of a demo, may be removed.
PREFIX = "datafab-work-"
LOCK_NAME = ".lock"


class _Scratch(NamedTuple):
    """The folder of one process."""

    pid: int
    #: the folder for temporary files that it is in
    base: str
    path: Path
    #: descriptor of the lock; None: the file system has no locks, and the folder's age decides
    lock: int | None


_own: _Scratch | None = None
_making = threading.Lock()


def process_folder() -> Path:
    """Return this process's folder for temporary files, which is made at the first call and removed at its end."""
    with _making:
        return _current()


def _current() -> Path:
    global _own
    base, own = _base(), _own
    if own is None or own.pid != os.getpid() or own.base != base or not own.path.is_dir():
        former, _own = own, _make(base)
        if former is not None and former.pid != os.getpid() and former.lock is not None:
            os.close(former.lock)  # inherited in a fork; the parent still holds the lock
        if former is not None and tempfile.tempdir == str(former.path):
            tempfile.tempdir = str(_own.path)
        return _own.path
    return own.path


def use_for_all() -> None:
    """Let every library of this process, and of those that it forks, put its temporary files into our folder."""
    tempfile.tempdir = str(process_folder())


def work_folder() -> TemporaryDirectory[str]:
    """Create a folder in that of this process; it is removed at the end of ``with``."""
    return TemporaryDirectory(dir=process_folder())


def remove_process_folder() -> None:
    """Remove this process's folder with all that is in it; called when the process ends."""
    global _own  # noqa: PLW0603 - as above
    own = _own
    if own is None or own.pid != os.getpid():
        return
    _own = None
    if tempfile.tempdir == str(own.path):
        tempfile.tempdir = own.base
    shutil.rmtree(own.path, ignore_errors=True)
    if own.lock is not None:
        os.close(own.lock)


def sweep_work_folders(before: float) -> int:
    """Remove what killed processes of this user have left; return the number of files and folders.

    Args:
        before: what has no lock is removed if it was not written to since this Unix time.
    """
    removed = 0
    for path in Path(_base()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another worker sweeps too, and a file that cannot be removed must not stop a job
            removed += _sweep(path, before)
    return removed


def _sweep(path: Path, before: float) -> bool:
    """Remove a file or folder unless it is in use, or another user's; return whether it was removed."""
    facts = path.lstat()
    if facts.st_uid != os.getuid():
        return False
    is_folder = stat.S_ISDIR(facts.st_mode)
    lock = _open_lock(path) if is_folder else None
    if lock is None:
        if _last_write(path) >= before:
            return False
        shutil.rmtree(path) if is_folder else path.unlink()
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    finally:
        os.close(lock)
    return True


def _base() -> str:
    """Return this host's folder for temporary files, also where libraries use ours: see ``use_for_all``."""
    place = tempfile.gettempdir()
    return _own.base if _own is not None and place == str(_own.path) else place


def _make(base: str) -> _Scratch:
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    atexit.register(remove_process_folder)
    # It gets its name once it is held: a lock that is free is a dead process's.
    new = path / f"{LOCK_NAME}.new"
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        new.unlink()
        return _Scratch(os.getpid(), base, path, None)
    new.rename(path / LOCK_NAME)
    return _Scratch(os.getpid(), base, path, lock)


def _open_lock(path: Path) -> int | None:
    """Open the lock of a process's folder; None: it has none, as those of earlier versions."""
    try:
        return os.open(path / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _last_write(path: Path) -> float:
    """Return the time of the last write to a file, or to anything in a folder."""
    return max(each.lstat().st_mtime for each in (path, *_below(path)))


def _below(path: Path) -> Iterator[Path]:
    return path.rglob("*") if path.is_dir() and not path.is_symlink() else iter(())
