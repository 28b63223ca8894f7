"""Work under way, in this host's folder for temporary files (``TMPDIR``); and what killed processes left of it.

Its name begins with one prefix, that nothing else has: a demo's or a benchmark's folder is not ours to remove.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

PREFIX = "datafab-work-"


def work_folder() -> TemporaryDirectory[str]:
    """Return a new folder, which is removed at the end of ``with``."""
    return TemporaryDirectory(prefix=PREFIX)


def sweep_work(before: float) -> int:
    """Remove this user's files and folders in which nothing was written since this Unix time; return how many."""
    gone = 0
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another worker sweeps too, and one that stays must not stop a collection
            facts = path.lstat()
            if facts.st_uid != os.getuid() or _last(path) >= before:
                continue
            if stat.S_ISDIR(facts.st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()
            gone += 1
    return gone


def _last(path: Path) -> float:
    """Return the time of the last write to a file, or in a folder and whatever is below it."""
    return max(each.lstat().st_mtime for each in (path, *_below(path)))


def _below(path: Path) -> Iterator[Path]:
    return path.rglob("*") if path.is_dir() and not path.is_symlink() else iter(())
