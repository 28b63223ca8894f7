"""What processes cost, read from /proc: CPU seconds and resident memory, their children's included."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Memory of a process and its children, in MB; ``own``: pages that they share count once."""

    processes: int
    resident: float
    own: float


def family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for path in children for child in path.read_text().split()]
    return [pid, *(each for child in found for each in family(child))]


def cpu(pids: Iterable[int]) -> float:
    """Return the CPU seconds of processes and their children, those that have ended included."""
    return sum(_ticks(each) for pid in pids for each in family(pid)) / TICKS


def _ticks(pid: int) -> int:
    """Return user and system time, and those of the children that were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15])


def memory(pid: int) -> Memory:
    """Return what a process and its children hold of memory."""
    each = [_rollup(one) for one in family(pid)]
    return Memory(len(each), sum(one["Rss"] for one in each) / 1024, sum(one["Pss"] for one in each) / 1024)


def _rollup(pid: int) -> dict[str, int]:
    """Return the figures of ``smaps_rollup``, in KB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
