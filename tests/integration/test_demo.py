from __future__ import annotations

import os
import re
import subprocess
import sys


def test_the_demo_ends_by_itself_and_shows_everything(tmp_path):
    env = os.environ | {"DATAFAB_HOME": str(tmp_path), "TMPDIR": str(tmp_path), "COLUMNS": "240"}
    done = subprocess.run(
        [sys.executable, "-m", "datafab", "demo"], env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "redis, broker, worker-io, ",
        "worker-cpu, worker-control, beat, webhook, flower",
        "siren (siren)",
        "the server answered 404 Not Found",
        "a web page (text/html) instead of data",
        "8 endpoints: 6 collected, 2 failed; analysed 5, 1 could not be analysed",
        "entreprises.csv  200 rows",
        "bornes.csv.gz  500 rows",
        "collect > analyse > index > push > publish, as one job",
        "311 bytes of that sha256",
        "5 rows, utf-8",
        "found by: communes, column:département",
        "5 rows in its datastore, code_commune (text), code_postal (text), latitude (numeric)",
        "which breaks no rule",
        "errored, 0 kept",
        "3 files' jobs; webhooks of link-proxy answered with [202",
        "a second pass: 1 file's job, for the file that has changed in the catalogue: 1 unchanged",
        "data/communes.csv, data/bornes.csv.gz: checks passed",
        "stored data COMMUNES: GENERATED",
        "edition 2026-01-01 to 2026-12-31, extent",
        "requested once each: uploads, tags, data, data, md5, close, executions, tags, launch; polled",
    ):
        assert said in done.stdout, done.stdout
    # Which others it saw, as that of a callback, is a matter of when it was asked.
    seen = re.search(r"saw the tasks ([\w, \n]+)\n\n", done.stdout)
    assert seen, done.stdout
    assert {"analyse", "check", "ckan_fetch", "publish", "remember", "report"} <= set(re.split(r",\s+", seen[1]))
    assert list(tmp_path.iterdir()) == []
