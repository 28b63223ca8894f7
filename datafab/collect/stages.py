"""Collect: the endpoints of an ``endpoint.csv``, each fetched at most once a day, as digital-land's collector does.

Parameters of a job:

| name | holds |
| --- | --- |
| ``endpoints`` | the file: a path, a ``file:`` URL, or ``list:<sha256>#<name>`` where it lies in the default store |
| ``collection`` | root of the store that gets ``resource/`` and ``log/``: a folder or a URL |
| ``refill_todays_logs`` | fetch again what has a log of today (default false) |
| ``retry_failed`` | fetch again what failed today (default false) |
| ``conditional`` | ask servers only for what has changed since the last fetch (default false) |
| ``adaptive`` | fetch endpoints that seldom change less often, within the settings' bounds (default false) |
| ``as_served`` | keep what a service answers with status 200 though it is an error or a part (default false) |
| ``queries`` | digest of the list of the query files that endpoints name, with their texts (``localise`` adds it) |
| ``save_csv`` | bring ``log.csv`` and ``resource.csv`` up to date when the job has ended (default false) |
| ``log_facts`` | give logs the keys ``bytes``, ``reason``, ``message`` and ``plugin`` too (default false) |

Each endpoint is decided on (``decision.py``), fetched (``fetching.py``) and logged (``outcome.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial

from datafab.collect.decision import FetchPlan, Postponed, decide
from datafab.collect.fetching import fetch
from datafab.collect.host_backoff import PAUSE_RETRY_DELAYS, HostBackoff
from datafab.collect.outcome import after_last_attempt, log_error, log_fetch, log_postponed
from datafab.collect.target import Options, Target
from datafab.core.backoff import RetryPolicy
from datafab.core.clock import Clock
from datafab.core.item import Item
from datafab.core.stage import Context, Outcome, Stage
from datafab.errors import Fatal
from datafab.fetch.result import FetchResult
from datafab.fetch.session import Fetcher, Session

#: Codes of answers by which a server may ask for a pause, not for this endpoint alone.
PAUSE_CODES = frozenset({"http_429", "http_503"})


def collect(items: list[Item], ctx: Context, *, clock: Callable[[], datetime] | None = None) -> Iterator[Outcome]:
    """Fetch endpoints, keep what came as resources and log each fetch."""
    for root in {item.store for item in items if item.store}:
        # The stage `endpoints` marked it: no other host would find logs in a folder of this host alone.
        ctx.services.store(root).require_marked()
    now = clock or partial(_now, ctx.services.clock)
    options = Options.of(ctx.params)
    hosts = HostBackoff(ctx.memo, PAUSE_RETRY_DELAYS * ctx.services.settings.retry_delay)
    with ctx.services.get(Fetcher).session() as session:
        for item in items:
            ctx.check()
            facts = item.collect
            if facts is None or item.url is None or item.store is None:
                yield Fatal("an item without collect, url and store is not an endpoint", code="not_an_endpoint")
                continue
            store = ctx.services.store(item.store)
            target = Target(item=item, facts=facts, url=item.url, store=store, now=now())
            yield _collect(target, options, hosts, session, ctx)


def _now(clock: Clock) -> datetime:
    """Return the cluster's time in UTC without a zone, as the logs have it."""
    return clock.utc().replace(tzinfo=None)


def _collect(target: Target, options: Options, hosts: HostBackoff, session: Session, ctx: Context) -> Outcome:
    """Decide on an endpoint, fetch it and log it."""
    match decide(target, options, hosts, ctx):
        case Fatal() as error:
            return log_error(target, options, error)
        case Postponed() as postponed:
            return log_postponed(target, options, postponed)
        case FetchPlan() as plan:
            fetched = fetch(target, plan, options, session, ctx.services.settings)
            _note_host(hosts, target.url, fetched, ctx.services.clock)
            return log_fetch(target, options, plan, fetched)
        case Item() as settled:
            return settled


def _note_host(hosts: HostBackoff, url: str, fetched: FetchResult, clock: Clock) -> None:
    """Note whether the server answered, and whether it asks for a pause."""
    code = fetched.refusal.code if fetched.refusal else None
    hosts.note(url, code, clock.now(), fetched.pause if code in PAUSE_CODES else None)


STAGES = (
    Stage(
        name="collect",
        params=Options.names(),
        queue="io",
        run_many=collect,
        failed=after_last_attempt,
        # A server may ask for a pause, but not for one that the whole job has to wait for.
        retry=RetryPolicy(retries=2, patience=1800.0),
        requires=frozenset({"url", "collect", "store"}),
        provides=frozenset({"sha256", "size", "media_type", "filename"}),
    ),
)
