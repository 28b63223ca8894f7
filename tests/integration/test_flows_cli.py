"""``datafab flows`` and flows of one's own on the command line, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datafab.flows.parameters import SECRETS
from datafab.sandbox.portal import endpoint_csv, portal
from tests.integration.conftest import printed
from tests.servers import nursery

GOOD = """
[[flow]]
name = "csv-only"
source = "collect"
with = { collection = "collection", endpoints = "endpoint.csv" }
when = { index = "filename has '.csv' and formats has siren" }
"""
BAD = GOOD + '\n[[flow]]\nname = "collect"\nsource = "endpoints"\nstages = ["colect"]\n'


def datafab(*arguments: str, home: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("DATAFAB_")}
    given = {"DATAFAB_HOME": str(home), "DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1/32", "COLUMNS": "250"}
    done = nursery.run("datafab", *arguments, env=mine | given | environment)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return done


def test_check_explains_every_error_by_line(tmp_path: Path):
    file = tmp_path / "datafab.toml"
    file.write_text(BAD, encoding="utf-8")
    said = datafab("flows", "check", str(file), home=tmp_path, code=1).stderr.splitlines()
    assert [line.partition(": ")[0] for line in said] == [f"{file}:9", f"{file}:11"]
    assert "a built-in flow has this name" in said[0]
    assert "did you mean 'collect'?" in said[1]
    file.write_text(GOOD, encoding="utf-8")
    assert datafab("flows", "check", home=tmp_path, DATAFAB_CONFIG=str(file)).stdout == f"{file}: 1 flows, no errors\n"
    assert "set DATAFAB_CONFIG" in datafab("flows", "check", home=tmp_path, code=1).stderr


def test_check_refuses_a_flow_that_holds_a_secret(tmp_path: Path):
    file = tmp_path / "datafab.toml"
    names = [*sorted(SECRETS), "API-Key"]
    table = '[[flow]]\nname = "flow-{}"\nsource = "push"\n[flow.with]\nresource_id = "r"\n{} = "x"\n'
    text = "".join(table.format(number, name) for number, name in enumerate(names))
    file.write_text(text, encoding="utf-8")
    said = datafab("flows", "check", str(file), home=tmp_path, code=1).stderr.splitlines()
    assert [line.partition(": a secret ")[0] for line in said] == [
        f"{file}:{6 * number + 6}: flow 'flow-{number}', with.{name}" for number, name in enumerate(names)
    ]


@pytest.mark.parametrize("command", [["flows", "list"], ["up"], ["enqueue", "collect"]])
def test_a_bad_file_is_told_before_anything_is_done(tmp_path: Path, command: list[str]):
    file = tmp_path / "datafab.toml"
    file.write_text(BAD, encoding="utf-8")
    home = tmp_path / "home"
    said = datafab(*command, home=home, code=1, DATAFAB_CONFIG=str(file)).stderr
    assert f"{file}:9: flow 'collect', name" in said
    assert not home.exists()


def test_a_flow_of_ones_own_is_listed(tmp_path: Path):
    file = tmp_path / "datafab.toml"
    file.write_text(GOOD, encoding="utf-8")
    flows = printed(datafab("flows", "list", "--json", home=tmp_path, DATAFAB_CONFIG=str(file)))
    (own,) = [flow for flow in flows if "where" in flow]
    assert own == {
        "name": "csv-only",
        "title": "endpoints > collect > analyse > index",
        "source": "endpoints",
        "stages": ["collect"],
        "then": ["analyse", "index"],
        "requires": [],
        "on": "event",
        "with": {"collection": str(tmp_path / "collection"), "endpoints": str(tmp_path / "endpoint.csv")},
        "when": {"index": "filename has '.csv' and formats has siren"},
        "where": f"{file}:2",
    }
    said = datafab("flows", "list", home=tmp_path, DATAFAB_CONFIG=str(file)).stdout
    assert "index when filename has '.csv' and formats has siren" in said
    assert "Analyse a resource" in said


def test_a_condition_on_the_analysis_decides_what_is_indexed(tmp_path: Path):
    """On a cluster of this host, whose workers see DATAFAB_CONFIG too."""
    file = tmp_path / "datafab.toml"
    file.write_text(GOOD, encoding="utf-8")
    code = """
import json
from datafab import api
from datafab.embedded import CORE, Cluster
from datafab.settings import load
from workers import app as cluster
from workers import app
with Cluster(load(), CORE) as here:
    app.use(here.settings)
    job = api.enqueue("csv-only").wait(60)
    print(json.dumps([hit.title for hit in api.search("").hits]))
    print(json.dumps(job.dump()))
"""
    with portal() as url:
        (tmp_path / "endpoint.csv").write_text(endpoint_csv(url), encoding="utf-8")
        environment = {"DATAFAB_HOME": str(tmp_path / "home"), "DATAFAB_CONFIG": str(file)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment | {"DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1/32"},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    titles, job = map(json.loads, done.stdout.splitlines())
    assert titles == ["entreprises.csv"]
    assert [stage["stage"] for stage in job["progress"]] == ["collect", "analyse", "index"]
