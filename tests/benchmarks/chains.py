"""Chains of five no-op tasks: our stages under the ledger, bare Celery tasks, and what lies between."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

from celery import chain
from celery.canvas import Signature

from datafab.core.item import Batch, Item
from datafab.core.job import Job
from datafab.flows.chains import STAGES
from tests.benchmarks.app import BARE, KEPT, STEPS, app
from tests.benchmarks.rig import Rig
from tests.servers.celery import Process, until
from tests.servers.redis import PREFIX
from workers.app import ledger
from workers.canvas import batch_tasks, new_rows, start

#: key prefix of Celery's results, and so the name of the channel that tells that a result is there
RESULTS = f"{PREFIX}celery-task-meta-"
NAMES = [f"noop{number}" for number in range(STEPS)]


def batch() -> Batch:
    """Return the payload of every chain."""
    item = Item(source="toy:0", url="http://host0/")
    return Batch(job=uuid.uuid4().hex, flow="noop5", params={"n": 1}, items=(item,))


def bare() -> str:
    """Send a bare chain of Celery; return the id of its last task."""
    sig = _plain(BARE, batch())
    last: str = sig.freeze().id
    sig.apply_async()
    return last


def kept() -> str:
    """Send the same chain under the ledger; return the id of its last task."""
    mine = batch()
    return _send(_plain(KEPT, mine), mine)


def stages() -> str:
    """Send the same chain of stages, as a fan-out's branch; return the id of its last task."""
    mine = batch()
    return _send(chain(*batch_tasks(mine, [STAGES[name] for name in NAMES], last=True)), mine)


def job() -> str:
    """Enqueue a whole job: a source, five stages, the report; return its id."""
    made, _ = start("noop5", {"n": 1})
    return made.id


def _plain(name: str, mine: Batch) -> Signature:
    first, *others = (app.signature(f"{name}{number}") for number in range(STEPS))
    others[-1].set(ignore_result=False)
    return chain(first.clone(args=(mine.dump(),)), *others)


def _send(sig: Signature, mine: Batch) -> str:
    """Publish a chain, its job and first row before it, as ``workers.canvas.start`` does with a source."""
    last: str = sig.freeze().id
    now = time.time()
    made = Job(id=mine.job, flow=mine.flow, params=mine.params, created=now, deadline=now + 3600)
    (row,) = new_rows(sig)
    ledger().enqueue(made, row, NAMES)
    sig.apply_async()
    ledger().confirm([(row.row_id, 0)])
    return last


class Ends:
    """Hears when chains end: Celery publishes the result of a last task, a bare one's and ours alike."""

    def __init__(self, rig: Rig) -> None:
        self._redis = rig.redis
        self._heard = rig.redis.pubsub(ignore_subscribe_messages=True)
        self._heard.psubscribe(f"{RESULTS}*")
        self._heard.get_message(timeout=5, ignore_subscribe_messages=False)

    def chains(self, ids: set[str]) -> None:
        """Wait until all of these have ended."""
        waiting = set(ids)
        while waiting:
            message = self._heard.get_message(timeout=30)
            assert message, f"{len(waiting)} chains did not end"
            waiting.discard(message["channel"].removeprefix(RESULTS))

    def jobs(self, ids: set[str]) -> None:
        """Wait until all of these have ended."""
        every = 0.0005 if len(ids) == 1 else 0.02
        for one in ids:
            until(lambda one=one: self._redis.zscore(f"{PREFIX}deadlines", one) is None, 60, every)

    def close(self) -> None:
        """Hear no more."""
        self._heard.close()


@dataclass(frozen=True)
class Kind:
    """A kind of chain.

    Attributes:
        send: sends one; returns what ``hear`` knows it by.
        hear: waits until such have ended.
        tasks: how many it has.
        weight: its share of those that are sent at once.
    """

    name: str
    send: Callable[[], str]
    hear: Callable[[Ends, set[str]], None]
    tasks: int = STEPS
    weight: float = 1.0


KINDS = (
    Kind("bare", bare, Ends.chains),
    Kind("stages", stages, Ends.chains),
    Kind("kept", kept, Ends.chains, weight=0.4),
    Kind("job", job, Ends.jobs, STEPS + 2, weight=0.4),
)


@dataclass
class Figures:
    """What was measured of one kind of chain, a value for each time."""

    #: how many are sent at once
    sent: int
    #: seconds from sending one to its end
    latencies: list[float] = field(default_factory=list)
    #: chains a second
    rates: list[float] = field(default_factory=list)
    #: CPU seconds a task, of the workers and of Redis
    worker: list[float] = field(default_factory=list)
    redis: list[float] = field(default_factory=list)

    @property
    def latency(self) -> float:
        """The median."""
        return median(self.latencies)

    @property
    def rate(self) -> float:
        """The median."""
        return median(self.rates)


def measure(
    rig: Rig, pool: str, size: int, *, single: int = 45, many: int = 250, rounds: int = 3
) -> Iterator[dict[str, Figures]]:
    """Measure all kinds in turn, again and again; yields what is known after each round.

    Args:
        rig: the cluster.
        pool: that of the worker.
        size: processes or threads of it.
        single: how many chains are sent one at a time, for the latency.
        many: how many are sent at once, for the throughput.
        rounds: how often that is done.
    """
    figures = {kind.name: Figures(int(many * kind.weight)) for kind in KINDS}
    with rig.workers("io", "control", "beat", pool=pool, size=size) as parts, _ends(rig) as ends:
        for kind in KINDS * 2:
            _throughput(rig, kind, ends, parts, 10)
        for turn in range(rounds):
            for _ in range(single // rounds):
                for kind in KINDS:
                    figures[kind.name].latencies.append(_latency(kind, ends))
            # Whoever comes first in a round is not always the same.
            for kind in KINDS if turn % 2 == 0 else KINDS[::-1]:
                seen = figures[kind.name]
                rate, worker, redis = _throughput(rig, kind, ends, parts, seen.sent)
                seen.rates.append(rate)
                seen.worker.append(worker)
                seen.redis.append(redis)
            yield figures


@contextmanager
def _ends(rig: Rig) -> Iterator[Ends]:
    ends = Ends(rig)
    try:
        yield ends
    finally:
        ends.close()


def _latency(kind: Kind, ends: Ends) -> float:
    began = time.perf_counter()
    kind.hear(ends, {kind.send()})
    return time.perf_counter() - began


def _throughput(rig: Rig, kind: Kind, ends: Ends, parts: dict[str, Process], many: int) -> tuple[float, float, float]:
    """Return chains a second, and the CPU seconds a task of the workers and of Redis."""
    workers = parts["io"], parts["control"]
    worker, redis = rig.cpu(*workers), rig.cpu()
    began = time.perf_counter()
    kind.hear(ends, {kind.send() for _ in range(many)})
    took = time.perf_counter() - began
    tasks = many * kind.tasks
    return many / took, (rig.cpu(*workers) - worker) / tasks, (rig.cpu() - redis) / tasks
