"""Fetches one address as a collection would, and keeps nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datafab.collect.endpoint import endpoint_error, endpoint_hash
from datafab.collect.plugins import plugin_fetch
from datafab.collect.plugins.parameters import plugin_media_type
from datafab.collect.plugins.wfs_timestamp import strip_timestamps, strip_wfs
from datafab.collect.service_report import HEAD_BYTES, TAIL_BYTES, asks_for_part
from datafab.collect.urlcheck import Finding, Table, Try, find_objection, plugins_for
from datafab.core.item import CollectFacts, ItemError
from datafab.errors import Fatal
from datafab.fetch.filename import filename, media_type
from datafab.fetch.refusal import Refusal, web_page
from datafab.fetch.result import FetchResult
from datafab.fetch.session import Fetcher, Session
from datafab.settings import Settings
from datafab.store.scratch import work_folder
from datafab.store.store import Store

#: Time limits of a complete answer and of a pause within it: a person is waiting.
TOTAL_SECONDS, READ_SECONDS = 120.0, 30.0
#: Statuses after which no plugin is tried.
CLIENT_ERRORS = range(400, 500)

#: Analyses a file, see ``Detective.analyse``.
Analyse = Callable[[Path], Mapping[str, Any]]


class UrlCheck:
    """Checks addresses."""

    def __init__(self, settings: Settings, analyse: Analyse) -> None:
        limits = {
            "total_timeout": min(settings.total_timeout, TOTAL_SECONDS),
            "read_timeout": min(settings.read_timeout, READ_SECONDS),
        }
        self._fetcher = Fetcher(settings.model_copy(update=limits))
        self._analyse = analyse

    def find(self, url: str, plugin: str | None = None, parameters: Mapping[str, Any] | None = None) -> Finding:
        """Return what an address gives; tries the matching plugins, unless one is named.

        Args:
            url: the address.
            plugin: the only one to try.
            parameters: as in the column of this name.
        """
        with work_folder() as folder, self._fetcher.session() as session:
            probe = _Probe(url, parameters, Store(folder), session)
            answers = [probe.fetch_by(plugin)]
            first = answers[0]
            if plugin is None and first.fetched.status is not None and first.fetched.status not in CLIENT_ERRORS:
                answers += [probe.fetch_by(name) for name in plugins_for(url, first.head)]
            # The last plugin matches best.
            best = next((answer for answer in reversed(answers) if answer.reason is None), answers[-1])
            return best.finding(url, probe.store, self._analyse, tuple(answer.summary for answer in answers))


class _Probe:
    """One address, fetched with several plugins."""

    def __init__(self, url: str, parameters: Mapping[str, Any] | None, store: Store, session: Session) -> None:
        self._url = url
        self._parameters = dict(parameters) if parameters else None
        self._session = session
        self.store = store

    def fetch_by(self, plugin: str | None) -> _Answer:
        facts = CollectFacts(endpoint=endpoint_hash(self._url), plugin=plugin, parameters=self._parameters)
        try:
            fetched = self._fetch(facts)
        except Fatal as error:
            fetched = FetchResult(url=self._url, elapsed=0.0, refusal=Refusal(error.code, error.message))
        return _Answer(plugin, fetched, *self._ends(fetched))

    def _fetch(self, facts: CollectFacts) -> FetchResult:
        error = endpoint_error(facts, self._url)
        if error is not None:
            raise error
        plugin = plugin_fetch(facts, self._url, lambda: None, lambda _: None)
        if plugin is not None:
            seconds, headers = plugin.page_seconds, plugin.headers
            return self._session.fetch_pages(
                self._url, self.store, plugin.produce, page_seconds=seconds, headers=headers
            )
        transform = strip_wfs if facts.plugin == "wfs" else strip_timestamps
        return self._session.fetch(self._url, self.store, transform=transform)

    def _ends(self, fetched: FetchResult) -> tuple[bytes, bytes]:
        """Return the first and the last bytes of a resource."""
        if fetched.sha256 is None:
            return b"", b""
        with self.store.open(fetched.sha256) as file:
            head = file.read(HEAD_BYTES)
            file.seek(max(0, (fetched.size or 0) - TAIL_BYTES))
            return head, file.read(TAIL_BYTES)


class _Answer:
    """The answer that one plugin, or a plain GET, got."""

    def __init__(self, plugin: str | None, fetched: FetchResult, head: bytes, tail: bytes) -> None:
        self.plugin = plugin
        self.fetched = fetched
        self.head = head
        self._tail = tail
        self.reason = self._refusal()

    def _refusal(self) -> ItemError | None:
        refusal = self.fetched.refusal
        if refusal is None and (media_type(self.fetched.headers) or "").startswith("text/html"):
            refusal = web_page(self.fetched.url)
        if refusal is not None:
            return ItemError(type=refusal.code, message=refusal.message, field="url")
        return find_objection(self.head, self._tail, part=asks_for_part(self.fetched.url))

    @property
    def summary(self) -> Try:
        return Try(plugin=self.plugin, status=self.fetched.status, reason=self.reason)

    def finding(self, url: str, store: Store, analyse: Analyse, tries: tuple[Try, ...]) -> Finding:
        fetched = self.fetched
        found = Finding(
            url=url,
            plugin=self.plugin,
            ok=self.reason is None,
            status=fetched.status,
            media_type=media_type(fetched.headers) or (plugin_media_type(self.plugin, url) if fetched.sha256 else None),
            filename=filename(fetched.headers, fetched.url),
            size=fetched.size,
            sha256=fetched.sha256,
            elapsed=round(fetched.elapsed, 3),
            reason=self.reason,
            tries=tries,
        )
        return found if self.reason is not None else found.evolve(**self._describe_table(store, analyse))

    def _describe_table(self, store: Store, analyse: Analyse) -> dict[str, Any]:
        assert self.fetched.sha256 is not None
        try:
            facts = analyse(store.path(self.fetched.sha256))
        except Fatal as error:
            return {"no_table": ItemError.of(error)}
        columns = tuple(str(name) for name in facts["header"])
        kept = {name: facts.get(name) for name in ("encoding", "separator")}
        return {"table": Table(rows=facts["total_lines"], columns=columns, **kept)}
