"""Tests of pure logic start quickly: collecting them imports neither Celery nor Flask nor csv-detective."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: folders and files of ``tests/unit``
PURE = (
    "core",
    "analysis/test_dialect.py",
    "analysis/test_json_parser.py",
    "archive/test_integration.py",
    "catalogue/test_dataset.py",
    "catalogue/test_fetch_stages.py",
    "catalogue/test_resource_extras.py",
    "collect/test_csv_tables.py",
    "collect/test_endpoint.py",
    "collect/test_esri_json.py",
    "collect/test_history.py",
    "collect/test_host_backoff.py",
    "collect/test_sparql.py",
    "collect/test_stages.py",
    "collect/test_wfs.py",
    "fetch/test_hostile.py",
)
SCRIPT = """
import sys
import pytest
assert pytest.main(["--collect-only", "-qq", "-p", "no:xdist", *sys.argv[1:]]) == 0
print("imported:", *sorted({"celery", "kombu", "flask", "csv_detective"} & sys.modules.keys()))
"""


def test_pure_tests_are_collected_without_heavy_imports():
    paths = [str(ROOT / "tests" / "unit" / name) for name in PURE]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *paths], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].split() == ["imported:"], done.stdout.splitlines()[-1]
