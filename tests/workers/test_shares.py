"""Shares of callers on real workers that are killed: no job is lost, no place leaks, nobody is starved."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from datafab.core.caller import Caller
from datafab.core.job import Job, JobStatus
from datafab.core.roles import Role
from tests.servers.celery import until
from tests.workers.conftest import Bench
from workers.app import jobs
from workers.canvas import start


def enqueue(flow: str, name: str, limit: int | None, **params: object) -> str:
    job, created = start(flow, params, caller=Caller(name, Role.OPERATOR, limit))
    assert created
    return job.id


def most_at_once(ended: list[Job]) -> int:
    """Return how many of these jobs were running at the same time, at most."""
    moments = sorted([(job.started or 0, 1) for job in ended] + [(job.ended or 0, -1) for job in ended])
    running, most = 0, 0
    for _, change in moments:
        running += change
        most = max(most, running)
    return most


def nothing_is_held(bench: Bench, caller: str) -> bool:
    prefix = bench.settings.redis_prefix
    return not bench.redis.exists(f"{prefix}running:{caller}", f"{prefix}limited:{caller}")


def test_a_caller_with_many_jobs_leaves_room_for_another(bench: Bench):
    # Nine jobs of half a second would keep both children of `cpu` busy.
    crowd = [enqueue("long", "crowd", 1, seconds=0.5) for _ in range(9)]
    assert [jobs().get(job).status for job in crowd[1:]] == [JobStatus.QUEUED] * 8
    single = bench.end(enqueue("long", "single", None))
    ended = [bench.end(job, 60) for job in crowd]
    assert {job.status for job in ended} == {JobStatus.SUCCEEDED}
    assert sum((job.ended or 0) > (single.ended or 0) for job in ended) > 4
    assert most_at_once(ended) == 1
    assert [job.id for job in sorted(ended, key=lambda job: job.started or 0)] == crowd
    assert nothing_is_held(bench, "crowd")
    assert {job.id for job in jobs().newest(caller="crowd", limit=20)} == set(crowd)
    assert jobs().newest(caller="nobody") == []


def test_a_job_that_waits_for_a_place_holds_no_message(bench: Bench):
    first, second = (enqueue("long", "patient", 1, seconds=30 - 30 * n) for n in range(2))
    bench.until_told(first, "start")
    assert list(bench.ledger.row_states(second).values()) == ["limited"]
    prefix = bench.settings.redis_prefix
    messages = [message for queue in ("io", "cpu") for message in bench.redis.lrange(prefix + queue, 0, -1)]
    assert not any(second in message for message in [*messages, *bench.unacked()])
    assert jobs().end(first, JobStatus.CANCELLED)
    assert bench.end(second).status == JobStatus.SUCCEEDED


def test_places_survive_the_death_of_workers_at_any_moment(bench: Bench):
    made = [enqueue("killing", "killed", 2, kill=["toy:0"] * (n % 3 == 0), times=1 + n) for n in range(8)]
    poison = enqueue("killing", "killed", 2, kill=["toy:0"], times=99)
    for _ in range(3):
        until(lambda: sum(jobs().get(job).final for job in made) > 1, 30)
        for child in bench.cluster.parts["cpu"].children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        bench.cluster.parts["control"].kill()  # it ends jobs, and sends those that are due
        bench.cluster.start("control")
    ended = [bench.end(job, 120) for job in [*made, poison]]
    assert {job.status for job in ended} <= {JobStatus.SUCCEEDED, JobStatus.PARKED}
    assert ended[-1].status == JobStatus.PARKED
    assert most_at_once(ended) <= 2
    until(lambda: nothing_is_held(bench, "killed"), 10)
    assert bench.ledger.unpark(poison) == 1
    bench.end(poison, 60)
    assert nothing_is_held(bench, "killed")
