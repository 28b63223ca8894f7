"""Names that others depend on may be added, but not lost: they are compared with those of the version before.

``public_names.json`` was written by ``public_names.py`` in a checkout of that version (commit 549bdd5).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BEFORE: dict[str, list[str]] = json.loads((HERE / "public_names.json").read_text(encoding="utf-8"))
#: kind -> name that was given up -> reason
EXCEPTIONS: dict[str, dict[str, str]] = {
    "fields": {
        f"schema {name}": "schemas are referred to within the description only: no request or answer has their names"
        for name in ("Hurried", "Told", "Woken", "webhook__answers__Pushed", "webhook__hydra__Pushed")
    }
}

Names = dict[str, list[str]]


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Names:
    """The present names; from a process of its own, because collecting them imports nearly everything."""
    done = subprocess.run(
        [sys.executable, str(HERE / "public_names.py")],
        env={
            "HOME": str(tmp_path_factory.mktemp("home")),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(HERE.parents[1]),
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Names = json.loads(done.stdout)
    return found


def lost(kind: str, before: Names, now: Names) -> set[str]:
    return set(before[kind]) - set(now[kind]) - EXCEPTIONS.get(kind, {}).keys()


@pytest.mark.parametrize("kind", sorted(BEFORE))
def test_no_public_name_is_lost(kind: str, now: Names):
    assert len(BEFORE[kind]) > 10
    assert not lost(kind, BEFORE, now)


@pytest.mark.parametrize("kind", sorted(BEFORE))
def test_a_name_that_is_taken_away_is_found(kind: str, now: Names):
    name = min(set(BEFORE[kind]) & set(now[kind]))
    assert lost(kind, BEFORE, now | {kind: [each for each in now[kind] if each != name]}) == {name}


def test_every_exception_is_still_one(now: Names):
    for kind, names in EXCEPTIONS.items():
        assert names.keys() <= set(BEFORE[kind]) - set(now[kind])
