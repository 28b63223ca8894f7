"""Flows of one's own on real workers: what datafab.toml says is what runs, and on whose schedule."""

from __future__ import annotations

import json
import os
import shelve
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import celery
import pytest
from celery.beat import ScheduleEntry
from celery.exceptions import Reject

from datafab.core.item import MAX_MESSAGE_BYTES
from datafab.core.job import JobStatus
from datafab.errors import FlowError
from datafab.flows import registry as flow_list
from datafab.flows.chains import STAGES
from datafab.settings import load
from tests.servers.celery import ROOT, Cluster, until
from tests.servers.redis import RedisServer
from tests.workers import one_more
from tests.workers.conftest import Bench
from workers.app import jobs, use
from workers.canvas import queue_of
from workers.schedule import TASK, cron, entries, install, schedule

#: An item's address is 13 or 14 characters long: http://host9/, http://host10/.
OWN = """
[[flow]]
name = "measured"
source = "numbers"
stages = ["measure", "work_io", "noop0"]
with = { n = 12 }
when = { work_io = "size > 13 or url = 'http://host3/'" }

[[flow]]
name = "measured-twice"
source = "measured"
with = { n = 2 }
when = { noop0 = "source = 'toy:1'" }

[[flow]]
name = "each-minute"
source = "numbers"
stages = ["noop0"]
schedule = "* * * * *"

[[flow]]
name = "each-year"
source = "measured"
schedule = "0 3 1 1 *"

[[flow]]
name = "hopeless"
source = "collect"
schedule = "0 3 1 1 *"
with = { endpoints = "absent.csv", collection = "c" }
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "datafab.toml").write_text(OWN, encoding="utf-8")
    environment = {"DATAFAB_CONFIG": str(folder / "datafab.toml"), "DATAFAB_TIMEZONE": "Europe/Paris"}
    with RedisServer(folder / "redis") as server:
        cluster = Cluster(server.url, folder, app="tests.workers.one_more", **environment)
        bench = Bench(cluster, server)
        use(bench.settings)
        try:
            for name in ("io", "control"):
                cluster.start(name)
            cluster.ready(one_more.app, "io", "control")
            yield bench
        finally:
            cluster.stop()
            flow_list.use(None)


def test_a_flow_of_ones_own_runs_with_its_conditions(own: Bench):
    job = own.run("measured")
    assert job.status == JobStatus.SUCCEEDED
    assert own.told(job.id, "end") == Counter(["toy:3", "toy:10", "toy:11"])
    assert [(stage.stage, stage.ok) for stage in job.progress] == [("measure", 12), ("work_io", 12), ("noop0", 12)]
    assert job.params == {"n": 12, "when": {"work_io": "size > 13 or url = 'http://host3/'"}}


def test_a_job_may_change_what_its_flow_says(own: Bench):
    job = own.run("measured-twice", when={"work_io": "size > 0"}, then=["noop1"])
    assert own.told(job.id, "end") == Counter(["toy:0", "toy:1"])
    assert [stage.stage for stage in job.progress] == ["measure", "work_io", "noop0", "noop1"]
    with pytest.raises(FlowError, match="condition 'size is 3'"):
        own.start("measured", when={"work_io": "size is 3"})


def test_messages_with_conditions_stay_small(own: Bench):
    own.cluster.parts["io"].kill()
    job = own.start("measured")
    until(lambda: own.redis.llen("datafab:1:io"), 10)
    (message,) = own.redis.lrange("datafab:1:io", 0, -1)  # the source's; routed there though its stage came late
    assert len(message) < MAX_MESSAGE_BYTES
    own.cluster.start("io")
    own.cluster.ready(one_more.app, "io")
    assert own.end(job).status == JobStatus.SUCCEEDED


def test_a_minute_is_one_job_whoever_asks_for_it(own: Bench):
    minute = datetime(2027, 3, 1, 5, 0, tzinfo=UTC).timestamp()
    for late in (0, 0.5, 59, 60):
        schedule.apply_async(("each-minute", minute + late))
    keys = "datafab:1:key:schedule:each-minute:2027-03-01T*"
    until(lambda: len(_scheduled(own, "each-minute")) >= 4, 20)
    assert sorted(own.redis.keys(keys)) == [keys.replace("*", "06:00"), keys.replace("*", "06:01")]
    mine = [job for job in jobs().newest(flow="each-minute") if "2027-03-01" in str(job.key)]
    assert len(mine) == 2
    assert {own.end(job.id).status for job in mine} == {JobStatus.SUCCEEDED}


def test_two_beats_are_harmless(own: Bench):
    for name in ("beat", "beat2"):
        _last_ran_long_ago(own.cluster.folder / f"{name}-schedule", "each-year")
        own.cluster.start(name)
    try:
        until(lambda: len(_scheduled(own, "each-year")) == 2, 30)
    finally:
        for name in ("beat", "beat2"):
            own.cluster.parts[name].stop()
    (job,) = jobs().newest(flow="each-year")
    assert job.key == f"schedule:each-year:{_year()}-01-01T03:00"
    assert own.end(job.id).counts.ok == 12
    assert sorted(line["created"] for line in _scheduled(own, "each-year")) == [False, True]


def test_a_scheduled_flow_that_cannot_run_is_in_the_log(own: Bench):
    schedule.apply_async(("hopeless", datetime.now(UTC).timestamp()))
    (line,) = until(lambda: [line for line in _lines(own) if line.get("flow") == "hopeless"], 20)
    assert (line["level"], line["field"]) == ("error", "endpoints")
    assert line["error"].endswith("absent.csv: no such file")
    assert not jobs().newest(flow="hopeless")


def test_without_redis_the_message_of_a_schedule_stays(own: Bench):
    try:
        use(load(own.cluster.env, redis_url="redis://127.0.0.1:9/0"))
        with pytest.raises(Reject) as raised:
            schedule.run("each-minute", 0)
        assert raised.value.requeue
    finally:
        use(own.settings)


def test_beat_runs_by_the_crontab_in_the_time_zone(own: Bench):
    before = one_more.app.conf.beat_schedule
    install()
    try:
        assert one_more.app.conf.beat_schedule.keys() - before.keys() == entries().keys()
    finally:
        one_more.app.conf.beat_schedule = before
    assert entries().keys() == {"schedule:each-minute", "schedule:each-year", "schedule:hopeless"}
    yearly = entries()["schedule:each-year"]["schedule"]
    yearly.app = one_more.app
    eve = datetime(2027, 1, 1, 1, 59, 59, tzinfo=UTC)  # 02:59:59 in Paris
    yearly.nowfun = lambda: eve
    due, seconds = yearly.is_due(datetime(2026, 12, 1, tzinfo=UTC))
    assert (due, round(seconds)) == (False, 1)


@pytest.mark.parametrize("part", ["worker", "beat"])
def test_a_process_with_a_bad_file_does_not_start(own: Bench, tmp_path: Path, part: str):
    file = tmp_path / "datafab.toml"
    file.write_text('[[flow]]\nname = "f"\nsource = "numbers"\nstages = ["noop0"]\nschedule = "61 * * * *"\n')
    arguments = ["-P", "solo"] if part == "worker" else ["-s", str(tmp_path / "beat"), "--pidfile="]
    done = subprocess.run(
        [sys.executable, "-m", "workers", "-A", "tests.workers.toys", part, *arguments],
        env={**os.environ, **own.cluster.env, "DATAFAB_CONFIG": str(file)},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert f"{file}:5: flow 'f', schedule: '61 * * * *': Invalid end range: 61 > 59." in done.stdout + done.stderr


def test_one_more_stage_is_a_file_and_a_line(own: Bench):
    code = """
import json
from tests.workers.one_more import app
from workers.canvas import queue_of
from datafab.cli.main import main
print(json.dumps(["datafab.measure" in app.tasks, queue_of("datafab.measure")]))
main(["flows", "list", "--json", "--stages"], standalone_mode=False)
main(["flows", "list", "--json"], standalone_mode=False)
main(["flows", "list"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **own.cluster.env, "COLUMNS": "200"}, cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    task, *lines = [json.loads(line) for line in done.stdout.splitlines() if line[0] in "[{"]
    assert task == [True, "io"]
    (stage,) = [line for line in lines if line["name"] == "measure"]
    assert stage["title"] == "Say how long an item's address is."
    assert (stage["requires"], stage["provides"], stage["source"]) == (["url"], ["size"], False)
    (flow,) = [line for line in lines if line["name"] == "measured"]
    assert flow["stages"] == ["measure", "work_io", "noop0"]
    assert "numbers > measure > work_io > noop0" in done.stdout
    assert "0 3 1 1 * (Europe/Paris)" in done.stdout
    assert "│ measure" in done.stdout


def test_a_stage_that_comes_after_the_workers_has_its_queue(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(STAGES, "late", replace(STAGES["measure"], name="late", queue="cpu"))
    assert [queue_of(f"datafab.{name}") for name in ("late", "measure", "tick")] == ["cpu", "io", "control"]


def _lines(own: Bench) -> list[dict]:
    text = own.cluster.parts["control"].log.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def _scheduled(own: Bench, flow: str) -> list[dict]:
    return [line for line in _lines(own) if line["event"] == "scheduled" and line["flow"] == flow]


def _year() -> int:
    return datetime.now(UTC).year


def _last_ran_long_ago(file: Path, flow: str) -> None:
    """Write what a beat keeps on disk, so that the flow is due when it starts."""
    entry = ScheduleEntry(
        name=f"schedule:{flow}",
        task=TASK,
        last_run_at=datetime(2020, 6, 1, tzinfo=UTC),
        schedule=cron("0 3 1 1 *"),
        args=(flow,),
        app=one_more.app,
    )
    with shelve.open(str(file)) as kept:  # noqa: S301 - our own
        kept["entries"] = {entry.name: entry}
        kept.update({"__version__": celery.__version__, "tz": "Europe/Paris", "utc_enabled": True})
