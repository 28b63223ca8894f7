"""``datafab analyse`` as a user types it."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datafab.settings import child_environment, load
from tests.servers import nursery
from tests.servers.http import Answer, Site

TABLE = (
    "siret;commune;population;ouvert;depuis;part\n"
    "73282932000074;Lyon;522250;oui;29/02/2024;12,5\n"
    "35600000000048;Besançon;;non;13/03/2023;0,25\n"
)


def run(folder: Path, *arguments: str, code: int = 0, **settings: str) -> str:
    env = child_environment(load(home=folder)) | {"COLUMNS": "200", **settings}
    done = nursery.run("datafab", "analyse", *arguments, env=env)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "communes.csv"
    path.write_bytes(TABLE.encode("cp1252"))
    return path


def test_a_table_is_described_and_written_with_its_types(table: Path, tmp_path: Path):
    target = tmp_path / "communes.parquet"
    told = run(tmp_path, str(table), "--parquet", str(target))
    assert "2 rows, 6 columns, cp1252, separator ';'" in told
    assert "%d/%m/%Y: 29/02/2024, 13/03/2023" in told
    written = pq.read_table(target)
    assert {name: str(kind) for name, kind in zip(written.column_names, written.schema.types, strict=True)} == {
        "siret": "string",
        "commune": "string",
        "population": "int64",
        "ouvert": "bool",
        "depuis": "date32[day]",
        "part": "double",
    }
    assert written.to_pylist()[1] == {
        "siret": "35600000000048",
        "commune": "Besançon",
        "population": None,
        "ouvert": False,
        "depuis": date(2023, 3, 13),
        "part": 0.25,
    }


def test_what_is_at_a_url_is_analysed(tmp_path: Path):
    with Site({"/communes": Answer(body=TABLE.encode())}) as site:
        told = run(
            tmp_path, site.url("/communes"), "--json", "--mode", "sample", DATAFAB_ALLOW_PRIVATE_HOSTS="127.0.0.1/32"
        )
    found = json.loads(told)
    assert (found["mode"], found["total_lines"], found["formats"]["siret"]) == ("sample", 2, ["siret"])


def test_what_cannot_be_analysed_says_why(tmp_path: Path):
    (tmp_path / "page.csv").write_text("<html></html>", encoding="utf-8")
    assert "page.csv: is a web page" in run(tmp_path, str(tmp_path / "page.csv"), code=1)
    assert "no such file" in run(tmp_path, str(tmp_path / "absent.csv"), code=1)
    assert "not a usable address" in run(tmp_path, "http://[::1/a.csv", code=1)
