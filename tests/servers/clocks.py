"""Hosts whose clocks are wrong, by libfaketime: what the system says of the time of day differs, durations do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def clock_ahead(seconds: int) -> dict[str, str]:
    """Return the environment of a host whose clock is ahead by so many seconds; behind, where they are negative."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        message = "no libfaketime for hosts whose clocks differ: apt install faketime"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
