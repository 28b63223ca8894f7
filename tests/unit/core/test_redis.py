"""The Lua scripts: each file is used, and each key and constant is spelled in one place."""

from __future__ import annotations

import ast
import re
import socket
from contextlib import closing, suppress
from pathlib import Path

import pytest

from datafab.core import redis
from datafab.core.job import JobStatus
from datafab.core.lease import Lease
from datafab.settings import load

ROOT = Path(redis.__file__).parents[1]
SCRIPTS = sorted((ROOT / "core" / "scripts").glob("*.lua"))
CODE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "core").glob("*.py")))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_used_and_says_what_it_does(path: Path):
    assert f'"{path.stem}"' in CODE
    assert path.read_text(encoding="utf-8").startswith("-- ")


def test_a_row_and_what_is_done_are_spelled_in_one_place():
    texts = {path.name: path.read_text(encoding="utf-8") for path in SCRIPTS}
    assert [name for name, text in texts.items() if "'row:'" in text] == ["rows.lua"]
    assert not [name for name, text in texts.items() if re.search(r"':?done:'", text)]
    spelled = [path.name for path in ROOT.rglob("*.py") if re.search(r":done:\{|prefix\}row:", path.read_text("utf-8"))]
    assert spelled == ["redis.py"]


def test_the_prefix_of_keys_is_spelled_by_the_settings_alone():
    spelled = {
        (path.name, node.value)
        for folder in ("datafab", "workers", "webhook")
        for path in (ROOT.parent / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and re.match(r"datafab:(\d|$)", str(node.value))
    }
    assert spelled == set()
    assert redis.preamble("x:1:").startswith("local PREFIX = 'x:1:'\n")
    assert load(key_prefix="x").redis_prefix == "x:1:"


def test_scripts_know_the_final_states_of_jobs():
    final = re.search(r"FINAL = \{(.*)\}", redis.preamble("x:1:"))
    assert final
    assert {part.partition(" ")[0] for part in final[1].split(", ")} == {
        JobStatus.SUCCEEDED,
        JobStatus.FAILED,
        JobStatus.PARKED,
        JobStatus.CANCELLED,
    }


def test_what_an_attempt_is_comes_from_its_lease():
    first = Lease(row_id="t:1", holder="a")
    assert (first.is_retry, first.after_crash) == (False, False)
    assert (first.next().is_retry, first.next().after_crash) == (True, False)
    assert Lease(attempt=2, deaths=1).after_crash


def test_the_tries_of_a_command_and_of_its_connection_do_not_multiply():
    """Else each request over HTTP would wait nine times as long for a Redis that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        settings = load({}, redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        with closing(redis.connect(settings)) as client, pytest.raises(redis.CONNECTION_ERRORS):
            client.ping()
        tries = 0
        with suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                tries += 1
    assert tries == 3
