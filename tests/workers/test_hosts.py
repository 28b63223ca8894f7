"""Hosts that go, Redis that goes: rows 3 and 10 of the ledger's table of trials, with short leases.

A lease is 2 s here (8 s on the queue ``cpu``) and the visibility timeout 5 s.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from datafab.core.job import JobStatus
from tests.servers.celery import until
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers.app import jobs


def test_a_killed_host_costs_one_more_start_of_what_it_was_doing(bench: Bench):
    job = bench.start("pair", n=6, seconds=1)
    bench.until_told(job, "end", 6)  # all in `work_io` are done, so what starts now runs on `cpu`
    bench.until_told(job, "start", 8)
    bench.cluster.parts["cpu"].kill()
    before = bench.told(job, "start")
    bench.mend()
    ended = bench.end(job, 60)
    assert ended.counts
    assert ended.counts.ok == 6
    starts, ends = bench.told(job, "start"), bench.told(job, "end")
    assert ends == {f"toy:{n}": 2 for n in range(6)}
    assert before.total() <= starts.total() <= 12 + 2  # the two that were executing, once more each


def test_a_killed_host_of_threads_costs_no_deaths(bench: Bench):
    job = bench.start("long_io", n=8, seconds=3)
    bench.until_told(job, "start", 8)
    bench.cluster.parts["io"].kill()
    ended = bench.end(job, 60)  # nobody serves `io` now: each goes to `cpu`
    assert ended.counts
    assert ended.counts.ok == 8
    assert bench.told(job, "end") == {f"toy:{n}": 1 for n in range(8)}
    assert bench.told(job, "start") == {f"toy:{n}": 2 for n in range(8)}


def test_children_end_with_their_main_process(bench: Bench):
    job = bench.start("long", n=2, seconds=2)
    bench.until_told(job, "start", 2)
    part = bench.cluster.parts["cpu"]
    children = part.children()
    os.kill(part.pid, signal.SIGKILL)
    part.wait(5)
    until(lambda: not any(_runs(pid) for pid in children), 5)
    bench.mend()
    assert bench.end(job, 40).status == JobStatus.SUCCEEDED
    assert bench.told(job, "end") == {"toy:0": 1, "toy:1": 1}


def test_a_warm_stop_finishes_what_it_does(bench: Bench):
    job = bench.start("long", seconds=2)
    bench.until_told(job, "start")
    bench.cluster.parts["cpu"].stop()
    assert bench.told(job, "end") == {"toy:0": 1}
    assert bench.end(job).status == JobStatus.SUCCEEDED
    assert bench.told(job, "start") == {"toy:0": 1}


def test_a_rolling_restart_of_two_hosts_loses_nothing(bench: Bench):
    for part in ("io2", "cpu2"):
        bench.cluster.start(part)
    bench.cluster.ready(app, "io2", "cpu2")
    started = []
    for part in ("io", "cpu", "io2", "cpu2"):
        started.append(bench.start("pair", n=4, seconds=0.2))
        bench.until_told(started[-1], "end", 1)
        bench.cluster.parts[part].stop(60)
        bench.cluster.start(part)
        bench.cluster.ready(app, part)
    for job in started:
        ended = bench.end(job, 60)
        assert ended.status == JobStatus.SUCCEEDED
        assert ended.counts
        assert ended.counts.ok == 4
        assert bench.told(job, "end") == {f"toy:{n}": 2 for n in range(4)}  # once in each stage


@pytest.mark.parametrize(("flow", "part"), [("long", "cpu"), ("long_io", "io")])
def test_a_stop_ends_within_its_limit_and_counts_no_death(bench: Bench, flow: str, part: str):
    bench.cluster.parts[part].stop()
    bench.cluster.env["DATAFAB_STOP_LIMIT"] = "0.3"
    try:
        bench.cluster.start(part)
        bench.cluster.ready(app, part)
        job = bench.start(flow, seconds=6)
        bench.until_told(job, "start")
        bench.cluster.parts[part].stop(60)
        (row,) = bench.rows(job)
        assert (row["state"] in {"wait", "sent"}, row["deaths"], row["queue"]) == (True, "0", part)
        assert bench.told(job, "end") == {}
    finally:
        del bench.cluster.env["DATAFAB_STOP_LIMIT"]
    bench.mend()
    assert bench.end(job, 60).status == JobStatus.SUCCEEDED
    assert bench.told(job, "start") == {"toy:0": 2}


@pytest.mark.parametrize("part", ["io", "cpu"])
def test_a_stop_that_is_asked_for_many_times_at_once_is_one(bench: Bench, part: str):
    """A supervisor tells the group, and then the process: within Celery's handler a second one waited for ever."""
    process, end = bench.cluster.parts[part], time.monotonic() + 0.02
    while time.monotonic() < end:
        os.kill(process.pid, signal.SIGTERM)
    # The last signal may reach it when Python has given up its handlers.
    assert process.wait(20) in {0, -signal.SIGTERM}


def test_a_worker_does_not_take_up_what_it_has_given_back(bench: Bench):
    """Between the last that it does and its end others look for what is due."""
    job = bench.start("long_io", n=2, seconds=3)
    bench.until_told(job, "start", 2)
    pairs = [(row["rid"], int(row["fence"])) for row in bench.rows(job) if row["state"] == "run"]
    assert bench.ledger.give_back([*pairs, ("datafab.work_io:none", 0)]) == 2
    time.sleep(1)
    assert [row["state"] for row in bench.rows(job) if row["queue"] == "io"] == ["wait", "wait"]
    assert bench.told(job, "start").total() == 2
    assert bench.end(job, 60).status == JobStatus.SUCCEEDED
    assert bench.told(job, "end") == {"toy:0": 1, "toy:1": 1}


def test_a_stop_that_reaches_the_children_too_counts_no_death(bench: Bench):
    """As systemd stops a service, unless it is told to stop the main process only."""
    job = bench.start("long", seconds=2)
    bench.until_told(job, "start")
    part = bench.cluster.parts["cpu"]
    os.killpg(part.pid, signal.SIGTERM)
    part.wait(20)
    (row,) = bench.rows(job)
    assert (row["deaths"], row["queue"]) == ("0", "cpu")
    bench.mend()
    assert bench.end(job, 40).status == JobStatus.SUCCEEDED
    assert bench.told(job, "end") == {"toy:0": 1}


def test_a_cold_stop_resumes(bench: Bench):
    job = bench.start("long", seconds=2)
    bench.until_told(job, "start")
    part = bench.cluster.parts["cpu"]
    os.kill(part.pid, signal.SIGQUIT)
    part.wait(20)
    bench.mend()
    assert bench.end(job, 40).status == JobStatus.SUCCEEDED
    assert bench.told(job, "end") == {"toy:0": 1}


def test_what_a_dead_host_had_fetched_goes_to_another_at_the_visibility_timeout(bench: Bench):
    bench.cluster.start("cpu2")
    bench.cluster.ready(app, "cpu2")
    job = bench.start("long", n=12, seconds=1)
    bench.until_told(job, "start", 4)
    bench.cluster.parts["cpu2"].kill()
    ended = bench.end(job, 60)
    assert ended.counts
    assert ended.counts.ok == 12
    assert bench.told(job, "end") == {f"toy:{n}": 1 for n in range(12)}
    assert bench.told(job, "start").total() <= 14
    bench.settle()


def test_a_stopped_child_that_wakes_up_is_too_late(bench: Bench):
    job = bench.start("pair", seconds=1)
    bench.until_told(job, "start", 2)
    child = _busy_child(bench)
    os.kill(child, signal.SIGSTOP)
    try:
        ended = bench.end(job, 40)
    finally:
        os.kill(child, signal.SIGCONT)
    assert ended.status == JobStatus.SUCCEEDED
    bench.settle()
    assert bench.told(job, "end")["toy:0"] in {2, 3}  # the sleeper may reach its own end, which no longer counts
    assert bench.job(job).progress[-1].done == 1


def test_redis_killed_and_back_loses_nothing(bench: Bench):
    many = [bench.start("waiting", n=2, seconds=0.2) for _ in range(4)]
    bench.until_told(many[0], "start")
    bench.server.kill()
    time.sleep(3)
    bench.server.start()
    for job in many:
        ended = bench.end(job, 30)
        assert ended.counts
        assert ended.counts.ok == 2
        assert bench.told(job, "end") == {"toy:0": 2, "toy:1": 2}


def test_two_beats_are_harmless(bench: Bench):
    bench.cluster.start("beat2")
    try:
        job = bench.run("waiting", n=10, seconds=0.1)
    finally:
        bench.cluster.parts["beat2"].kill()
    assert bench.told(job.id, "look") == {f"toy:{n}": 6 for n in range(10)}
    assert bench.told(job.id, "end") == {f"toy:{n}": 2 for n in range(10)}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _busy_child(bench: Bench) -> int:
    """Return the child that works: the one that holds the only running row."""
    (rid,) = [rid for rid in bench.redis.keys("datafab:1:row:*") if bench.redis.hget(rid, "state") == "run"]
    return int(bench.redis.hget(rid, "by").split(":")[1])


def test_what_a_batch_has_kept_goes_with_its_job(bench: Bench):
    job = bench.start("waiting", n=3, delay=60)
    bench.until_told(job, "look", 3)
    until(lambda: bench.job(job).status == JobStatus.WAITING, 20)
    assert bench.redis.keys(f"datafab:1:job:{job}:done:*")
    assert jobs().end(job, JobStatus.CANCELLED)
    assert not bench.redis.keys(f"datafab:1:job:{job}:done:*")


def test_what_a_producer_has_kept_goes_when_it_has_split(bench: Bench):
    job = bench.run("long", n=2, note="numbers follow")
    assert not bench.redis.keys(f"datafab:1:job:{job.id}:done:*")
