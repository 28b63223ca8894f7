"""Log what became of an endpoint, and return it as the outcome of its item."""

from __future__ import annotations

from datafab.collect.decision import FetchPlan, Postponed
from datafab.collect.endpoint import FetchStatus, with_fetch_status
from datafab.collect.fetchlog import FetchLog
from datafab.collect.history import history_name, next_history
from datafab.collect.host_backoff import MAX_PAUSES, MAX_SILENCES
from datafab.collect.plugins import PluginFetch
from datafab.collect.target import Options, Target
from datafab.core.item import Item
from datafab.core.stage import Outcome
from datafab.errors import DatafabError, Fatal, Retriable, Wait
from datafab.fetch.refusal import host_paused
from datafab.fetch.result import FetchResult

#: Code of an endpoint that cannot be fetched -> class name of what the original would raise.
_EXCEPTIONS = {"bad_end_date": "ValueError", "missing_query": "FileNotFoundError", "invalid_url": "InvalidURL"}


def log_error(target: Target, options: Options, error: Fatal) -> Item:
    """Log an endpoint that cannot be fetched."""
    log = FetchLog(
        url=target.url,
        at=target.now,
        # A GET of the original notes it before it looks at the URL.
        ssl_verify=True if error.code == "invalid_url" and target.facts.plugin is None else None,
        exception=_EXCEPTIONS.get(error.code, "UnknownPlugin"),
        reason=error.code,
        message=error.message,
        plugin=target.facts.plugin,
    )
    _write(target, options, log)
    return with_fetch_status(target.item, FetchStatus.FAILED, error)


def log_postponed(target: Target, options: Options, postponed: Postponed) -> Outcome:
    """Log an endpoint whose server must not be asked yet: this log stays if the server never answers again."""
    pause = postponed.pause
    refusal = host_paused(target.url, MAX_SILENCES, requested=pause.requested)
    fetched = FetchResult(url=target.url, elapsed=0.0, refusal=refusal)
    outcome = _log(target, options, fetched, attempts=postponed.attempts)
    if not isinstance(outcome, Retriable):
        return outcome
    if pause.requested:
        return Wait(outcome.message, delay=pause.seconds, looked=False, code=outcome.code)
    outcome.delay, outcome.retries = pause.seconds, MAX_PAUSES
    return outcome


def log_fetch(target: Target, options: Options, plan: FetchPlan, fetched: FetchResult) -> Outcome:
    """Log a fetch. One that failed and may succeed later is tried again, and its log replaced then."""
    outcome = _log(target, options, fetched, attempts=plan.attempt, plugin=plan.plugin)
    if plan.plugin is not None and isinstance(outcome, Retriable) and outcome.delay is None:
        outcome.delay = plan.plugin.retry_delay
    return outcome


def _log(
    target: Target, options: Options, fetched: FetchResult, *, attempts: int, plugin: PluginFetch | None = None
) -> Outcome:
    refusal = fetched.refusal
    log = FetchLog(
        url=target.url,
        at=target.now,
        elapsed=fetched.elapsed,
        ssl_verify=None if plugin else True,
        status=fetched.status,
        request_headers=fetched.request_headers,
        response_headers=fetched.headers,
        exception=(refusal.exception or (plugin.exception if plugin else None)) if refusal else None,
        resource=fetched.sha256,
        size=fetched.size,
        reason=refusal.code if refusal else None,
        message=refusal.message if refusal else None,
        plugin=target.facts.plugin,
        attempts=attempts or None,
        redirects=fetched.redirects,
    )
    _write(target, options, log)
    if fetched.sha256 is not None:
        return target.collected(log, fetched.url, fetched.size)
    error = fetched.error("endpoint-url", retries=plugin.retries if plugin else None)
    if isinstance(error, Retriable):
        return error
    return with_fetch_status(target.item, FetchStatus.FAILED, error, http_status=fetched.status)


def _write(target: Target, options: Options, log: FetchLog) -> None:
    """Write the log, and the history where the next job needs it."""
    history = target.history if options.keep_history else None  # as it was before this fetch
    target.store.write(target.log_name, log.encoded(facts=options.log_facts))
    if options.keep_history:
        after = next_history(history, log, adaptive=options.adaptive)
        target.store.write(history_name(target.facts.endpoint), after.encoded())


def after_last_attempt(item: Item, error: DatafabError) -> Item:
    """Return an endpoint whose retries are used up."""
    status = error.code.removeprefix("http_")
    http_status = int(status) if status.isdecimal() else None
    return with_fetch_status(item, FetchStatus.FAILED, error, http_status=http_status)
