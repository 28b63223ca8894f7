"""Work folders in this host's folder for temporary files (``TMPDIR``), and the removal of those that were left.

Their names begin with a prefix of their own: the folder of a demo or a benchmark must not be removed.
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
    """Create a folder, which is removed at the end of ``with``."""
    return TemporaryDirectory(prefix=PREFIX)


def sweep_work_folders(before: float) -> int:
    """Remove this user's files and folders not written to since this Unix time; return their number."""
    removed = 0
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another worker sweeps too, and a file that cannot be removed must not stop a job
            facts = path.lstat()
            if facts.st_uid != os.getuid() or _last_write(path) >= before:
                continue
            if stat.S_ISDIR(facts.st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()
            removed += 1
    return removed


def _last_write(path: Path) -> float:
    """Return the time of the last write to a file, or to anything in a folder."""
    return max(each.lstat().st_mtime for each in (path, *_below(path)))


def _below(path: Path) -> Iterator[Path]:
    return path.rglob("*") if path.is_dir() and not path.is_symlink() else iter(())
