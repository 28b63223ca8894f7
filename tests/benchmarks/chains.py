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
from workers.app import ledger

from datafab.domain.job import Job
from datafab.domain.payload import Batch, Item
from datafab.settings import PREFIX
from datafab.stages import STAGES
from tests.benchmarks.app import BARE, KEPT, STEPS, app
from tests.benchmarks.rig import Rig
from tests.servers.celery import Process, until
from workers.canvas import _steps, rows_of, start

#: key prefix of Celery's results, and so the name of the channel that tells that a result is there
RESULTS = f"{PREFIX}celery-task-meta-"


def batch() -> Batch:
    """Return the payload of every chain."""
    return Batch(
        job=uuid.uuid4().hex, flow="noop5", params={"n": 1}, items=(Item(source="toy:0", url="http://host0/"),)
    )


def bare() -> str:
    """Send a bare chain of Celery; return the id of its last task."""
    return _send(_plain(BARE, batch()))


def kept() -> str:
    """Send the same chain under the ledger; return the id of its last task."""
    mine = batch()
    return _send(_plain(KEPT, mine), mine)


def stages() -> str:
    """Send the same chain of stages, as a fan-out's branch; return the id of its last task."""
    mine = batch()
    return _send(chain(*_steps(mine, [STAGES[f"noop{number}"] for number in range(STEPS)], last=True)), mine)


def _plain(name: str, mine: Batch) -> Signature:
    first, *others = (app.signature(f"{name}{number}") for number in range(STEPS))
    others[-1].set(ignore_result=False)
    return chain(first.clone(args=(mine.dump(),)), *others)


def _send(sig: Signature, mine: Batch | None = None) -> str:
    """Publish a chain, its first row before it if it is a job's, as ``workers.canvas.start`` does."""
    last = sig.freeze().id
    if mine is None:
        sig.apply_async()
        return last
    (row,) = rows_of(sig)
    now = time.time()
    job = Job(id=mine.job, flow=mine.flow, params=mine.params, created=now, deadline=now + 3600)
    ledger().enqueue(job, row, [f"noop{number}" for number in range(STEPS)])
    sig.apply_async()
    ledger().confirm([(row.rid, 0)])
    return last


def whole() -> str:
    """Enqueue a whole job: a source, five stages, the report; return its id."""
    job, _ = start("noop5", {"n": 1})
    return job.id


class Ends:
    """Hears when chains end: Celery publishes a last task's result, of a bare chain and of ours alike."""

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
        open_ones = f"{PREFIX}deadlines"
        for job in ids:
            until(lambda job=job: self._redis.zscore(open_ones, job) is None, 60, 0.0005 if len(ids) == 1 else 0.02)

    def close(self) -> None:
        self._heard.close()


@dataclass
class Figures:
    """What was measured of one kind of chain; CPU in seconds a task."""

    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)
    redis: list[float] = field(default_factory=list)

    @property
    def latency(self) -> float:
        """Seconds, the median."""
        return median(self.latencies)

    @property
    def rate(self) -> float:
        """Chains a second, the median."""
        return median(self.rates)


@dataclass(frozen=True)
class Kind:
    """A kind of chain: how it is sent, which of ``Ends`` hears it, its tasks."""

    name: str
    send: Callable[[], str]
    hear: Callable[[Ends, set[str]], None]
    tasks: int = STEPS


KINDS = (
    Kind("bare", bare, Ends.chains),
    Kind("kept", kept, Ends.chains),
    Kind("stages", stages, Ends.chains),
    Kind("job", whole, Ends.jobs, STEPS + 2),
)
POOLS = {"prefork -c 2": ("prefork", 2), "threads -c 8": ("threads", 8)}


def measure(rig: Rig, pool: str, *, single: int = 60, rounds: int = 3, many: int = 250) -> Iterator[dict[str, Figures]]:
    """Measure all kinds in turn, again and again; yields what is known after each round.

    Args:
        rig: the cluster.
        pool: one of POOLS.
        single: chains that are sent one at a time, for the latency.
        rounds: how often ``many`` are sent at once, for the throughput.
        many: how many that are.
    """
    figures = {kind.name: Figures() for kind in KINDS}
    name, size = POOLS[pool]
    with rig.workers("io", "control", "beat", pool=name, size=size) as parts, _ends(rig) as ends:
        for kind in KINDS * 3:
            _throughput(rig, kind, ends, parts, 10)
        for turn in range(rounds):
            for _ in range(single // rounds):
                for kind in KINDS:
                    figures[kind.name].latencies.append(_latency(kind, ends))
            # Whoever comes first in a round is not always the same.
            for kind in KINDS[turn % 2 :: 1] + KINDS[: turn % 2]:
                _note(figures[kind.name], *_throughput(rig, kind, ends, parts, many))
            yield figures


@contextmanager
def _ends(rig: Rig) -> Iterator[Ends]:
    ends = Ends(rig)
    try:
        yield ends
    finally:
        ends.close()


def _note(figures: Figures, rate: float, worker: float, redis: float) -> None:
    figures.rates.append(rate)
    figures.worker.append(worker)
    figures.redis.append(redis)


def _latency(kind: Kind, ends: Ends) -> float:
    began = time.perf_counter()
    kind.hear(ends, {kind.send()})
    return time.perf_counter() - began


def _throughput(rig: Rig, kind: Kind, ends: Ends, parts: dict[str, Process], many: int) -> tuple[float, float, float]:
    """Return chains a second, and the CPU seconds a task of the worker and of Redis."""
    before = rig.cpu(parts["io"]) + rig.cpu(parts["control"]), rig.cpu()
    began = time.perf_counter()
    kind.hear(ends, {kind.send() for _ in range(many)})
    took = time.perf_counter() - began
    after = rig.cpu(parts["io"]) + rig.cpu(parts["control"]), rig.cpu()
    tasks = many * kind.tasks
    return many / took, (after[0] - before[0]) / tasks, (after[1] - before[1]) / tasks
