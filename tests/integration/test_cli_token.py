"""``datafab token`` where no cluster runs, and ``datafab up`` for other hosts, which needs a token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from datafab.cli.main import main
from datafab.embedded import Cluster
from datafab.settings import load


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_tokens_are_made_before_the_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATAFAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DATAFAB_REDIS_URL", raising=False)
    said = run("up", "--bind", "0.0.0.0:8800", code=1)
    assert "`datafab token create NAME --role admin`" in said.replace("\n", " ")
    made = json.loads(run("token", "create", "ci", "--role", "operator", "--expires", "90d", "--limit", "2", "--json"))
    assert (made["name"], made["role"], made["limit"]) == ("ci", "operator", 2)
    assert made["expires"] == made["created"] + 90 * 86400
    with Cluster(load(), ("redis",)):  # the commands find the Redis of a running cluster
        text = run("token", "create", "ada", "--role", "admin").strip()
        listed = run("token", "list")
        assert all(word in listed for word in ("ci", "operator", "ada", "admin", made["id"]))
        assert text.rpartition("_")[2] not in listed + run("token", "list", "--json")
        assert "ci" in run("token", "revoke", made["id"])
        assert "datafab token list" in run("token", "revoke", "ci", code=1)
        assert "ada" in run("token", "create", "ada", "--role", "viewer", code=1)
        run("token", "create", "x", "--role", "viewer", "--expires", "9", code=2)
        run("token", "create", "x", "--role", "root", code=2)
        run("token", "create", "x", code=2)
        assert [json.loads(line)["name"] for line in run("token", "list", "--json").splitlines()] == ["ada"]
