"""Servers that rest: those that did not answer some of a batch in a row, and those that ask for a break."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from datafab.urls import host_of

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
        #: silences in a row so far, the Unix time until which it rests, and whether it has asked for that
        self._known: dict[str, tuple[int, float, bool]] = {
            name: (n, at, asked) for name, (n, at, asked) in notes.get("hosts", {}).items()
        }

    def note(self, url: str, code: str | None, now: float, pause: float | None = None) -> None:
        """Note how a fetch ended at this Unix time.

        Args:
            url: its URL.
            code: of its failure; None for none.
            now: the time.
            pause: seconds for which the server wants to be left alone, if it says so.
        """
        if pause is not None:
            self._known[host_of(url)] = (0, now + pause, True)
        elif code in SILENT:
            host = host_of(url)
            silences = self._known.get(host, (0, 0.0, False))[0] + 1
            self._known[host] = (silences, 0.0, False) if silences < ENOUGH else (0, now + self._rest, False)
        elif not self._known or self._known.pop(host_of(url), None) is None:
            return
        self._notes["hosts"] = self._known

    def rests(self, url: str, now: float) -> tuple[float, bool] | None:
        """Return the seconds for which a URL's server is not to be asked, and if it wants that; None: it may be."""
        if not self._known:
            return None
        _, until, asked = self._known.get(host_of(url), (0, now, False))
        return (until - now, asked) if until > now else None
