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
        notes: of the batch; what is known of silent servers is kept there, for its next attempt.
        rest: seconds that one rests.
    """

    def __init__(self, notes: MutableMapping[str, Any], rest: float) -> None:
        self._notes = notes
        self._rest = rest
        #: silences in a row so far, and the Unix time until which it rests
        self._silent: dict[str, tuple[int, float]] = {name: (n, at) for name, (n, at) in notes.get("hosts", {}).items()}

    def note(self, url: str, code: str | None, now: float) -> None:
        """Note how a fetch ended at this Unix time: the code of its failure, None for none."""
        if code in SILENT:
            host = _host(url)
            silences = self._silent.get(host, (0, 0.0))[0] + 1
            self._silent[host] = (silences, 0.0) if silences < ENOUGH else (0, now + self._rest)
        elif not self._silent or self._silent.pop(_host(url), None) is None:
            return
        self._notes["hosts"] = self._silent

    def rests(self, url: str, now: float) -> float | None:
        """Return the seconds for which the server of a URL is not to be asked; None: it may be."""
        left = self._silent.get(_host(url), (0, now))[1] - now if self._silent else 0.0
        return left if left > 0 else None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2].lower()
