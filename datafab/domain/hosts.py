"""Servers that do not answer: after some failures in a row nobody else of a batch waits for one."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

#: What says that a server cannot be reached, or does not answer, whatever it is asked for.
SILENT = frozenset({"timeout", "connection_refused", "unreachable", "dns", "disconnected"})
#: So many silences in a row, over different endpoints, and a server rests.
ENOUGH = 3
#: How long it rests, in first delays of a retry; how often, before what waits for it has failed.
REST, RESTS = 15.0, 4


class Hosts:
    """What is known of the servers of a batch. All that wait for one are woken together, and some try it again.

    Args:
        notes: of the batch; those servers that rest are kept there, for its next attempt.
        rest: seconds that they do.
    """

    def __init__(self, notes: MutableMapping[str, Any], rest: float) -> None:
        self._notes = notes
        self._rest = rest
        self._until: dict[str, float] = dict(notes.get("hosts", {}))
        self._silences: dict[str, int] = {}

    def note(self, url: str, code: str | None, now: float) -> None:
        """Note how a fetch ended at this Unix time: the code of its failure, None for none."""
        host = _host(url)
        if code not in SILENT:
            self._silences.pop(host, None)
            return
        self._silences[host] = self._silences.get(host, 0) + 1
        if self._silences[host] >= ENOUGH:
            del self._silences[host]
            self._until[host] = now + self._rest
            self._notes["hosts"] = {name: until for name, until in self._until.items() if until > now}

    def rests(self, url: str, now: float) -> float | None:
        """Return the seconds for which the server of a URL is not to be asked; None: it may be."""
        left = self._until.get(_host(url), now) - now
        return left if left > 0 else None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()
