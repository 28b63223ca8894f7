"""The tables of a collection follow the job that collected into it, on real workers."""

from __future__ import annotations

import csv
from pathlib import Path

from datafab.collect.endpoint import endpoint_hash
from tests.servers.celery import until
from tests.workers.conftest import Bench
from workers.app import jobs


def test_tables_follow_a_job_that_asks_for_them(bench: Bench, tmp_path: Path):
    # No server listens on port 1.
    urls = [f"http://127.0.0.1:1/{number}.csv" for number in range(3)]
    file = tmp_path / "endpoint.csv"
    file.write_text("\n".join(["endpoint,endpoint-url", *(f",{url}" for url in urls), ""]))
    params = {"endpoints": str(file), "collection": str(tmp_path), "then": []}
    silent = bench.run("collect", **params)
    assert silent.counts is not None
    assert silent.counts.failed == 3
    assert silent.status == "failed"
    assert not (tmp_path / "log.csv").exists()
    asked = bench.run("collect", **params, save_csv=True)
    (job,) = until(lambda: jobs().newest(flow="collection"), 30)
    assert job.params == {"of": asked.id}
    ended = bench.end(job.id)
    assert (ended.status, ended.counts and ended.counts.ok) == ("succeeded", 1)
    with (tmp_path / "log.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert sorted(row["endpoint"] for row in rows) == sorted(map(endpoint_hash, urls))
    assert {row["exception"] for row in rows} == {"ConnectionError"}
    assert (tmp_path / "resource.csv").read_bytes().count(b"\n") == 1
