"""What a process has in its folder for temporary files (``datafab/store/scratch.py``)."""

from __future__ import annotations

from pathlib import Path

from datafab.store.scratch import LOCK_NAME


def temporary_files(scratch: Path) -> list[Path]:
    """Return the files below a folder for temporary files; the locks of processes are none."""
    return [path for path in scratch.rglob("*") if path.is_file() and path.name != LOCK_NAME]
