"""What is known of an endpoint from its last look: what to ask its server, and when to look again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Self

from datafab.collect.fetchlog import FetchLog, is_digest
from datafab.core.backoff import REVISIT_HOURS

#: Of an answer: what a later request names, and what its resource is taken to be.
_KEPT = ("etag", "last-modified", "content-type", "content-disposition")


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How an endpoint was last seen. Each change begins a new one.

    Attributes:
        at: when it was last asked, in UTC without a zone.
        plugin: what made a resource of its answer: another one makes another.
        resource: sha256 of what it last gave; None: nothing yet.
        headers: some headers of the answer that it came with, in small letters.
        same: how many looks in a row have found the same.
        failed: whether the last look found nothing.
    """

    at: datetime
    plugin: str | None = None
    resource: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    same: int = 0
    failed: bool = False

    def encoded(self) -> bytes:
        """Return the file."""
        return json.dumps(asdict(self) | {"at": self.at.isoformat()}, sort_keys=True).encode()

    @classmethod
    def decoded(cls, data: bytes | None) -> Self | None:
        """Read a file; None when there is none, or none of ours."""
        try:
            found: dict[str, Any] = json.loads(data or b"")
            history = cls(**found | {"at": datetime.fromisoformat(found["at"])})
            history.due(history.at, 1.0, 1.0)
        except (ValueError, KeyError, TypeError):
            return None
        known = history.resource is None or (isinstance(history.resource, str) and is_digest(history.resource))
        return history if known and isinstance(history.headers, dict) else None

    def conditions(self) -> dict[str, str]:
        """Return the headers of a request that is to be answered only when there is something new."""
        named = {"If-None-Match": "etag", "If-Modified-Since": "last-modified"}
        return {name: self.headers[kept] for name, kept in named.items() if self.headers.get(kept)}

    def due(self, now: datetime, least: float, most: float) -> bool:
        """Tell whether the endpoint is to be looked at.

        The hours since the last look are rounded: what runs once a day does so by a minute more or less.

        Args:
            now: in UTC without a zone.
            least: hours that pass between two looks at any rate.
            most: hours after which there is one at any rate.
        """
        delay = REVISIT_HOURS[0] if self.failed else REVISIT_HOURS[min(self.same, len(REVISIT_HOURS) - 1)]
        return now - self.at >= timedelta(hours=max(least, min(delay, most)) - 0.5)


def history_name(endpoint: str) -> str:
    """Return the name in a store of what is known of an endpoint."""
    return f"history/{endpoint}.json"


def after(before: History | None, log: FetchLog) -> History:
    """Return what is known after a look."""
    known = before if before is not None and before.plugin == log.plugin else None
    if log.resource is None:
        return replace(known or History(at=log.at, plugin=log.plugin), at=log.at, failed=True)
    same = known.same + 1 if known is not None and known.resource == log.resource else 0
    headers = {name.lower(): value for name, value in log.response_headers.items() if name.lower() in _KEPT}
    if log.status == HTTPStatus.NOT_MODIFIED and known is not None:
        headers = {**known.headers, **headers}
    return History(at=log.at, plugin=log.plugin, resource=log.resource, headers=headers, same=same)
