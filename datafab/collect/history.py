"""The history of an endpoint: what to ask its server for, and when it is due for the next fetch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, time, timedelta
from http import HTTPStatus
from typing import Any, Self

from datafab.collect.fetchlog import FetchLog, is_digest
from datafab.core.backoff import REVISIT_HOURS

#: Headers of an answer that later requests or the type and name of its resource need.
_KEPT_HEADERS = ("etag", "last-modified", "content-type", "content-disposition")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The last fetches of an endpoint. Each change of its resource starts a new history.

    Attributes:
        at: time of the last fetch, in UTC without a zone.
        plugin: plugin that made the resource; another plugin makes another one.
        resource: sha256 of the last resource; None when there was none yet.
        headers: some headers of the answer with the resource, with lower-case names.
        same: fetches in a row that gave the same resource again.
        failed: whether the last fetch gave no resource.
        adaptive: whether the endpoint is not fetched again before it is due.
    """

    at: datetime
    plugin: str | None = None
    resource: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    same: int = 0
    failed: bool = False
    adaptive: bool = False

    def encoded(self) -> bytes:
        """Return the content of the file."""
        return json.dumps(asdict(self) | {"at": self.at.isoformat()}, sort_keys=True).encode()

    @classmethod
    def decoded(cls, data: bytes | None) -> Self | None:
        """Read a file; None when there is none, or it is no history."""
        try:
            found: dict[str, Any] = json.loads(data or b"")
            history = cls(**found | {"at": datetime.fromisoformat(found["at"])})
            history.is_due(history.at, 1.0, 1.0)
        except (ValueError, KeyError, TypeError):
            return None
        valid = history.resource is None or (isinstance(history.resource, str) and is_digest(history.resource))
        return history if valid and isinstance(history.headers, dict) else None

    def conditions(self) -> dict[str, str]:
        """Return the headers of a request that the server need not answer again when nothing has changed."""
        named = {"If-None-Match": "etag", "If-Modified-Since": "last-modified"}
        return {name: self.headers[kept] for name, kept in named.items() if self.headers.get(kept)}

    def is_due(self, now: datetime, least: float, most: float) -> bool:
        """Tell whether the endpoint is due for another fetch.

        Half an hour is allowed for: a daily job may start a little earlier than the day before.

        Args:
            now: in UTC without a zone.
            least: hours between two fetches, at least.
            most: hours between two fetches, at most.
        """
        delay = REVISIT_HOURS[0] if self.failed else REVISIT_HOURS[min(self.same, len(REVISIT_HOURS) - 1)]
        return now - self.at >= timedelta(hours=max(least, min(delay, most)) - 0.5)

    def rests_on(self, day: date, least: float, most: float) -> bool:
        """Tell whether an adaptive collection leaves the endpoint out on a day, as its resource seldom changes.

        Args:
            day: the day, in UTC.
            least: hours between two fetches, at least.
            most: hours between two fetches, at most.
        """
        return self.adaptive and not self.failed and not self.is_due(datetime.combine(day, time.min), least, most)


def history_name(endpoint: str) -> str:
    """Return the name of an endpoint's history in a store."""
    return f"history/{endpoint}.json"


def next_history(before: History | None, log: FetchLog, *, adaptive: bool = False) -> History:
    """Return the history after another fetch, by an adaptive collection or by another."""
    known = before if before is not None and before.plugin == log.plugin else None
    if log.resource is None:
        return replace(known or History(at=log.at, plugin=log.plugin), at=log.at, failed=True, adaptive=adaptive)
    same = known.same + 1 if known is not None and known.resource == log.resource else 0
    headers = {name.lower(): value for name, value in log.response_headers.items() if name.lower() in _KEPT_HEADERS}
    if log.status == HTTPStatus.NOT_MODIFIED and known is not None:
        headers = {**known.headers, **headers}
    return History(at=log.at, plugin=log.plugin, resource=log.resource, headers=headers, same=same, adaptive=adaptive)
