"""What a fetch returns: a value, whether it gave a resource or not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from datafab.core.backoff import retry_after
from datafab.errors import Fatal, Retriable
from datafab.fetch.refusal import Refusal, is_transient


class Refused(Exception):
    """An answer that cannot become a resource, or a part of one."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    """The result of a fetch.

    Attributes:
        url: the last one requested, after redirects.
        status: HTTP status of the last answer; None where no complete answer came.
        headers: its headers, with names as the server wrote them.
        request_headers: the headers of its request, without credentials.
        elapsed: seconds until the last byte.
        sha256: digest of the resource in the store; None when refused.
        size: bytes of the resource.
        refusal: why there is no resource.
        redirects: the addresses that redirects led to, the last one included.
    """

    url: str
    elapsed: float
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_headers: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    size: int | None = None
    refusal: Refusal | None = None
    redirects: tuple[str, ...] = ()

    def header(self, name: str) -> str:
        """Return a header of the last answer by its lower-case name; empty when there is none."""
        return next((text for key, text in self.headers.items() if key.lower() == name), "")

    @property
    def pause(self) -> float | None:
        """Seconds that the server asks to wait (Retry-After); None when it does not say."""
        return retry_after(self.header("retry-after"), self.header("date"))

    def error(self, field: str, *, transient: Collection[str] = (), retries: int | None = None) -> Fatal | Retriable:
        """Return why there is no resource, as an error: Retriable where a later fetch may succeed.

        Args:
            field: what the error is about.
            transient: codes of refusals that may pass here, besides those that always may.
            retries: see ``Retriable``.
        """
        assert self.refusal is not None
        code, message = self.refusal.code, self.refusal.message
        if not (is_transient(code) or code in transient):
            return Fatal(message, code=code, field=field)
        return Retriable(message, delay=self.pause, retries=retries, code=code, field=field)
