"""The log of one fetch: one canonical JSON file for each endpoint and day, as digital-land's tools read it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Self

# As canonicaljson writes: sorted keys, no blanks, no unnecessary escapes.
_CANONICAL = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchLog:
    """The log of one fetch.

    Attributes:
        url: as in ``endpoint.csv``.
        at: start of the fetch, in UTC without a zone: readers compare it with such times.
        elapsed: seconds.
        ssl_verify: whether a certificate would have been verified; None where no request was prepared.
        status: HTTP status; None where no answer came.
        request_headers: of the last request; empty where several answers made the resource.
        response_headers: of the last answer.
        exception: class name of the error, as ``requests`` names it.
        resource: sha256 of the stored resource.
        size: its bytes. This and the following are keys that the original does not write. Its readers ignore them,
            except ``bytes``, which they prefer to the Content-Length.
        reason: code of the failure.
        message: the failure in words.
        plugin: the plugin of the endpoint.
        attempts: requests that this job has made for the endpoint.
        redirects: the addresses that redirects led to.
    """

    url: str
    at: datetime
    elapsed: float = 0.0
    ssl_verify: bool | None = True
    status: int | None = None
    request_headers: Mapping[str, str] = field(default_factory=dict)
    response_headers: Mapping[str, str] = field(default_factory=dict)
    exception: str | None = None
    resource: str | None = None
    size: int | None = None
    reason: str | None = None
    message: str | None = None
    plugin: str | None = None
    attempts: int | None = None
    redirects: tuple[str, ...] = ()

    def encoded(self, *, facts: bool = False) -> bytes:
        """Return the file: canonical JSON without a line end; ``facts`` adds the keys that the original lacks."""
        log: dict[str, Any] = {
            "endpoint-url": self.url,
            "entry-date": self.at.isoformat(timespec="microseconds"),
            "elapsed": str(round(self.elapsed, 3)),
        }
        if self.status is not None:
            log["status"] = str(self.status)
        if self.request_headers:
            log |= {"request-headers": dict(self.request_headers), "response-headers": dict(self.response_headers)}
        optional: dict[str, Any] = {
            "ssl-verify": self.ssl_verify,
            "exception": self.exception,
            "resource": self.resource,
        }
        if facts:
            optional |= {"bytes": self.size, "reason": self.reason, "message": self.message, "plugin": self.plugin}
            optional |= {"attempts": self.attempts, "redirects": list(self.redirects) or None}
        log |= {key: value for key, value in optional.items() if value is not None}
        return _CANONICAL.encode(log).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Self | None:
        """Read a log, datafab's or the original's; None when it is not one (cut short, or of another kind)."""
        try:
            log = json.loads(data)
            if not is_digest(log.get("resource") or "0" * 64):
                return None
            return cls(
                url=log.get("endpoint-url") or log["url"],
                at=_naive(log.get("entry-date") or log["datetime"]),
                elapsed=float(log.get("elapsed") or 0),
                ssl_verify=log.get("ssl-verify"),
                status=int(log["status"]) if "status" in log else None,
                request_headers=log.get("request-headers") or {},
                response_headers=log.get("response-headers") or {},
                exception=log.get("exception"),
                resource=log.get("resource"),
                size=int(log["bytes"]) if log.get("bytes") else None,
                reason=log.get("reason"),
                message=log.get("message"),
                plugin=log.get("plugin"),
                attempts=log.get("attempts"),
                redirects=tuple(log.get("redirects") or ()),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    @property
    def failure(self) -> tuple[str, str | None]:
        """The code of a failure, and its message where the log has one."""
        if self.reason is None and self._is_web_page:
            return "html", self.message
        refused = self.status is not None and self.status != HTTPStatus.OK
        return self.reason or (f"http_{self.status}" if refused else self.exception or "failed"), self.message

    @property
    def answered(self) -> str:
        """What the server answered instead of a resource, in words."""
        if self._is_web_page:
            return "the server answered with a web page instead of data"
        if self.status == HTTPStatus.OK:
            return "the server answered 200, but with nothing that can be kept"
        return f"the server answered {self.status}" if self.status else "there was no answer"

    @property
    def _is_web_page(self) -> bool:
        """Whether the answer was a web page with status 200, which the original refuses without logging a reason."""
        kinds = (value.lower() for name, value in self.response_headers.items() if name.lower() == "content-type")
        return self.status == HTTPStatus.OK and any(kind.lstrip().startswith("text/html") for kind in kinds)

    def started_since(self, unix_time: float) -> bool:
        """Tell whether the fetch started at or after this Unix time."""
        return self.at.replace(tzinfo=UTC).timestamp() >= unix_time


def is_digest(text: str) -> bool:
    """Tell whether a text is a sha256 in hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def log_name(endpoint: str, at: datetime) -> str:
    """Return the name of a log in a store: one for each endpoint and day (UTC)."""
    return f"log/{at:%Y-%m-%d}/{endpoint}.json"


def _naive(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
