"""What a process imports before it does anything is what every user waits for: libraries that few need come later."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEAR = ("boto3", "csv_detective", "elasticsearch", "flask", "flower", "numpy", "openpyxl", "paho", "pandas", "pywcmp")


@pytest.mark.parametrize(
    ("imports", "needs"),
    [("datafab.cli", ()), ("workers.__main__, workers.tasks", ()), ("webhook", ("flask",))],
)
def test_what_few_need_is_imported_by_those(imports: str, needs: tuple[str, ...]):
    code = f"import sys, {imports}; print(*(set({DEAR}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, sorted(needs)), done.stderr
