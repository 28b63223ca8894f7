"""Toy stages and flows for the crash tests, and the Celery app that knows them.

``celery -A tests.workers.toys worker`` runs them: one more stage is a file and a line, here as in datafab/stages.
Each stage tells a Redis list of its own when it starts and ends an item.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from requests.exceptions import InvalidURL

from datafab.core.backoff import RetryPolicy
from datafab.core.item import Item
from datafab.core.redis import ClusterRedis, connect
from datafab.core.services import Services
from datafab.core.stage import Context, FollowUp, Outcome, Stage
from datafab.errors import FlowError, Retriable, Wait
from datafab.flows.chains import STAGES
from datafab.flows.registry import FLOWS, Flow
from datafab.index import open_index
from datafab.index.access import IndexAccess
from datafab.index.stages import index as indexing
from datafab.store.scratch import work_folder


def journal(ctx: Context) -> ClusterRedis:
    return connect(ctx.services.settings, patience=30)


def tell(ctx: Context, what: str, item: Item) -> None:
    journal(ctx).rpush(f"toy:{ctx.job}:{what}", item.source)


def numbers(ctx: Context) -> Iterator[Item]:
    """Yield ``n`` items; with ``note``, keep that in the notes on the batch first."""
    if ctx.params.get("bad"):
        raise FlowError("bad parameters", field="bad")
    if note := ctx.params.get("note"):
        ctx.memo["note"] = note
    if kills := ctx.params.get("kill_source"):
        kill_me(ctx, "numbers", kills)
    for number in range(ctx.params.get("n", 1)):
        yield Item(source=f"toy:{number}", url=f"http://host{number}/")


def quotes(ctx: Context) -> Iterator[Item]:
    """Fail with an error that another library's has caused."""
    cause = InvalidURL(ctx.params["url"])
    yield from ()
    raise FlowError(f"not a URL: {cause}", field=ctx.params["url"]) from cause


def noop(item: Item, ctx: Context) -> Item:
    """Do nothing."""
    return item


def work(item: Item, ctx: Context) -> Item:
    """Take ``seconds``, then leave a trace of the item's way."""
    tell(ctx, "start", item)
    until = time.monotonic() + ctx.params.get("seconds", 0)
    while time.monotonic() < until:
        time.sleep(0.02)
        ctx.check()
    tell(ctx, "end", item)
    return item.evolve(filename=(item.filename or "") + "w")


def waiter(item: Item, ctx: Context) -> Item:
    """Wait twice before going on."""
    tell(ctx, "look", item)
    looks = ctx.memo.get("looks", 0)
    if looks < 2 and item.source in ctx.params.get("wait", [item.source]):
        ctx.memo["looks"] = looks + 1
        raise Wait("not ready", delay=ctx.params.get("delay", 0.3))
    return item.evolve(filename=(item.filename or "") + "p")


def kill_me(ctx: Context, name: str, times: int) -> None:
    if journal(ctx).incr(f"toy:{ctx.job}:kills:{name}") <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def killer(item: Item, ctx: Context) -> Item:
    """Kill this process for the items in ``kill``, ``times`` times each."""
    tell(ctx, "start", item)
    if item.source in ctx.params.get("kill", []):
        kill_me(ctx, item.source, ctx.params.get("times", 1))
    tell(ctx, "end", item)
    return item


def hanger(item: Item, ctx: Context) -> Item:
    """Hang for the items in ``hang``, the first time."""
    tell(ctx, "start", item)
    if item.source in ctx.params.get("hang", []) and journal(ctx).incr(f"toy:{ctx.job}:hung:{item.source}") == 1:
        time.sleep(60)
    tell(ctx, "end", item)
    return item


def spin(item: Item, ctx: Context) -> Item:
    """Keep a process busy, without ever asking whether the job was cancelled, in the way that ``how`` names."""
    with work_folder() as folder:
        Path(folder, "half").write_bytes(b"half")
        tell(ctx, "start", item)
        end = time.monotonic() + 600
        while time.monotonic() < end:
            try:
                if ctx.params["how"] == "sleep":
                    time.sleep(600)
            except Exception:  # noqa: BLE001, S110 - as libraries do
                pass
            except BaseException:
                if ctx.params["how"] != "stubborn":
                    raise
    return item


def faulty(item: Item, ctx: Context) -> Item:
    """Fail in the ways that ``fault`` names."""
    match ctx.params["fault"]:
        case "retriable":
            failures = ctx.memo.get("mine", 0)
            if failures < 1:
                ctx.memo["mine"] = failures + 1
                raise Retriable("not now", delay=0.1)
        case "always":
            raise Retriable("never", delay=0.1)
        case "flow":
            raise FlowError("service not configured", field="toy")
        case "bug":
            msg = "a fault of the stage's own"
            raise KeyError(msg)
    return item


def settled(item: Item, ctx: Context) -> Item:
    """Tell whether this worker reads its settings once."""
    from workers.app import settings  # noqa: PLC0415 - as at the end of this file

    tell(ctx, "once" if settings() is settings() else "each time", item)
    return item


def keep(item: Item, ctx: Context) -> Item:
    """Keep a resource."""
    with ctx.services.store(ctx.services.settings.store).new_resource() as resource:
        resource.write(f"of {item.source}".encode())
        sha256, size = resource.commit()
    return item.evolve(store=ctx.services.settings.store, sha256=sha256, size=size)


def gate(item: Item, ctx: Context) -> Item:
    """Wait until the test opens the gate."""
    if not journal(ctx).exists("toy:gate"):
        tell(ctx, "gate", item)
        raise Wait("not open", delay=0.3)
    return item


def recall(item: Item, ctx: Context) -> Item:
    """Tell what a resource holds."""
    with ctx.services.store(item.store or "").open(item.sha256 or "") as resource:
        journal(ctx).rpush(f"toy:{ctx.job}:held", resource.read().decode())
    return item


TOYS = (
    Stage(name="numbers", queue="io", expand=numbers, provides=frozenset({"url"})),
    Stage(name="quotes", queue="io", expand=quotes, provides=frozenset({"url"})),
    *(Stage(name=f"noop{n}", queue="io", run=noop) for n in range(5)),
    Stage(name="work", queue="cpu", run=work),
    Stage(name="work_io", queue="io", run=work),
    Stage(name="waiter", queue="cpu", run=waiter),
    Stage(name="waiter_io", queue="io", run=waiter),
    Stage(name="killer", queue="cpu", run=killer),
    Stage(name="spin", queue="cpu", run=spin),
    Stage(name="hanger", queue="cpu", run=hanger, retry=RetryPolicy(deadline=2)),
    Stage(name="hanger_io", queue="io", run=hanger, retry=RetryPolicy(deadline=2)),
    Stage(name="faulty", queue="io", run=faulty, retry=RetryPolicy(retries=2)),
    Stage(name="keep", queue="io", run=keep),
    Stage(name="gate", queue="io", run=gate),
    Stage(name="recall", queue="io", run=recall),
    Stage(name="settled", queue="io", run=settled),
    Stage(name="settled_cpu", queue="cpu", run=settled),
)
STAGES.update({stage.name: stage for stage in TOYS})


def keyed(item: Item, ctx: Context) -> Item:
    """Use a secret."""
    assert ctx.services.secrets.get(ctx.job, "api_key") == "planted-secret"
    return item


def ended(ctx: Context) -> Iterator[Item]:
    """Tell of the job that this one follows."""
    job = ctx.services.jobs.get(ctx.params["of"])
    journal(ctx).rpush("toy:followed", f"{job.id} {job.status}")
    yield Item(source=f"job:{job.id}")


def index_at(items: list[Item], ctx: Context) -> Iterator[Outcome]:
    """Index at the address of the parameters."""
    services = Services(ctx.services.settings)
    services.put(IndexAccess, IndexAccess(open_index(ctx.params["index"])))
    for outcome in indexing(items, replace(ctx, services=services)):
        if isinstance(outcome, Item):
            tell(ctx, "end", outcome)
        yield outcome
    services.close()


STAGES["index_at"] = Stage(name="index_at", queue="io", run_many=index_at, retry=RetryPolicy(retries=20))
STAGES["keyed"] = Stage(name="keyed", queue="io", run=keyed)
STAGES["ended"] = Stage(name="ended", queue="io", expand=ended)


def _flow(name: str, *stages: str, source: str = "numbers", after: str = "") -> None:
    FLOWS[name] = Flow(
        name=name, title=name, producer=source, stages=stages, follow_up=FollowUp(after) if after else None
    )


_flow("noop5", *(f"noop{n}" for n in range(5)))
_flow("waiting", "work", "waiter", "waiter_io", "work_io")
_flow("long", "work")
_flow("long_io", "work_io")
_flow("pair", "work_io", "work")
_flow("killing", "killer", "work")
_flow("hanging", "hanger")
_flow("spinning", "spin")
_flow("hanging_io", "hanger_io")
_flow("faulty", "faulty", "work")
_flow("keyed", "keyed")
_flow("quoting", "noop0", source="quotes")
_flow("indexing", "index_at")
_flow("followed", "killer", after="follower")
_flow("follower", "noop0", source="ended")
_flow("kept", "keep", "gate", "recall")
_flow("settled", "settled", "settled_cpu")
_flow("chaos", "work_io", "waiter", "work")

from workers.app import app  # noqa: E402 - tasks are made from STAGES when workers is imported
from workers.tasks import tick  # noqa: E402

__all__ = ["app", "tick"]
