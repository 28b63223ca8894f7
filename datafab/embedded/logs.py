"""The logs of the embedded cluster: one file for each part, and the end of what it had before."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

#: Size above which a log is moved to ``<name>.log.1``, and the most that is kept there.
MAX_LOG_BYTES = 10 * 1024**2


def open_log(log: Path, command: Sequence[str]) -> FileIO:
    """Open the log of a process that is about to start, and write its command there."""
    limit_log(log)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    # For appending: after `limit_log`, the process writes at the new end.
    file = log.open("ab", buffering=0)
    file.write(f"--- {at} {shlex.join(command)}\n".encode())
    return file


def limit_log(log: Path) -> None:
    """Move the end of a log that is too large to ``<name>.log.1``, and empty it.

    Its process may go on writing to it; what it writes between the two steps is lost. On a full disk, the log is only
    emptied.
    """
    with contextlib.suppress(OSError), log.open("rb+", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_LOG_BYTES:
            file.seek(size - MAX_LOG_BYTES)
            with contextlib.suppress(OSError):
                log.with_suffix(".log.1").write_bytes(file.read(MAX_LOG_BYTES))
            file.truncate(0)


def tail(log: Path, lines: int = 10) -> str:
    """Return the last lines of a log, at most 4 KB, or the reason why it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return f"(it cannot be read: {error})"
    return "\n".join(text.splitlines()[-lines:])
