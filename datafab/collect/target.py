"""An endpoint whose turn it is, with what its collection holds of it, and the options of the job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, Self

from datafab.collect.endpoint import FetchStatus, with_fetch_status
from datafab.collect.fetchlog import FetchLog, log_name
from datafab.collect.history import History, history_name
from datafab.collect.plugins.parameters import plugin_media_type
from datafab.core.item import CollectFacts, Item, Status
from datafab.fetch.filename import filename, media_type
from datafab.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The parameters of a job that collects.

    Attributes:
        log_facts: write the keys that the original's logs do not have: bytes, reason, message, plugin, attempts,
            redirects.
        conditional: ask the server for what has changed only.
        adaptive: fetch endpoints that seldom change less often.
        as_served: keep a service's errors and partial answers as resources.
        refill_todays_logs: fetch endpoints that have a log of today again.
        retry_failed: fetch endpoints whose last fetch failed again.
    """

    log_facts: bool = False
    conditional: bool = False
    adaptive: bool = False
    as_served: bool = False
    refill_todays_logs: bool = False
    retry_failed: bool = False

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of the parameters."""
        return frozenset(field.name for field in fields(cls))

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """Read the options among a job's parameters."""
        return cls(**{name: bool(params.get(name)) for name in cls.names()})

    @property
    def keep_history(self) -> bool:
        """Whether the next job needs to know how this fetch ended."""
        return self.conditional or self.adaptive


@dataclass(frozen=True, kw_only=True)
class Target:
    """One endpoint at one time.

    Attributes:
        item: the item of the job.
        facts: the endpoint's row.
        url: the endpoint's URL.
        store: the collection.
        now: the cluster's time in UTC without a zone, as logs have it.
    """

    item: Item
    facts: CollectFacts
    url: str
    store: Store
    now: datetime

    @property
    def log_name(self) -> str:
        """The name of today's log in the collection."""
        return log_name(self.facts.endpoint, self.now)

    @cached_property
    def history(self) -> History | None:
        """The endpoint's history, if the same plugin made it. Read once: logging a fetch replaces the file."""
        history = History.decoded(self.store.read(history_name(self.facts.endpoint)))
        return history if history is not None and history.plugin == self.facts.plugin else None

    def with_resource(self, log: FetchLog, url: str | None = None, size: int | None = None) -> Item | None:
        """Return the item with the resource that a log names; None when the store does not have it.

        Args:
            log: the log of a fetch.
            url: the address that answered; the endpoint's unless given.
            size: bytes of a resource that was just written: a bucket need not be asked for them.
        """
        size = self.store.size(log.resource or "") if size is None else size
        if size is None:
            return None
        headers = log.response_headers
        if "content-type" not in map(str.lower, headers) and self.history and self.history.resource == log.resource:
            headers = {**headers, **self.history.headers}  # an answer without a body may leave its type out
        return self.item.evolve(
            sha256=log.resource,
            size=size,
            media_type=media_type(headers) or plugin_media_type(self.facts.plugin, self.url),
            filename=filename(headers, url or self.url),
        )

    def with_last_resource(self) -> Item | None:
        """Return the item with the endpoint's last resource; None when the store does not have it."""
        if self.history is None or self.history.resource is None:
            return None
        return self.with_resource(FetchLog(url=self.url, at=self.history.at, resource=self.history.resource))

    def collected(self, log: FetchLog, url: str, size: int | None = None) -> Item:
        """Return the item of a fetch that gave a resource; for the arguments see ``with_resource``."""
        item = self.with_resource(log, url, size) or self.item
        status = Status.UNCHANGED if log.status == HTTPStatus.NOT_MODIFIED else Status.OK
        return with_fetch_status(item, FetchStatus.OK, status=status, http_status=log.status)
