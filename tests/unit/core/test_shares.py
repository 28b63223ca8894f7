"""Shares of callers on the ledger's scripts and a real Redis; with workers in ``tests/workers/test_shares.py``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.core.job import Job, JobStatus
from datafab.core.jobs import RedisJobs
from datafab.core.ledger import Ledger, NewRow
from datafab.core.metrics import ClusterMetrics
from datafab.core.redis import ClusterRedis, connect
from datafab.settings import load
from tests.servers.redis import RedisServer


class Queue:
    """The ledger without workers: what it sends is asked of it, as the tick does."""

    def __init__(self, url: str, home: Path) -> None:
        settings = load({}, redis_url=url, home=home)
        self.redis: ClusterRedis = connect(settings)
        self.jobs = RedisJobs(settings, self.redis)
        self.ledger = Ledger(settings, self.redis)

    def enqueue(self, job: str, caller: str | None, limit: int | None = 1, priority: int = 0) -> bool:
        """Enqueue a job; return whether its message is to be sent now."""
        now = time.time()
        made = Job(id=job, flow="collect", caller=caller, created=now, deadline=now + 60)
        row = NewRow(self.row(job), "{}", "io")
        return not self.ledger.enqueue(made, row, ["fetch"], limit=limit, priority=priority).limited

    def row(self, job: str) -> str:
        return f"datafab.fetch:{job}"

    def take(self, job: str, attempt: int = 0) -> bool:
        taken = {"seconds": 60, "pool": "prefork", "stage": "fetch"}
        self.lease = self.ledger.take(self.row(job), attempt, f"holder of {job}", **taken)
        return self.lease is not None

    def tick(self) -> list[tuple[str, int]]:
        """Return what a tick sends: jobs with the number of the attempt."""
        return [(row.row_id.partition(":")[2], row.attempt) for row in self.ledger.claim()]

    def end(self, job: str, status: JobStatus = JobStatus.SUCCEEDED) -> None:
        assert self.jobs.end(job, status)

    def key(self, name: str) -> str:
        return self.redis.prefix + name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def queue(server: RedisServer, tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(server.url, tmp_path)
    queue.redis.flushall()
    yield queue
    queue.redis.close()


def test_jobs_above_the_limit_wait_for_the_end_of_another(queue: Queue):
    assert [queue.enqueue(job, "a", 2) for job in "1234"] == [True, True, False, False]
    held = queue.jobs.get("3")
    assert (held.status, held.caller, held.doing) == ("queued", "a", "waits until another job of its caller has ended")
    assert queue.ledger.row_states("3") == {queue.row("3"): "limited"}
    assert not queue.take("3")  # not even by a message that nobody should have sent
    assert queue.tick() == []
    assert queue.take("2")
    queue.end("2")
    assert queue.tick() == [("3", 0)]  # its first attempt: it has never been sent
    assert queue.tick() == []
    assert queue.take("3")
    assert (queue.jobs.get("3").status, queue.jobs.get("3").doing) == ("running", None)


def test_other_callers_and_callers_without_a_limit_are_not_held_up(queue: Queue):
    for number in range(20):
        queue.enqueue(f"a{number}", "a", 1)
    assert queue.enqueue("b", "b", 1)
    assert queue.enqueue("c", None, None)
    assert all(queue.enqueue(f"d{number}", "d", None) for number in range(5))


def test_urgent_jobs_of_a_caller_go_first_then_the_oldest(queue: Queue):
    queue.enqueue("first", "a")
    for job, priority in (("old", 5), ("older", 9), ("urgent", 0), ("new", 5), ("urgent too", 0)):
        assert not queue.enqueue(job, "a", 1, priority)
    order, running = [], "first"
    while running:
        queue.end(running)
        running = next((job for job, _ in queue.tick()), "")
        order.append(running)
    assert order == ["urgent", "urgent too", "old", "new", "older", ""]


def test_every_kind_of_end_frees_a_place(queue: Queue):
    running = "0"
    queue.enqueue(running, "a")
    for number, status in enumerate(JobStatus, 1):
        if status not in {"succeeded", "failed", "cancelled", "parked"}:
            continue
        queue.enqueue(str(number), "a")
        assert queue.take(running)
        if status is JobStatus.PARKED:
            assert queue.jobs.end(running, status, park=queue.lease)
        else:
            queue.end(running, status)
        assert queue.tick() == [(str(number), 0)]
        running = str(number)


def test_a_dead_worker_frees_no_place(queue: Queue):
    queue.enqueue("1", "a")
    queue.enqueue("2", "a")
    assert queue.take("1")
    queue.ledger.count_death(queue.row("1"), 0, "killed")
    assert queue.tick() == [("1", 1)]
    assert queue.take("1", 1)
    queue.ledger.wait(queue.lease, 60, "a poll")
    assert queue.tick() == []


def test_a_job_that_waits_for_a_place_can_be_cancelled(queue: Queue):
    for job in "123":
        queue.enqueue(job, "a")
    queue.end("2", JobStatus.CANCELLED)
    queue.end("1")
    assert queue.tick() == [("3", 0)]


def test_a_parked_job_that_is_retried_needs_a_place_again(queue: Queue):
    for job in "12":
        queue.enqueue(job, "a")
    assert queue.take("1")
    queue.jobs.end("1", JobStatus.PARKED, park=queue.lease)
    assert queue.tick() == [("2", 0)]
    assert queue.ledger.unpark("1") == 1
    assert queue.tick() == []
    assert queue.jobs.get("1").status == "queued"
    queue.end("2")
    assert queue.tick() == [("1", 1)]
    assert queue.take("1", 1)


def test_the_time_that_a_job_may_take_begins_when_it_has_a_place(queue: Queue):
    for job in "12":
        queue.enqueue(job, "a")
    assert queue.redis.zscore(queue.key("deadlines"), "2") == float("inf")
    # A crowd that waits for places does not keep a catalogue's pass from enqueueing.
    assert (queue.jobs.count_unended(), queue.jobs.count_admitted()) == (2, 1)
    seconds, _ = queue.redis.time()
    queue.redis.hset(queue.key("job:2"), "created", seconds - 3600)  # enqueued an hour ago
    queue.end("1")
    assert seconds + 50 < queue.jobs.get("2").deadline == queue.redis.zscore(queue.key("deadlines"), "2")


def test_another_limit_counts_from_the_next_job_on(queue: Queue):
    for number in range(6):
        queue.enqueue(str(number), "a", 1)
    assert not queue.enqueue("6", "a", 3)  # two of the older ones have the new places
    assert queue.tick() == [("1", 0), ("2", 0)]
    assert queue.enqueue("7", "a", None)
    assert [job for job, _ in queue.tick()] == ["3", "4", "5", "6"]


def test_a_call_that_is_sent_twice_counts_once(queue: Queue):
    assert [queue.enqueue(job, "a") for job in "112233"] == [True, True, False, False, False, False]
    queue.end("1")
    assert queue.tick() == [("2", 0)]


def test_a_place_that_another_version_did_not_free_is_found_by_the_tick(queue: Queue):
    for job in "123":
        queue.enqueue(job, "a")
    queue.redis.hset(queue.key("job:1"), "status", "succeeded")  # it knows of no places
    assert queue.tick() == [("2", 0)]
    queue.redis.delete(queue.key("job:2"))
    assert queue.tick() == [("3", 0)]


def test_metrics_show_who_waits(queue: Queue):
    for number in range(4):
        queue.enqueue(f"a{number}", "a", 1)
        queue.enqueue(f"b{number}", "b", 2)
    found = ClusterMetrics(queue.redis).read()
    assert found.limited == {"a": 3, "b": 2}
    assert +found.rows == {"limited": 5, "sent": 3}
    assert found.jobs["queued", "collect"] == 8


def test_nothing_is_left_of_a_caller_whose_jobs_have_ended(queue: Queue):
    for number in range(4):
        queue.enqueue(str(number), "a")
    for number in range(4):
        queue.end(str(number))
        queue.tick()
    assert not queue.redis.exists(queue.key("running:a"), queue.key("limited:a"), queue.key("due"))
