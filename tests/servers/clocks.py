"""A host whose clock is wrong: ``python -m tests.servers.clocks MODULE …`` is ``python -m MODULE …`` on one.

``time.time`` is off by the seconds in ``CLOCK_AHEAD``, in Celery too; durations and ``datetime.now`` are right.
"""

from __future__ import annotations

import os
import runpy
import sys
import time


def skew(seconds: float) -> None:
    """Put this process's clock ahead by so many seconds; behind, where they are negative."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + seconds
    time.time_ns = lambda: right_ns() + int(seconds * 1e9)


def clock_ahead(seconds: int) -> dict[str, str]:
    """Return the environment of a process whose clock is ahead by so many seconds."""
    return {"CLOCK_AHEAD": str(seconds)}


if __name__ == "__main__":
    skew(float(os.environ["CLOCK_AHEAD"]))
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
