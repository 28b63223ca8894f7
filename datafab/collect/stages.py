"""Collect: the endpoints of an ``endpoint.csv``, each fetched at most once a day, as digital-land's collector does.

Parameters of a job:

| name | holds |
| --- | --- |
| ``endpoints`` | the file: a path, a ``file:`` URL, or ``list:<sha256>#<name>`` where it lies in the default store |
| ``collection`` | root of the store that gets ``resource/`` and ``log/``: a folder or a URL |
| ``refill_todays_logs`` | fetch again what has a log of today (default false) |
| ``retry_failed`` | fetch again what failed today (default false) |
| ``conditional`` | ask servers only for what has changed since the last look (default false) |
| ``adaptive`` | look less often at what seldom changes, within the settings' bounds (default false) |
| ``queries`` | digest of the list of the query files that endpoints name, with their texts (``localised`` makes it) |
| ``save_csv`` | bring ``log.csv`` and ``resource.csv`` up to date when the job has ended (default false) |
| ``log_facts`` | give logs the keys ``bytes``, ``reason``, ``message`` and ``plugin`` too (default false) |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from http import HTTPStatus

from datafab.collect.endpoint import FetchStatus, decided, endpoint_hash, settled, unfetchable
from datafab.collect.fetchlog import FetchLog, log_name
from datafab.collect.history import History, after, history_name
from datafab.collect.host_backoff import ENOUGH, REST, RESTS, Hosts
from datafab.collect.localfile import is_file, read_file
from datafab.collect.plugins import Making, making
from datafab.collect.plugins.parameters import made_type
from datafab.collect.plugins.wfs_timestamp import stripped, stripped_wfs
from datafab.core.backoff import RetryPolicy
from datafab.core.clock import Clock
from datafab.core.item import CollectFacts, Item, Status
from datafab.core.stage import Context, Outcome, Stage
from datafab.errors import DatafabError, Fatal, Retriable, Skippable, Wait
from datafab.fetch.filename import filename, media_type
from datafab.fetch.refusal import resting
from datafab.fetch.session import Fetched, Fetcher, Session
from datafab.store.store import Store
from datafab.urls import without_credentials

#: Codes of answers by which a server may ask for a break, not for this endpoint alone.
BREAKS = frozenset({"http_429", "http_503"})


def _now(clock: Clock) -> datetime:
    """Return the cluster's time in UTC without a zone, as the logs have it."""
    return clock.utc().replace(tzinfo=None)


def _query(ctx: Context, facts: CollectFacts) -> str | None:
    """Return the text of an endpoint's query file."""
    if facts.query is None:
        return None
    return ctx.services.store(ctx.services.settings.store).read_list(facts.query).decode(errors="replace")


def collect(items: list[Item], ctx: Context, *, clock: Callable[[], datetime] | None = None) -> Iterator[Outcome]:
    """Fetch endpoints, keep what came as resources and log each fetch."""
    for root in {item.store for item in items if item.store}:
        # By `endpoints`: the logs in a folder of this host alone would be found by no other.
        ctx.services.store(root).begun()
    now = clock or partial(_now, ctx.services.clock)
    hosts = Hosts(ctx.memo, REST * ctx.services.settings.retry_delay)
    with ctx.services.get(Fetcher).session() as session:
        for item in items:
            ctx.check()
            facts = item.collect
            if facts is None or item.url is None or item.store is None:
                yield Fatal("an item without collect, url and store is no endpoint", code="not_an_endpoint")
                continue
            endpoint = _Endpoint(item, facts, item.url, ctx.services.store(item.store), now=now(), hosts=hosts)
            endpoint.clock = ctx.services.clock
            endpoint.log_facts = bool(ctx.params.get("log_facts"))
            endpoint.conditional = bool(ctx.params.get("conditional"))
            endpoint.adaptive = bool(ctx.params.get("adaptive"))
            yield endpoint.collected(session, ctx)


class _Endpoint:
    """One endpoint at one time."""

    #: whether the log gets the keys that the original has not: bytes, reason, message, plugin, attempts, redirects
    log_facts = False
    #: whether the server is asked only for what has changed, and whether it is asked less often where little does
    conditional = False
    adaptive = False
    #: when a server rests is kept for the next attempt, maybe on another host
    clock = Clock()

    def __init__(self, item: Item, facts: CollectFacts, url: str, store: Store, *, now: datetime, hosts: Hosts) -> None:
        self.item = item
        self.facts = facts
        self.url = url
        self.store = store
        self.now = now
        self.name = log_name(facts.endpoint, now)
        self.hosts = hosts
        #: how often this job has asked for it, as far as its log tells
        self.attempts = 0

    def collected(self, session: Session, ctx: Context) -> Outcome:
        """Return what became of it; the order of the checks is the original's."""
        match decided(self.facts, self.url, self.now):
            case FetchStatus.EXPIRED as status:
                ended = Skippable(f"ended on {self.facts.end_date}", code="expired", field="end-date")
                return settled(self.item, status, ended, Status.SKIPPED)
            case FetchStatus.HASH_FAILURE as status:
                msg = f"{self.facts.endpoint!r} is not the sha256 of the endpoint-url, {endpoint_hash(self.url)}"
                return settled(self.item, status, Fatal(msg, code="hash_failure", field="endpoint"))
        return self._before(ctx) or self._asked(session, ctx)

    def _asked(self, session: Session, ctx: Context) -> Outcome:
        """Ask for it, if it can be asked for."""
        error = unfetchable(self.facts, self.url)
        if error is not None:
            return self._unfetched(error)
        rest = self.hosts.rests(self.url, self.clock.now())
        if rest is not None:
            return self._unasked(*rest)
        try:
            warn = partial(ctx.log.warning, endpoint=self.facts.endpoint)
            made = making(self.facts, self.url, partial(_query, ctx, self.facts), warn)
        except Fatal as refusal:
            return self._unfetched(refusal)
        return self._got(session, ctx) if made is None else self._made(made, session)

    def _unasked(self, rest: float, asked: bool) -> Outcome:
        """Log that the server rests, should it never answer again, and come back later."""
        outcome = self._fetched(Fetched(url=self.url, elapsed=0.0, refusal=resting(self.url, ENOUGH, asked=asked)))
        if asked and isinstance(outcome, Retriable):
            return Wait(outcome.message, delay=rest, looked=False, code=outcome.code)
        if isinstance(outcome, Retriable):
            outcome.delay, outcome.retries = rest, RESTS
        return outcome

    def _got(self, session: Session, ctx: Context) -> Outcome:
        """Fetch what the server has."""
        self.attempts += 1
        transform = stripped_wfs if self.facts.plugin == "wfs" else stripped
        if is_file(self.url):
            return self._fetched(read_file(self.url, self.store, ctx.services.settings, session.headers, transform))
        known = self.history if self.conditional and self._known() else None
        conditions = known.conditions() if known else {}
        fetched = session.fetch(self.url, self.store, transform=transform, html=False, headers=conditions)
        if known is not None and conditions and fetched.status == HTTPStatus.NOT_MODIFIED:
            sent = {**fetched.request_headers, **conditions}
            fetched = replace(fetched, sha256=known.resource, refusal=None, request_headers=sent)
        self._note(fetched)
        return self._fetched(fetched)

    def _note(self, fetched: Fetched) -> None:
        """Note what the fetch tells about the server."""
        code = fetched.refusal.code if fetched.refusal else None
        self.hosts.note(self.url, code, self.clock.now(), fetched.pause if code in BREAKS else None)

    def _made(self, made: Making, session: Session) -> Outcome:
        """Let the plugin make the resource."""
        self.attempts += 1
        fetched = session.gather(self.url, self.store, made.produce, page=made.page, headers=made.headers)
        self._note(fetched)
        outcome = self._fetched(fetched, made)
        if isinstance(outcome, Retriable) and outcome.delay is None:
            outcome.delay = made.pause
        return outcome

    def _before(self, ctx: Context) -> Item | None:
        """Return what today's log says, if it forbids another fetch."""
        data = self.store.read(self.name)
        if data is None:
            return self._resting(ctx)
        log = FetchLog.decoded(data)
        kept = self._with_resource(log) if log is not None and log.resource else None
        # This job's own fetch, by an attempt that died before it could tell, or one that failed and is tried again.
        if log is not None and log.since(ctx.created):
            self.attempts = log.attempts or 0
            return self._kept(log, self.url) if kept else None
        if ctx.params.get("refill_todays_logs") or (ctx.params.get("retry_failed") and not kept):
            return None
        if log is not None and log.resource is None:
            return self._still_failed(log)
        return settled(kept or self.item, FetchStatus.ALREADY_FETCHED, status=Status.UNCHANGED)

    def _still_failed(self, log: FetchLog) -> Item:
        """Return an endpoint whose fetch has failed today: a second run must not take that for a success."""
        code, message = log.failure
        when = f"today at {log.at:%H:%M} UTC; --retry-failed asks again"
        error = Fatal(
            f"{message or f'{without_credentials(self.url)}: {log.answered}'} ({when})", code=code, field="endpoint-url"
        )
        return settled(self.item, FetchStatus.ALREADY_FETCHED, error, http_status=log.status)

    def _resting(self, ctx: Context) -> Item | None:
        """Return what the last look gave, if it was not long ago for an endpoint that changes as seldom as this one."""
        history = self.history if self.adaptive else None
        # What this job has tried, it may try again.
        if history is None or history.at.replace(tzinfo=UTC).timestamp() >= ctx.created:
            return None
        settings = ctx.services.settings
        if history.due(self.now, settings.adaptive_least, settings.adaptive_most):
            return None
        if history.failed:
            if ctx.params.get("retry_failed"):
                return None
            at = f"{history.at:%Y-%m-%d %H:%M} UTC"
            msg = f"{without_credentials(self.url)}: the last fetch failed ({at}; --retry-failed asks again)"
            return settled(self.item, FetchStatus.ALREADY_FETCHED, Fatal(msg, code="failed", field="endpoint-url"))
        return settled(self._known() or self.item, FetchStatus.ALREADY_FETCHED, status=Status.UNCHANGED)

    @cached_property
    def history(self) -> History | None:
        """What is known of the endpoint, if this plugin has seen it before."""
        history = History.decoded(self.store.read(history_name(self.facts.endpoint)))
        return history if history is not None and history.plugin == self.facts.plugin else None

    def _known(self) -> Item | None:
        """Return the item with what the endpoint last gave; None when that is not in the store."""
        history = self.history
        if history is None or history.resource is None:
            return None
        return self._with_resource(FetchLog(url=self.url, at=history.at, resource=history.resource))

    def _write(self, log: FetchLog) -> None:
        """Keep the log of a look, and what is to be known at the next one."""
        self.store.write(self.name, log.encoded(facts=self.log_facts))
        if self.conditional or self.adaptive:
            self.store.write(history_name(self.facts.endpoint), after(self.history, log).encoded())

    def _unfetched(self, error: Fatal) -> Item:
        """Log an endpoint that cannot even be asked."""
        names = {"bad_end_date": "ValueError", "missing_query": "FileNotFoundError", "invalid_url": "InvalidURL"}
        log = FetchLog(
            url=self.url,
            at=self.now,
            # A GET of the original notes it before it looks at the URL.
            ssl_verify=True if error.code == "invalid_url" and self.facts.plugin is None else None,
            exception=names.get(error.code, "UnknownPlugin"),
            reason=error.code,
            message=error.message,
            plugin=self.facts.plugin,
        )
        self._write(log)
        return settled(self.item, FetchStatus.FAILED, error)

    def _fetched(self, fetched: Fetched, made: Making | None = None) -> Outcome:
        """Log a fetch; one that failed and may pass is tried again, with a log of its own in this one's place."""
        refusal = fetched.refusal
        log = FetchLog(
            url=self.url,
            at=self.now,
            elapsed=fetched.elapsed,
            ssl_verify=None if made else True,
            status=fetched.status,
            request_headers=fetched.request_headers,
            response_headers=fetched.headers,
            exception=(refusal.exception or (made.exception if made else None)) if refusal else None,
            resource=fetched.sha256,
            size=fetched.size,
            reason=refusal.code if refusal else None,
            message=refusal.message if refusal else None,
            plugin=self.facts.plugin,
            attempts=self.attempts or None,
            redirects=fetched.redirects,
        )
        self._write(log)
        if fetched.sha256 is not None:
            return self._kept(log, fetched.url, fetched.size)
        error = fetched.error("endpoint-url", retries=made.retries if made else None)
        if isinstance(error, Retriable):
            return error
        return settled(self.item, FetchStatus.FAILED, error, http_status=fetched.status)

    def _kept(self, log: FetchLog, url: str, size: int | None = None) -> Item:
        """Return the item that a log with a resource makes."""
        item = self._with_resource(log, url, size) or self.item
        status = Status.UNCHANGED if log.status == HTTPStatus.NOT_MODIFIED else Status.OK
        return settled(item, FetchStatus.OK, status=status, http_status=log.status)

    def _with_resource(self, log: FetchLog, url: str | None = None, size: int | None = None) -> Item | None:
        """Return the item with the resource that the log names; None when it is not in the store.

        ``size`` is that of a resource that was just written: a bucket need not be asked for it.
        """
        size = self.store.size(log.resource or "") if size is None else size
        if size is None:
            return None
        headers = log.response_headers
        if "content-type" not in map(str.lower, headers) and self.history and self.history.resource == log.resource:
            headers = {**headers, **self.history.headers}  # an answer without a body need not say what it would be
        return self.item.evolve(
            sha256=log.resource,
            size=size,
            media_type=media_type(headers) or made_type(self.facts.plugin, self.url),
            filename=filename(headers, url or self.url),
        )


def _failed(item: Item, error: DatafabError) -> Item:
    """Return an endpoint that was tried often enough."""
    status = error.code.removeprefix("http_")
    return settled(item, FetchStatus.FAILED, error, http_status=int(status) if status.isdecimal() else None)


STAGES = (
    Stage(
        name="collect",
        params=frozenset({"log_facts", "conditional", "adaptive", "refill_todays_logs", "retry_failed"}),
        queue="io",
        run_many=collect,
        failed=_failed,
        retry=RetryPolicy(retries=2, patience=1800.0),
        # A server may ask for a break, but not for one that the whole job has to wait for.
        requires=frozenset({"url", "collect", "store"}),
        provides=frozenset({"sha256", "size", "media_type", "filename"}),
    ),
)
