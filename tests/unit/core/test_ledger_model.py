"""The ledger's scripts on a real Redis, against a model of them: whatever happens in whichever order, both agree.

Each step of a history is one call, often sent twice, as a client does whose answer got lost. Messages are never used
up: a copy of any that was ever sent may come again, and a holder that has lost its row may go on. ``make test`` takes
2,000 steps, ``make soak`` 200,000 (DATAFAB_MODEL_STEPS).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coverage_imports import unmeasured
from datafab.core import redis as scripts
from datafab.core.item import Item
from datafab.core.job import Job, JobStatus
from datafab.core.job_fields import Record
from datafab.core.jobs import PendingFollowUps, RedisJobs
from datafab.core.lease import Lease
from datafab.core.ledger import GIVE_BACK_SECONDS, Ledger, NewRow
from datafab.core.locks import LOCK_EXPIRY_SECONDS, RedisLocks
from datafab.core.redis import done_key
from datafab.core.secrets import RedisSecrets
from datafab.errors import Fatal
from datafab.settings import load
from tests.servers.redis import PREFIX, RedisServer
from tests.unit.core.ledger_model import FINAL, LedgerModel

STEPS = int(os.environ.get("DATAFAB_MODEL_STEPS", "2000"))
STEPS_OF_A_HISTORY = 50
#: where the tests' clock stands in Redis
CLOCK = "clock"
BEGIN = 1_700_000_000.0
DAY = 24 * 3600
#: Before a script: its TIME is the tests' clock. Everything that follows is the script as it is.
STEPPED = f"""
local real = redis
local redis = {{call = function(command, ...)
  if command ~= 'TIME' then return real.call(command, ...) end
  local at = tonumber(real.call('GET', '{CLOCK}'))
  return {{math.floor(at), (at - math.floor(at)) * 1000000}}
end}}
"""
#: All keys with their contents and milliseconds to live, in one step.
DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind, value = redis.call('TYPE', key).ok
  if kind == 'string' then value = redis.call('GET', key)
  elseif kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else value = redis.call('LLEN', key) end
  found[#found + 1] = {key, kind, value, redis.call('PTTL', key)}
end
return found
"""
#: Keys live in Redis's own time: a step of the clock brings their ends nearer, or farther away.
STEP = """
redis.call('SET', KEYS[1], ARGV[1])
for _, key in ipairs(redis.call('KEYS', ARGV[3] .. '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 and left <= ARGV[2] * 1000 then redis.call('DEL', key)
  elseif left >= 0 then redis.call('PEXPIRE', key, left - ARGV[2] * 1000) end
end
"""


class SteppedRedis(scripts.ClusterRedis):
    """A client of a Redis whose clock the test steps."""

    def time(self) -> tuple[int, int]:  # type: ignore[override]
        at = float(str(self.get(CLOCK)))
        return int(at), int(at % 1 * 1e6)


class Held(NamedTuple):
    """A lease that some attempt has, or had."""

    job: str
    lease: Lease
    depth: int
    number: str


class Clockwork:
    """The scripts of a Redis whose clock stands still until it is stepped."""

    def __init__(self, url: str) -> None:
        self.redis: Any = SteppedRedis.from_url(url, decode_responses=True)
        self.redis.prefix = PREFIX
        self.settings = load({"DATAFAB_REDIS_URL": url, "DATAFAB_LEASE": "2", "DATAFAB_HEARTBEAT": "0.5"}).model_copy(
            update={"job_deadline": 5000.0, "retention_days": 1}
        )
        self.ledger = Ledger(self.settings, self.redis)
        self.jobs = RedisJobs(self.settings, self.redis)
        self.locks = RedisLocks(self.redis)
        self.secrets = RedisSecrets(self.settings, self.redis)
        self._dump: Any = self.redis.register_script(DUMP)
        self._step: Any = self.redis.register_script(STEP)

    def set(self, at: float, seconds: float = 0) -> None:
        self._step(keys=[CLOCK], args=[repr(at), seconds, PREFIX])

    def everything(self) -> dict[str, tuple[Any, float | None]]:
        """Return what stands below the prefix: key -> (contents, seconds to live)."""
        found: dict[str, tuple[Any, float | None]] = {}
        for key, kind, value, ttl in self._dump(args=[PREFIX]):
            contents = dict(zip(value[::2], value[1::2], strict=True)) if kind in {"hash", "zset"} else value
            found[key.removeprefix(PREFIX)] = (contents, None if ttl < 0 else ttl / 1000)
        return found


@pytest.fixture(scope="module")
def clockwork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clockwork]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server, pytest.MonkeyPatch.context() as patch:
        preamble = scripts.preamble
        patch.setattr(scripts, "preamble", lambda prefix: STEPPED + preamble(prefix))
        yield Clockwork(server.url)


#: which of those that there are
which = st.integers(0, 999)
some_items = st.dictionaries(st.integers(0, 3), st.booleans(), min_size=1, max_size=3)
#: caller, limit, priority
shares = st.sampled_from([("", None, 0), ("a", 1, 0), ("a", 1, 5), ("a", 2, 0), ("a", None, 0), ("b", 2, 3)])
short = st.sampled_from([0.25, 1.0, 2.0, 30.0])


class Histories(RuleBasedStateMachine):
    """One history: calls in any order, by anybody."""

    real: Clockwork

    def __init__(self) -> None:
        super().__init__()
        self.real.redis.flushdb()
        self.real.set(BEGIN)
        settings = self.real.settings
        self.model = LedgerModel(
            BEGIN,
            handover=self.real.ledger.handover,
            retention=settings.retention_days * DAY,
            limit=settings.job_deadline,
            lock_expiry=LOCK_EXPIRY_SECONDS,
            secret_expiry=settings.job_deadline + 3600,
        )
        #: every row and every message that there ever was
        self.rows: dict[str, tuple[int, str]] = {}
        self.messages: list[tuple[str, int]] = []
        self.held: list[Held] = []
        self.job_ids: list[str] = []
        self.read: list[PendingFollowUps] = []
        self.attempts: Counter[str] = Counter()
        self.things = self.real.everything()

    def call(self, expected: Any, real: Callable[[], Any], *, again: bool = False) -> Any:
        """Compare an answer with the model's; ``again``: the client lost it, and sends its call a second time."""
        answer = real()
        assert answer == expected
        if again:
            real()
        return answer

    def new_row(self, depth: int, number: str, queue: str, state: str = "sent") -> NewRow:
        row = NewRow(f"datafab.s{depth}:{len(self.rows)}", "{}", queue, state)
        self.rows[row.row_id] = (depth, number)
        self.messages.append((row.row_id, 0))
        return row

    @initialize(first=st.lists(shares, min_size=1, max_size=4))
    def begin(self, first: list[tuple[str, int | None, int]]) -> None:
        for share in first:
            self.enqueue(key="", queue="io", follow_ups="", secret=False, share=share, again=False)

    @rule(
        key=st.sampled_from(["", "k1", "k2"]),
        queue=st.sampled_from(["io", "cpu"]),
        follow_ups=st.sampled_from(["", "f1,f2"]),
        secret=st.booleans(),
        share=shares,
        again=st.booleans(),
    )
    def enqueue(
        self, *, key: str, queue: str, follow_ups: str, secret: bool, share: tuple[str, int | None, int], again: bool
    ) -> None:
        now, (caller, limit, priority) = self.model.now, share
        deadline = now + self.model.limit
        job = Job(
            id=f"j{len(self.job_ids)}",
            flow="toy",
            key=key or None,
            caller=caller or None,
            created=now,
            deadline=deadline,
        )
        self.job_ids.append(job.id)
        if secret:
            self.real.secrets.put(job.id, {"api_key": "s"})
            self.model.secrets.add(job.id)
            self.model.expires[f"secret:{job.id}"] = now + self.model.secret_expiry
        row = self.new_row(0, "0", queue)
        options: Any = {"limit": limit, "priority": priority}
        known = self.model.enqueue(job.id, key, row.row_id, queue, follow_ups, caller=caller, **options)
        options |= {"follow_ups": follow_ups}
        self.call(known, lambda: self.real.ledger.enqueue(job, row, ["s0", "s1"], **options), again=again)

    @rule(message=which, seconds=short, pool=st.sampled_from(["threads", "prefork"]), again=st.booleans())
    def take(self, message: int, seconds: float, pool: str, again: bool) -> None:
        """Deliver a message: one of those that are on their way, or a copy of any other."""
        sent = [one for one in self.messages if self._counts(*one)]
        pick = sent if sent and message % 4 else self.messages
        row_id, attempt = pick[message % len(pick)]
        depth, number = self.rows[row_id]
        holder = f"h{len(self.held)}"
        before = self.model.rows.get(row_id)
        woken = bool(before and before.hurry)
        job = before.job if before else ""
        done = done_key(job, f"s{depth}", number)
        row = self.model.take(row_id, attempt, holder, seconds, pool=pool, done=done)

        def take() -> Lease | None:
            return self.real.ledger.take(
                row_id, attempt, holder, seconds=seconds, pool=pool, stage=f"s{depth}", done_key=done
            )

        expected = row and (row_id, attempt, holder, row.deaths, woken, self.model.jobs[job].created)
        for _ in range(1 + again):  # the wake-up is in the second answer too
            lease = take()
            found = lease and (lease.row_id, lease.attempt, lease.holder, lease.deaths, lease.woken, lease.job_created)
            assert found == expected
        if lease:
            self.held.append(Held(job, lease, depth, number))

    def _counts(self, row_id: str, attempt: int) -> bool:
        row = self.model.rows.get(row_id)
        return row is not None and row.state in {"sent", "held"} and row.attempt == attempt

    def holder(self, number: int, *, deepest: int = 99) -> Held:
        """Return a lease: mostly one that counts."""
        held = [one for one in self.held if one.depth <= deepest]
        live = [one for one in held if self.model.holds(one.lease.row_id, one.lease.holder)]
        pick = live if live and number % 4 else held
        return pick[number % len(pick)]

    @precondition(lambda self: self.held)
    @rule(numbers=st.lists(which, min_size=1, max_size=3), seconds=short, again=st.booleans())
    def renew(self, numbers: list[int], seconds: float, again: bool) -> None:
        leases = [self.holder(number).lease for number in numbers]
        lost = {one.holder for one in leases if not self.model.renew(one.row_id, one.holder, seconds)}
        self.call(lost, lambda: self.real.ledger.renew(leases, seconds), again=again)

    @precondition(lambda self: self.held)
    @rule(number=which, delay=st.sampled_from([0.0, 0.25, 30.0, 4000.0]), again=st.booleans())
    def wait(self, number: int, delay: float, again: bool) -> None:
        lease = self.holder(number).lease
        expected = self.model.wait(lease.row_id, lease.holder, delay)
        self.call(expected, lambda: self.real.ledger.wait(lease, delay, "not ready"), again=again)

    @rule(number=which, again=st.booleans())
    def wake(self, number: int, again: bool) -> None:
        job = self.job_ids[number % len(self.job_ids)]
        self.call(self.model.wake(job), lambda: self.real.ledger.wake(job), again=again)

    @precondition(lambda self: self.held)
    @rule(number=which, died=st.booleans(), again=st.booleans())
    def stop(self, number: int, died: bool, again: bool) -> None:
        """A worker's parent sees a child die, or gives back what the worker has not finished."""
        lease = self.holder(number).lease
        pair = (lease.row_id, lease.attempt)
        moved = self.model.stop(*pair, 0 if died else GIVE_BACK_SECONDS, died=died)
        if died:
            self.call(moved, lambda: self.real.ledger.count_death(*pair, "killed"), again=again)
        else:
            self.call(int(moved), lambda: self.real.ledger.give_back([pair]), again=again)

    @precondition(lambda self: self.held)
    @rule(number=which, successors=st.integers(0, 2), again=st.booleans())
    def end(self, number: int, successors: int, again: bool) -> None:
        held = self.holder(number)
        rows = [self.new_row(held.depth + 1, held.number, "io") for _ in range(min(successors, 1))]
        done = done_key(held.job, f"s{held.depth}", held.number)
        parts = [(row.row_id, row.queue, row.state) for row in rows]
        expected = self.model.end(held.job, held.lease.row_id, held.lease.holder, parts, done)
        self.call(expected, lambda: self.real.ledger.end(held.lease, rows, done_key=done), again=again)

    @precondition(lambda self: any(one.depth == 0 for one in self.held))
    @rule(number=which, parts=st.integers(1, 3), again=st.booleans())
    def split(self, number: int, parts: int, again: bool) -> None:
        held = self.holder(number, deepest=0)  # a job's first task: its parts do not split again
        rows = [self.new_row(9, f"{held.number}.join", "io", "held")]
        rows += [self.new_row(held.depth + 1, f"{held.number}.{part}", "cpu") for part in range(parts)]
        canvas = f"canvas{len(self.rows)}"
        made = [(row.row_id, row.queue, row.state) for row in rows]
        expected = self.model.split(held.lease.row_id, held.lease.holder, canvas, made)
        self.call(expected, lambda: self.real.ledger.split(held.lease, canvas, rows), again=again)

    @rule(limit=st.sampled_from([1, 2, 500]), confirmed=st.booleans())
    def claim(self, limit: int, confirmed: bool) -> None:
        """A tick: it may stop between claiming rows and sending or confirming them."""
        expected = list(self.model.claim(limit))
        claimed = self.real.ledger.claim(limit)
        assert [(row.row_id, row.attempt, row.deaths, row.queue) for row in claimed] == expected
        self.messages += [(row.row_id, row.attempt) for row in claimed]
        if confirmed:
            self.real.ledger.confirm([(row.row_id, row.attempt) for row in claimed])
            for row in claimed:
                self.model.confirm(row.row_id, row.attempt)

    @rule(message=which)
    def confirm(self, message: int) -> None:
        pair = self.messages[message % len(self.messages)]
        self.model.confirm(*pair)
        self.real.ledger.confirm([pair])

    @rule(queue=st.sampled_from(["io", "cpu"]))
    def backlog(self, queue: str) -> None:
        """The queue's list in Redis fills, or empties."""
        if queue in self.model.backlog:
            self.model.backlog.discard(queue)
            self.real.redis.delete(PREFIX + queue)
        else:
            self.model.backlog.add(queue)
            self.real.redis.lpush(PREFIX + queue, "a message")

    @precondition(lambda self: self.held)
    @rule(
        number=which,
        items=some_items,
        again=st.booleans(),
    )
    def record(self, number: int, items: dict[int, bool], again: bool) -> None:
        held = self.holder(number)
        stage = f"s{held.depth}"
        done = done_key(held.job, stage, held.number)
        sources = {position: f"{done}#{position}" if failed else "" for position, failed in items.items()}
        records = []
        for position, failed in items.items():
            item = Item(source=f"{done}#{position}")
            item = item.failed(Fatal("broken")) if failed else item
            records.append(Record(position, item, touched=True))
        expected = self.model.record(held.lease.row_id, held.lease.holder, done, sources)
        self.call(
            expected,
            lambda: self.real.jobs.record(held.job, stage, held.number, records, [], lease=held.lease),  # type: ignore[arg-type]
            again=again,
        )

    @precondition(lambda self: self.held)
    @rule(number=which)
    def note(self, number: int) -> None:
        held = self.holder(number)
        stage = f"s{held.depth}"
        done = done_key(held.job, stage, held.number)
        expected = self.model.record(held.lease.row_id, held.lease.holder, done, {})
        key: Any = (held.job, stage, held.number, 1)
        self.call(expected, lambda: self.real.jobs.save_notes(*key, {"looks": 1}, lease=held.lease))

    @precondition(lambda self: self.held)
    @rule(number=which, total=st.integers(1, 9))
    def progress(self, number: int, total: int) -> None:
        """What an attempt says of its job counts while it holds its row."""
        held = self.holder(number)
        before = self.real.redis.hgetall(f"{PREFIX}job:{held.job}")
        self.real.jobs.set_total(held.job, total, lease=held.lease)
        self.real.jobs.set_doing(held.job, f"{total} of 9", lease=held.lease)
        after = self.real.redis.hgetall(f"{PREFIX}job:{held.job}")
        counts = self.model.holds(held.lease.row_id, held.lease.holder)
        assert after == (before | {"total": str(total), "doing": f"{total} of 9"} if counts else before)

    @rule(number=which, status=st.sampled_from(["succeeded", "failed", "cancelled"]), again=st.booleans())
    def end_job(self, number: int, status: str, again: bool) -> None:
        """The report, a task that fails, or somebody who cancels."""
        job = self.job_ids[number % len(self.job_ids)]
        expected = self.model.end_job(job, status)
        self.call(expected, lambda: self.real.jobs.end(job, JobStatus(status)), again=again)

    @precondition(lambda self: self.held)
    @rule(number=which, again=st.booleans())
    def park(self, number: int, again: bool) -> None:
        held = self.holder(number)
        expected = self.model.end_job(held.job, "parked", held.lease.row_id, held.lease.holder)
        self.call(expected, lambda: self.real.jobs.end(held.job, JobStatus.PARKED, park=held.lease), again=again)

    @rule(number=which, again=st.booleans())
    def retry(self, number: int, again: bool) -> None:
        parked = [job for job in self.job_ids if job in self.model.jobs and self.model.jobs[job].final == "parked"]
        pick = parked if parked and number % 4 else self.job_ids
        job = pick[number % len(pick)]
        self.call(self.model.unpark(job), lambda: self.real.ledger.unpark(job), again=again)

    @rule()
    def sweep(self) -> None:
        """Fail what is past its deadline."""
        live = {job for job, one in self.model.jobs.items() if one.final is None and not one.limited}
        due = {job for job in live if self.model.jobs[job].deadline <= self.model.now}
        found = self.real.jobs.overdue()
        assert set(found) == {job for job in due if self.model.jobs[job].deadline <= math.floor(self.model.now)}
        for job in found:
            self.call(self.model.end_job(job, "failed"), lambda job=job: self.real.jobs.end(job, JobStatus.FAILED))

    @rule()
    def prune(self) -> None:
        self.real.jobs.prune()

    @rule(number=which, key=st.sampled_from(["k1", "k2"]), again=st.booleans())
    def release_key(self, number: int, key: str, again: bool) -> None:
        job = self.job_ids[number % len(self.job_ids)]
        self.model.release_key(job, key)
        self.call(None, lambda: self.real.jobs.release_key(job, key), again=again)

    @rule(number=which, name=st.sampled_from(["a", "b"]), again=st.booleans())
    def acquire(self, number: int, name: str, again: bool) -> None:
        job = self.job_ids[number % len(self.job_ids)]
        self.call(self.model.acquire(name, job), lambda: self.real.locks.acquire(name, job), again=again)

    @rule(number=which, name=st.sampled_from(["a", "b"]), again=st.booleans())
    def release(self, number: int, name: str, again: bool) -> None:
        job = self.job_ids[number % len(self.job_ids)]
        self.model.release(name, job)
        self.call(None, lambda: self.real.locks.release(name, job), again=again)

    @rule()
    def read_follow_ups(self) -> None:
        """A tick reads which jobs have ended; it may be slow to say that it has started what follows."""
        found = self.real.jobs.ended_with_follow_ups()
        assert {one.job: one.ended for one in found} == self.model.after
        assert all(one.flows == ["f1", "f2"] for one in found if one.job in self.model.jobs)
        self.read += found

    @precondition(lambda self: self.read)
    @rule(number=which)
    def mark_followed_up(self, number: int) -> None:
        ended = self.read[number % len(self.read)]
        if self.model.after.get(ended.job) == ended.ended:
            del self.model.after[ended.job]
        self.real.jobs.mark_followed_up(ended)

    @rule(seconds=st.sampled_from([0.25, 1.0, 3.0, 40.0, 900.0, 5000.0, -0.5, -2.0, -900.0]))
    def step(self, seconds: float) -> None:
        """Time passes, or Redis's host sets its clock."""
        self.model.step(seconds)
        self.real.set(self.model.now, seconds)

    @rule()
    def a_day(self) -> None:
        self.step(DAY + 1.0)

    @invariant()
    def agree(self) -> None:
        self.things = self.real.everything()
        self.the_model_agrees()
        self.each_row_is_due_or_held_and_belongs_to_a_live_job()
        self.keys_expire_when_they_should()

    def the_model_agrees(self) -> None:
        assert self._rows() == {
            row_id: (row.job, row.state, row.attempt, row.deaths, row.queue, row.hurry, row.due, row.canvas or "")
            for row_id, row in self.model.rows.items()
        }
        assert self._scores("deadlines") == {
            job: math.inf if one.limited else one.deadline for job, one in self.model.jobs.items() if one.final is None
        }
        self._shares_agree()
        assert self._scores("after") == self.model.after
        assert self._strings("key:") == self.model.keys
        assert self._strings("gate:") == self.model.locks
        assert {key.partition(":")[2] for key in self.things if key.startswith("secret:")} == self.model.secrets
        assert {key for key in self.things if ":done:" in key} == self.model.done.keys()
        for job, expected in self.model.jobs.items():
            self._job_agrees(job, expected)
        assert {key.partition(":")[2] for key in self.things if key.count(":") == 1 and key.startswith("job:")} == set(
            self.model.jobs
        )

    def _shares_agree(self) -> None:
        """No place is lost or given twice, and nobody waits for one that is free."""
        limits = self.things.get("limits", ({}, None))[0]
        assert {caller: int(limit) for caller, limit in limits.items()} == self.model.limits
        for caller in ("a", "b"):
            assert set(self.things.get(f"running:{caller}", ((), None))[0]) == self.model.admitted(caller)
            waiting = self.model.limited(caller)
            assert self._scores(f"limited:{caller}").keys() == waiting.keys()
            assert not waiting or len(self.model.admitted(caller)) >= self.model.limits[caller]

    def _job_agrees(self, job: str, expected: Any) -> None:
        fields = self.things[f"job:{job}"][0]
        busy, waits = (len(self.model.rows_of(job, state)) for state in ("run", "wait"))
        assert (int(fields["busy"]), int(fields["waits"])) == (busy, waits)
        assert (float(fields["created"]), float(fields["deadline"])) == (expected.created, expected.deadline)
        assert fields.get("key", "") == expected.key
        assert ("started" in fields) == expected.started
        assert sum(int(value) for name, value in fields.items() if name.startswith("n:")) == expected.counted
        assert set(self.things.get(f"job:{job}:failed", ({}, None))[0]) == expected.failed
        possible = {expected.final} if expected.final else {"running"} if busy else {"waiting"} if waits else None
        assert fields["status"] in (possible or {"queued", "running", "waiting"})
        assert ("span" in fields) == expected.limited
        lists = {key for key in self.things if key.startswith("list:") and job in self._scores(key)}
        mine = f"list:{fields['status']}:toy"
        assert lists == {mine, *([f"{mine}:{expected.caller}"] if expected.caller else [])}

    def each_row_is_due_or_held_and_belongs_to_a_live_job(self) -> None:
        """What must hold whatever the model says."""
        rows, due = self._rows(), self._scores("due")
        assert due.keys() <= rows.keys()
        members = {key.split(":")[1]: set(value[0]) for key, value in self.things.items() if key.endswith(":rows")}
        assert sorted(row_id for rows_of_job in members.values() for row_id in rows_of_job) == sorted(rows)
        for row_id, (job, state, attempt, *_) in rows.items():
            status = self.things[f"job:{job}"][0]["status"]
            assert (state == "parked") == (status in FINAL), row_id
            assert (row_id in due) == (state not in {"parked", "held", "limited"}), row_id
            assert status not in FINAL or status == "parked"
            assert state != "held" or len(members[job]) > 1
            assert state != "run" or self.things[f"row:{row_id}"][0]["by"]
            assert attempt >= self.attempts.get(row_id, -1)
            self.attempts[row_id] = attempt

    def keys_expire_when_they_should(self) -> None:
        for key, (_, ttl) in self.things.items():
            name = key
            if key.endswith((":log", ":failed", ":rows")):
                name = key.rpartition(":")[0]
            at = self.model.expires.get(name)
            assert (at is None) == (ttl is None), (key, ttl, at)
            assert at is None or abs(at - self.model.now - ttl) < 60, (key, ttl, at)

    def _rows(self) -> dict[str, tuple[Any, ...]]:
        due, found = self._scores("due"), {}
        for key, (row, _) in self.things.items():
            if key.startswith("row:"):
                row_id = key.removeprefix("row:")
                found[row_id] = (
                    *(row["job"], row["state"], int(row["fence"]), int(row["deaths"]), row["queue"]),
                    *("hurry" in row, due.get(row_id), row.get("next", "")),
                )
        return found

    def _scores(self, name: str) -> dict[str, float]:
        return {member: float(score) for member, score in self.things.get(name, ({}, None))[0].items()}

    def _strings(self, prefix: str) -> dict[str, str]:
        return {key.removeprefix(prefix): value for key, (value, _) in self.things.items() if key.startswith(prefix)}

    def teardown(self) -> None:
        """However it went: with time, messages and workers, every job can be worked off, and nothing is left."""
        for _ in range(60):
            if not any(self.model.live(job) for job in self.model.jobs):
                break
            self.step(5000.0)
            self.claim(500, confirmed=False)
            for row_id, row in list(self.model.rows.items()):
                if row.state == "sent":
                    lease = self.real.ledger.take(row_id, row.attempt, "last", seconds=9, pool="threads", stage="s")
                    assert lease, row_id
                    self.model.take(row_id, row.attempt, "last", 9, pool="threads", done="")
                    assert self.real.ledger.end(lease)
                    self.model.end(row.job, row_id, "last", [], "")
            for job in self.model.jobs:
                if self.model.live(job) and not self.model.rows_of(job):
                    assert self.real.jobs.end(job, JobStatus.SUCCEEDED)
                    self.model.end_job(job, "succeeded")
            self.agree()
        assert not any(self.model.live(job) for job in self.model.jobs)
        lasting = {"counts", "moved", "jobs", "flows", "callers", "limits", "after", "parked", *self.model.backlog}
        left = {key for key, (_, ttl) in self.real.everything().items() if ttl is None and not key.startswith("list:")}
        assert left <= lasting


def test_every_history_agrees_with_the_model(clockwork: Clockwork):
    histories = type("Histories", (Histories,), {"real": clockwork})
    # What the scripts are called by is measured in other tests.
    unmeasured(run_state_machine_as_test)(
        histories,
        settings=hypothesis_settings(
            max_examples=max(1, STEPS // STEPS_OF_A_HISTORY),
            stateful_step_count=STEPS_OF_A_HISTORY,
            report_multiple_bugs=False,
        ),
    )
