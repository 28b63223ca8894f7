"""Real files through ``datafab collect``: no crash, and a reason for each that is no table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from datafab.embedded import Cluster
from tests.integration.conftest import Run, printed
from tests.servers.http import Answer, Site

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
#: One that is larger is of a kind that is there already.
LARGEST = 500_000
TYPES = {".csv": "text/csv", ".json": "application/json", ".zip": "application/zip"}


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real files is not beside this clone")
@pytest.mark.timeout(600)
@pytest.mark.unmeasured
def test_real_files_of_all_kinds(datafab: Run, cluster: Cluster, tmp_path: Path):
    folders = [CORPUS / "tables", CORPUS / "collect"]
    # Each table by itself is analysed in tests/unit/analysis/test_detective.py; every third file goes all the way here.
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())[::3]
    files = [path for path in files if path.stat().st_size < LARGEST]
    answers = {
        f"/{number}/{path.name}": Answer(
            path.read_bytes(), content_type=TYPES.get(path.suffix, "application/octet-stream")
        )
        for number, path in enumerate(files)
    }
    with Site(answers) as site, (tmp_path / "endpoint.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["endpoint", "endpoint-url"])
        writer.writerows([["", site.url(path)] for path in answers])
        file.flush()
        (job,) = printed(datafab("collect", str(tmp_path / "endpoint.csv"), "--json", "--exit-zero", timeout=500))
    assert job["status"] == "succeeded"
    outcomes = ("ok", "skipped", "failed", "passed")
    assert {stage["stage"]: sum(stage.get(n, 0) for n in outcomes) for stage in job["progress"]} == dict.fromkeys(
        ("collect", "analyse", "index"), len(files)
    )
    assert job["counts"]["ok"] > len(files) / 2
    strange = {source: error for source, error in job["failures"].items() if error["type"] == "internal"}
    assert not strange
