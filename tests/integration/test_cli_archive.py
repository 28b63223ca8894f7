"""``datafab archive`` as a user has it, on the sandbox that ``datafab sandbox entrepot`` runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.settings import Settings, child_environment, load
from tests.servers import nursery


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """What `datafab sandbox entrepot` prints, in a home of its own."""
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [sys.executable, "-m", "datafab", "sandbox", "entrepot"],
        env=child_environment(load(home=home)) | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline().strip() for _ in range(8)]
        assert lines.pop() == "Ctrl-C stops it"
        environ = dict(line.split("=", 1) for line in lines)
        yield load(environ, home=home, lease=3, tick=0.2, poll_delay=0.2, cpu_processes=1)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def run(settings: Settings, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = nursery.run("datafab", "archive", *arguments, env=child_environment(settings) | {"COLUMNS": "200"})
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return done


def plan(folder: Path, name: str, *files: str) -> str:
    (folder / "CANTON.zip").write_bytes(b"PK canton")
    integration = {"name": name, "files": list(files), "output": {"name": f"{name}_archive"}}
    (folder / "plan.json").write_text(json.dumps({"integrations": [integration]}), encoding="utf-8")
    return str(folder / "plan.json")


@pytest.mark.parametrize("how", [[], ["--inline"]])
def test_a_plan_is_done(settings: Settings, tmp_path: Path, how: list[str]):
    (line,) = run(settings, "run", plan(tmp_path, f"canton{how}", "CANTON.zip"), "--json", *how).stdout.splitlines()
    job = json.loads(line)
    assert (job["status"], job["counts"]["ok"], job["failures"]) == ("succeeded", 1, {})
    assert [stage["stage"] for stage in job["progress"]] == ["deliver", "execute", "describe", "tidy"]


def test_what_fails_is_told_and_counts(settings: Settings, tmp_path: Path):
    assert run(settings, "run", plan(tmp_path, "once", "CANTON.zip"), "--inline").stdout.startswith("1 ok")
    changed = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))
    changed["integrations"][0]["name"] = "twice"
    (tmp_path / "plan.json").write_text(json.dumps(changed), encoding="utf-8")
    done = run(settings, "run", str(tmp_path / "plan.json"), "--inline", code=3)
    assert "stored data called 'once_archive' exist already" in done.stdout


def test_a_plan_that_is_no_good_says_where(settings: Settings, tmp_path: Path):
    done = run(settings, "run", plan(tmp_path, "absent", "absent.zip"), code=1)
    assert "absent.zip: No such file or directory" in done.stderr
    (tmp_path / "plan.json").write_text('{"integrations": [{"name": "x", "colour": 1}]}', encoding="utf-8")
    assert (
        "integrations, 'x', files: Field required" in run(settings, "run", str(tmp_path / "plan.json"), code=1).stderr
    )
