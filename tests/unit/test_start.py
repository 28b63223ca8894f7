"""What a process imports before it does anything is what every user waits for: libraries that few need come later."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

DEAR = ("boto3", "csv_detective", "elasticsearch", "flask", "flower", "numpy", "openpyxl", "paho", "pandas", "pywcmp")


@pytest.mark.parametrize(
    ("imports", "needs"),
    [("datafab.cli.main", ()), ("workers.__main__, workers.tasks", ()), ("webhook", ("flask",))],
)
def test_what_few_need_is_imported_by_those(imports: str, needs: tuple[str, ...]):
    code = f"import sys, {imports}; print(*(set({DEAR}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, sorted(needs)), done.stderr


@pytest.mark.parametrize(
    ("command", "environ", "says"),
    [
        (("datafab", "--help"), {"DATAFAB_BATCH_SIZE": "many"}, "error: DATAFAB_BATCH_SIZE='many': "),
        (("datafab", "jobs", "list"), {"DATAFAB_REDIS_URL": "h:6379"}, "error: DATAFAB_REDIS_URL=(secret): "),
        (("datafab", "jobs", "list"), {"DATAFAB_REDIS_URL": "redis://127.0.0.1:1/0"}, "error: Redis does not answer"),
        (("workers", "worker", "-Q", "io", "-P", "solo"), {}, "Error: DATAFAB_REDIS_URL is not set"),
        (("workers", "beat", "--pidfile="), {}, "Error: DATAFAB_REDIS_URL is not set"),
    ],
)
def test_what_cannot_begin_ends_with_a_line_that_names_the_setting(command, environ, says, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]} | environ,
        capture_output=True,
        text=True,
        timeout=120,  # clients that have begun wait for half a minute
        check=False,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_beat_makes_the_folder_in_which_it_notes_what_it_has_sent(tmp_path):
    environ = {
        "PATH": os.environ["PATH"],
        "DATAFAB_HOME": str(tmp_path / "a" / "home"),
        "DATAFAB_REDIS_URL": "redis://h",
    }
    command = [sys.executable, "-m", "workers", "beat", "--help"]
    subprocess.run(command, env=environ, capture_output=True, timeout=60, check=True)
    assert (tmp_path / "a" / "home").is_dir()
