"""What the ledger's scripts do where two callers meet: each found by the model of ``test_ledger_model.py``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from datafab.core.item import Item
from datafab.core.job import Job, JobStatus
from datafab.core.job_fields import Record
from datafab.core.jobs import RedisJobs
from datafab.core.lease import Lease
from datafab.core.ledger import Ledger, NewRow
from datafab.core.redis import connect, done_key
from datafab.errors import Fatal
from datafab.settings import load
from tests.servers.redis import PREFIX, RedisServer

RECORDS = [Record(0, Item(source="toy:0").failed(Fatal("broken")), touched=True)]


class Caller:
    """Jobs and ledger of one Redis."""

    def __init__(self, url: str) -> None:
        settings = load({"DATAFAB_REDIS_URL": url})
        self.redis: Any = connect(settings)
        self.ledger = Ledger(settings, self.redis)
        self.jobs = RedisJobs(settings, self.redis)

    def enqueue(self, job: str, *, key: str | None = None, follow_ups: str = "") -> str:
        made = Job(id=job, flow="toy", key=key, created=0, deadline=9)
        row = NewRow(f"datafab.source:{job}", "{}", "io")
        return self.ledger.enqueue(made, row, ["first"], follow_ups=follow_ups).job

    def take(self, row_id: str, attempt: int = 0, holder: str = "a") -> Lease:
        lease = self.ledger.take(row_id, attempt, holder, seconds=9, pool="prefork", stage="first")
        assert lease
        return lease

    def park(self, job: str, holder: str = "a", attempt: int = 0) -> None:
        lease = self.take(f"datafab.source:{job}", attempt, holder)
        assert self.jobs.end(job, JobStatus.PARKED, park=lease)

    def unpark(self, job: str) -> int:
        """Retry a parked job; return the number of its next attempt."""
        assert self.ledger.unpark(job) == 1
        (claimed,) = self.ledger.claim()
        return claimed.attempt


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def caller(server: RedisServer) -> Caller:
    mine = Caller(server.url)
    mine.redis.flushdb()
    return mine


def test_a_wake_up_is_told_again_to_a_client_that_lost_the_answer(caller: Caller):
    caller.enqueue("j")
    assert caller.ledger.wake("j") == 1
    assert [caller.take("datafab.source:j").woken for _ in range(2)] == [True, True]
    assert caller.ledger.wait(caller.take("datafab.source:j"), 0, "not ready")
    (claimed,) = caller.ledger.claim()
    assert not caller.take("datafab.source:j", claimed.attempt, "b").woken


def test_a_key_that_two_callers_release_at_once_stays_with_the_job_that_has_it_since(caller: Caller):
    """Both have seen that its job has ended, and enqueue another one each: that must be the same."""
    caller.enqueue("old", key="k")
    assert caller.jobs.end("old", JobStatus.SUCCEEDED)
    enqueued = []
    for job in ("new", "newer"):
        caller.jobs.release_key("old", "k")
        enqueued.append(caller.enqueue(job, key="k"))
    assert enqueued == ["new", "new"]
    assert caller.jobs.get("old").key is None


def test_a_key_of_a_parked_job_that_runs_again_lasts(caller: Caller):
    caller.enqueue("j", key="k")
    caller.park("j")
    assert caller.redis.ttl(f"{PREFIX}key:k") > 0
    caller.unpark("j")
    assert caller.redis.ttl(f"{PREFIX}key:k") == -1


def test_what_follows_a_job_that_is_retried_waits_for_its_next_end(caller: Caller):
    caller.enqueue("j", follow_ups="after")
    caller.park("j")
    caller.unpark("j")
    assert caller.jobs.ended_with_follow_ups() == []


def test_a_late_tick_does_not_take_the_follow_ups_of_a_later_end(caller: Caller):
    caller.enqueue("j", follow_ups="after")
    caller.park("j")
    (first,) = caller.jobs.ended_with_follow_ups()
    caller.unpark("j")
    assert caller.jobs.end("j", JobStatus.CANCELLED)
    caller.jobs.mark_followed_up(first)
    (second,) = caller.jobs.ended_with_follow_ups()
    assert (second.job, second.flows) == ("j", ["after"])
    assert second.key != first.key
    caller.jobs.mark_followed_up(second)
    assert caller.jobs.ended_with_follow_ups() == []


def test_an_attempt_that_has_lost_its_row_says_nothing_more_of_its_job(caller: Caller):
    caller.enqueue("j")
    lease = caller.take("datafab.source:j")
    caller.jobs.set_total("j", 3, lease=lease)
    caller.jobs.set_doing("j", "1 of 3 MB", lease=lease)
    assert caller.jobs.end("j", JobStatus.CANCELLED)
    caller.jobs.set_total("j", 4, lease=lease)
    caller.jobs.set_doing("j", "2 of 3 MB", lease=lease)
    ended = caller.jobs.get("j")
    assert (ended.total, ended.doing) == (3, None)
    caller.redis.delete(f"{PREFIX}job:j")  # past its retention
    caller.jobs.set_doing("j", "3 of 3 MB")
    assert not caller.redis.exists(f"{PREFIX}job:j")


class TestASecondSplit:
    """A producer that died after its split, was parked, and splits again: the parts have other rows."""

    @pytest.fixture
    def parts(self, caller: Caller) -> tuple[Lease, Lease]:
        """The leases on the same part of the first and of the second split."""
        caller.enqueue("j")
        producer = caller.take("datafab.source:j")
        assert caller.ledger.split(producer, "first", [NewRow("datafab.first:1", "{}", "io")]) == "first"
        stale = caller.take("datafab.first:1", holder="b")
        assert caller.jobs.record("j", "first", 0, RECORDS, [], lease=stale)
        assert caller.jobs.end("j", JobStatus.PARKED, park=producer)
        again = caller.take("datafab.source:j", caller.unpark("j"), "c")
        assert caller.jobs.failures("j") == {}
        assert caller.ledger.split(again, "second", [NewRow("datafab.first:2", "{}", "io")]) == "second"
        live = caller.take("datafab.first:2", holder="d")
        assert caller.jobs.record("j", "first", 0, RECORDS, [], lease=live)
        return stale, live

    def test_a_stale_part_deletes_nothing_of_it(self, caller: Caller, parts: tuple[Lease, Lease]):
        key = done_key("j", "first", 0)
        assert not caller.ledger.end(parts[0], done_key=key)
        assert set(caller.jobs.done("j", "first", 0)) == {0}
        assert caller.ledger.end(parts[1], done_key=key)
        assert caller.jobs.done("j", "first", 0) == {}

    def test_a_stale_part_deletes_what_a_job_that_has_ended_had_kept(self, caller: Caller, parts: tuple[Lease, Lease]):
        assert caller.jobs.end("j", JobStatus.CANCELLED)
        caller.redis.hset(PREFIX + done_key("j", "first", 0), "0", "kept late")
        assert not caller.ledger.end(parts[1], done_key=done_key("j", "first", 0))
        assert caller.jobs.done("j", "first", 0) == {}
