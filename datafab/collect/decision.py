"""Decide what to do with an endpoint, from its row, its log of today, its history and its server's pauses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC
from functools import partial

from datafab.collect.endpoint import FetchStatus, endpoint_error, endpoint_hash, status_by_row, with_fetch_status
from datafab.collect.fetchlog import FetchLog
from datafab.collect.history import history_name
from datafab.collect.host_backoff import HostBackoff, HostPause
from datafab.collect.plugins import PluginFetch, plugin_fetch
from datafab.collect.target import Options, Target
from datafab.core.item import CollectFacts, Item, Status
from datafab.core.stage import Context
from datafab.errors import Fatal, Skippable
from datafab.urls import without_credentials


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """How to fetch an endpoint.

    Attributes:
        plugin: how its plugin makes the resource; None for a plain GET.
        attempt: number of this request in this job, the first being 1.
    """

    plugin: PluginFetch | None
    attempt: int


@dataclass(frozen=True, slots=True)
class Postponed:
    """An endpoint whose server must not be asked yet.

    Attributes:
        pause: how long, and why.
        attempts: requests that this job has made for the endpoint so far.
    """

    pause: HostPause
    attempts: int


#: An item needs neither a fetch nor a log; a Fatal is an endpoint that cannot be fetched.
Decision = Item | Fatal | Postponed | FetchPlan


def decide(target: Target, options: Options, hosts: HostBackoff, ctx: Context) -> Decision:
    """Decide what to do with an endpoint; the order of the checks is the original's."""
    settled = _settled_by_row(target)
    if settled is not None:
        _end_rest(target, options)
        return settled
    data = target.store.read(target.log_name)
    log = None if data is None else FetchLog.decoded(data)
    if log is not None and log.started_since(ctx.created):
        # This job fetched it: an attempt died before it could report, or the fetch failed and is tried again.
        if log.resource and target.with_resource(log):
            return target.collected(log, target.url)
        return _plan(target, hosts, ctx, attempts=log.attempts or 0)
    by_files = _settled_by_history(target, options, ctx) if data is None else _settled_by_log(target, log, options)
    return by_files or _plan(target, hosts, ctx, attempts=0)


def _end_rest(target: Target, options: Options) -> None:
    """Note in the history of an endpoint that it is no longer fetched, so that its resource ends."""
    history = target.history if options.adaptive else None
    if history is not None and history.adaptive:
        target.store.write(history_name(target.facts.endpoint), replace(history, adaptive=False).encoded())


def _settled_by_row(target: Target) -> Item | None:
    """Return an endpoint that has ended, or whose key is not the hash of its URL."""
    match status_by_row(target.facts, target.url, target.now):
        case FetchStatus.EXPIRED as status:
            ended = Skippable(f"ended on {target.facts.end_date}", code="expired", field="end-date")
            return with_fetch_status(target.item, status, ended, Status.SKIPPED)
        case FetchStatus.HASH_FAILURE as status:
            msg = f"{target.facts.endpoint!r} is not the sha256 of the endpoint-url, {endpoint_hash(target.url)}"
            return with_fetch_status(target.item, status, Fatal(msg, code="hash_failure", field="endpoint"))
    return None


def _settled_by_log(target: Target, log: FetchLog | None, options: Options) -> Item | None:
    """Return an endpoint that an earlier job fetched today, unless the options ask for another fetch.

    Args:
        target: the endpoint.
        log: today's log; None when it cannot be read.
        options: the job's.
    """
    item = target.with_resource(log) if log is not None and log.resource else None
    if options.refill_todays_logs or (options.retry_failed and not item):
        return None
    if log is not None and log.resource is None:
        return _failed_today(target, log)
    return with_fetch_status(item or target.item, FetchStatus.ALREADY_FETCHED, status=Status.UNCHANGED)


def _failed_today(target: Target, log: FetchLog) -> Item:
    """Return an endpoint whose fetch has failed today: a second run must not take that for a success."""
    code, message = log.failure
    problem = message or f"{without_credentials(target.url)}: {log.answered}"
    when = f"today at {log.at:%H:%M} UTC; --retry-failed asks again"
    error = Fatal(f"{problem} ({when})", code=code, field="endpoint-url")
    return with_fetch_status(target.item, FetchStatus.ALREADY_FETCHED, error, http_status=log.status)


def _settled_by_history(target: Target, options: Options, ctx: Context) -> Item | None:
    """Return an endpoint that is not due yet, because it seldom changes."""
    history = target.history if options.adaptive else None
    # What this job has fetched, it may fetch again.
    if history is None or history.at.replace(tzinfo=UTC).timestamp() >= ctx.created:
        return None
    settings = ctx.services.settings
    if history.is_due(target.now, settings.adaptive_least, settings.adaptive_most):
        return None
    if not history.failed:
        item = target.with_last_resource() or target.item
        return with_fetch_status(item, FetchStatus.ALREADY_FETCHED, status=Status.UNCHANGED)
    if options.retry_failed:
        return None
    at = f"{history.at:%Y-%m-%d %H:%M} UTC"
    msg = f"{without_credentials(target.url)}: the last fetch failed ({at}; --retry-failed asks again)"
    error = Fatal(msg, code="failed", field="endpoint-url")
    return with_fetch_status(target.item, FetchStatus.ALREADY_FETCHED, error)


def _plan(target: Target, hosts: HostBackoff, ctx: Context, *, attempts: int) -> Fatal | Postponed | FetchPlan:
    """Return how to fetch an endpoint, or why it cannot be fetched now or ever."""
    error = endpoint_error(target.facts, target.url)
    if error is not None:
        return error
    pause = hosts.pause(target.url, ctx.services.clock.now())
    if pause is not None:
        return Postponed(pause, attempts)
    warn = partial(ctx.log.warning, endpoint=target.facts.endpoint)
    try:
        plugin = plugin_fetch(target.facts, target.url, partial(_query_text, ctx, target.facts), warn)
    except Fatal as refusal:
        return refusal
    return FetchPlan(plugin, attempts + 1)


def _query_text(ctx: Context, facts: CollectFacts) -> str | None:
    """Return the text of an endpoint's query file; None when it has none."""
    if facts.query is None:
        return None
    return ctx.services.store(ctx.services.settings.store).read_list(facts.query).decode(errors="replace")
