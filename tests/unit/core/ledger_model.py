"""A model of the ledger in plain Python: what its scripts must do, without how they do it.

Nothing here is counted or indexed: the counts of a job, its set of rows and its status follow from the rows. Times are
numbers of seconds that the test steps forward and back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

FINAL = {"succeeded", "failed", "parked", "cancelled"}
#: How often a message that lies in a backlog is left alone.
PATIENT_LOOKS = 9


@dataclass
class ModelRow:
    """A task that is to run."""

    job: str
    queue: str
    state: str = "sent"
    due: float | None = None
    attempt: int = 0
    deaths: int = 0
    holder: str = ""
    pool: str = ""
    #: how often the message was found in its queue since it was confirmed; 0: it is not confirmed
    looks: int = 0
    hurry: bool = False
    canvas: str | None = None
    #: the key of what its last holder has kept
    done: str = ""


@dataclass
class ModelJob:
    """A job, with the items that each stage has counted."""

    created: float
    deadline: float
    key: str = ""
    follow_ups: str = ""
    caller: str = ""
    priority: int = 0
    #: whether it waits for a place in its caller's share
    limited: bool = False
    #: None while it has not ended
    final: str | None = None
    started: bool = False
    #: how many items have been counted, and the sources of the failed ones
    counted: int = 0
    failed: set[str] = field(default_factory=set)


@dataclass
class LedgerModel:
    """Jobs, rows, locks and secrets of one Redis.

    Args:
        now: the time of its clock.
        handover, retention, limit: seconds, as the settings have them.
    """

    now: float
    handover: float
    retention: float
    limit: float
    lock_expiry: float
    secret_expiry: float
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    rows: dict[str, ModelRow] = field(default_factory=dict)
    #: dedupe key, lock -> job
    keys: dict[str, str] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    #: what the attempts have kept, by its key
    done: dict[str, set[int]] = field(default_factory=dict)
    #: job -> time of its end, until its follow-ups have started
    after: dict[str, float] = field(default_factory=dict)
    #: name of a key -> when it expires
    expires: dict[str, float] = field(default_factory=dict)
    backlog: set[str] = field(default_factory=set)
    #: caller -> most of its jobs that may have a place; no entry: any number
    limits: dict[str, int] = field(default_factory=dict)

    def step(self, seconds: float) -> None:
        """Set the clock, and forget what has expired."""
        self.now += seconds
        for name in [name for name, at in self.expires.items() if at <= self.now]:
            del self.expires[name]
            kind, _, rest = name.partition(":")
            held: dict[str, dict | set] = {"job": self.jobs, "row": self.rows, "key": self.keys, "gate": self.locks}
            if kind == "secret":
                self.secrets.discard(rest)
            elif name in self.done:
                del self.done[name]
            else:
                held[kind].pop(rest, None)

    def live(self, job: str) -> bool:
        """Return whether a job has not ended."""
        return job in self.jobs and self.jobs[job].final is None

    def rows_of(self, job: str, *states: str) -> dict[str, ModelRow]:
        """Return the rows of a job in these states, by default in any."""
        return {id_: row for id_, row in self.rows.items() if row.job == job and (not states or row.state in states)}

    def holds(self, row_id: str, holder: str) -> bool:
        """Return whether this holder works on the row."""
        row = self.rows.get(row_id)
        return row is not None and row.state == "run" and row.holder == holder

    def enqueue(
        self,
        job: str,
        key: str,
        row_id: str,
        queue: str,
        follow_ups: str,
        *,
        caller: str = "",
        limit: int | None = None,
        priority: int = 0,
    ) -> tuple[str, bool]:
        if key and self.keys.get(key) in self.jobs:
            return self.keys[key], False
        self.jobs[job] = made = ModelJob(self.now, self.now + self.limit, key, follow_ups, caller, priority)
        if key:
            self.keys[key] = job
            self.expires.pop(f"key:{key}", None)
        if not caller:
            self.put(job, [(row_id, queue, "sent")])
            return job, False
        if limit is None:
            self.limits.pop(caller, None)
        else:
            self.limits[caller] = limit
        row = self.rows[row_id] = ModelRow(job, queue, "limited", attempt=-1)
        made.limited = True
        self.admit(caller)
        if not made.limited:  # its message leaves now
            row.attempt, row.due = 0, self.now + self.handover
        return job, made.limited

    def admitted(self, caller: str) -> set[str]:
        """Return the jobs of a caller that have a place."""
        mine = {id_ for id_, one in self.jobs.items() if one.caller == caller and one.final is None}
        return {id_ for id_ in mine if not self.jobs[id_].limited}

    def limited(self, caller: str) -> dict[str, tuple[int, float]]:
        """Return those that wait for one, each with its urgency and age."""
        return {
            id_: (one.priority, one.created) for id_, one in self.jobs.items() if one.caller == caller and one.limited
        }

    def admit(self, caller: str) -> None:
        """Give places to the jobs of a caller: urgent ones first, then old ones."""
        most = self.limits.get(caller, math.inf)
        for _, job in sorted((place, job) for job, place in self.limited(caller).items()):
            if len(self.admitted(caller)) >= most:
                return
            self.jobs[job].limited = False
            self.jobs[job].deadline = self.now + self.limit
            for row in self.rows_of(job, "limited").values():
                row.state, row.looks, row.due = "sent", 0, self.now

    def put(self, job: str, rows: Iterable[tuple[str, str, str]]) -> None:
        for row_id, queue, state in rows:
            due = self.now + self.handover if state == "sent" else None
            self.rows.setdefault(row_id, ModelRow(job, queue, state, due))

    def take(self, row_id: str, attempt: int, holder: str, seconds: float, *, pool: str, done: str) -> ModelRow | None:
        row = self.rows.get(row_id)
        if row is None or row.attempt != attempt or row.state not in {"sent", "held"}:
            return None
        row.state, row.holder, row.pool, row.done, row.due = "run", holder, pool, done, self.now + seconds
        row.hurry = False  # the wake-up is in the answer
        self.jobs[row.job].started = True
        return row

    def renew(self, row_id: str, holder: str, seconds: float) -> bool:
        if held := self.holds(row_id, holder):
            self.rows[row_id].due = self.now + seconds
        return held

    def wait(self, row_id: str, holder: str, delay: float) -> bool:
        if held := self.holds(row_id, holder):
            row = self.rows[row_id]
            row.deaths = 0
            self._rest(row, 0 if row.hurry else delay)
        return held

    def wake(self, job: str) -> int:
        woken = self.rows_of(job, "wait", "run", "sent")
        for row in woken.values():
            row.hurry = True
            row.due = self.now if row.state == "wait" else row.due
        return len(woken)

    def stop(self, row_id: str, attempt: int, delay: float, *, died: bool) -> bool:
        row = self.rows.get(row_id)
        if row is None or row.state != "run" or row.attempt != attempt:
            return False
        row.deaths += died
        self._rest(row, delay)
        return True

    def _rest(self, row: ModelRow, delay: float) -> None:
        row.state, row.holder, row.due = "wait", "", self.now + delay

    def end(self, job: str, row_id: str, holder: str, rows: Iterable[tuple[str, str, str]], done: str) -> bool:
        if not self.holds(row_id, holder):
            if row_id not in self.rows and not self.live(job):
                self._drop(done)
            return False
        self.put(job, rows)
        self._drop(done)
        del self.rows[row_id]
        left = list(self.rows_of(job).values())
        if len(left) == 1 and left[0].state == "held":
            left[0].state, left[0].due = "sent", self.now + self.handover
        return True

    def _drop(self, done: str) -> None:
        self.done.pop(done, None)
        self.expires.pop(done, None)

    def split(self, row_id: str, holder: str, canvas: str, rows: Iterable[tuple[str, str, str]]) -> str | None:
        if not self.holds(row_id, holder):
            return None
        row = self.rows[row_id]
        if row.canvas is None:
            row.canvas = canvas
            self.put(row.job, rows)
        return row.canvas

    def claim(self, limit: int) -> Iterator[tuple[str, int, int, str]]:
        due = sorted((row.due, row_id) for row_id, row in self.rows.items() if row.due is not None)
        for row_id in [row_id for at, row_id in due if at <= self.now][:limit]:
            row = self.rows[row_id]
            row.due = self.now + self.handover
            if row.state == "sent" and 0 < row.looks <= PATIENT_LOOKS and row.queue in self.backlog:
                row.looks += 1
                continue
            if row.state == "run" and row.pool == "threads":
                row.queue = "cpu"
            elif row.state == "run":
                row.deaths += 1
            row.state, row.looks, row.attempt = "sent", 0, row.attempt + 1
            yield row_id, row.attempt, row.deaths, row.queue

    def confirm(self, row_id: str, attempt: int) -> None:
        row = self.rows.get(row_id)
        if row and row.state == "sent" and row.attempt == attempt:
            row.looks, row.due = 1, self.now + self.handover

    def record(self, row_id: str, holder: str, done: str, items: dict[int, str]) -> bool:
        """Keep items, position -> source of a failed one; those that are known already count no more."""
        if not self.holds(row_id, holder):
            return False
        job, known = self.jobs[self.rows[row_id].job], self.done.setdefault(done, set())
        new = items.keys() - known
        job.counted += len(new)
        job.failed |= {items[position] for position in new if items[position]}
        known |= new
        self.expires[done] = self.now + self.retention
        return True

    def end_job(self, job: str, status: str, row_id: str = "", holder: str = "") -> bool:
        if not self.live(job) or (row_id and not self.holds(row_id, holder)):
            return False
        ended = self.jobs[job]
        ended.final, ended.limited = status, False
        if ended.follow_ups:
            self.after[job] = self.now
        else:
            self.secrets.discard(job)
            self.expires.pop(f"secret:{job}", None)
        for mine, row in self.rows_of(job).items():
            if mine == row_id:
                row.state, row.holder, row.due = "parked", "", None
                self.expires[f"row:{mine}"] = self.now + self.retention
            else:
                self._drop(row.done)
                del self.rows[mine]
        self.expires[f"job:{job}"] = self.now + self.retention
        if ended.key:
            self.expires[f"key:{ended.key}"] = self.now + self.retention
        if ended.caller:
            self.admit(ended.caller)
        return True

    def unpark(self, job: str) -> int:
        if job not in self.jobs or self.jobs[job].final != "parked":
            return 0
        again, rows = self.jobs[job], self.rows_of(job)
        again.final, again.deadline = None, self.now + self.limit
        self.after.pop(job, None)
        for name in (f"job:{job}", f"key:{again.key}", *(f"row:{row_id}" for row_id in rows)):
            self.expires.pop(name, None)
        for row in rows.values():
            if row.canvas is not None:  # what its parts have counted went with them
                row.canvas = None
                again.counted, again.failed = 0, set()
            row.deaths = 0
            self._rest(row, 0)
        if again.caller:
            again.limited = True
            for row in rows.values():
                row.state, row.due = "limited", None
            self.admit(again.caller)
        return len(rows)

    def release_key(self, job: str, key: str) -> None:
        if self.keys.get(key) == job:
            del self.keys[key]
            self.expires.pop(f"key:{key}", None)
        if job in self.jobs and self.jobs[job].key == key:
            self.jobs[job].key = ""

    def acquire(self, name: str, job: str) -> str | None:
        holder = self.locks.get(name)
        if holder and holder != job and self.live(holder):
            return holder
        self.locks[name] = job
        self.expires[f"gate:{name}"] = self.now + self.lock_expiry
        return None

    def release(self, name: str, job: str) -> None:
        if self.locks.get(name) == job:
            del self.locks[name]
            del self.expires[f"gate:{name}"]
