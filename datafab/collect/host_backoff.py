"""Pauses of servers: of those that did not answer several endpoints of a batch in a row, or that ask for one."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NamedTuple

from datafab.urls import host_of

#: Codes of fetches whose server cannot be reached or does not answer, whatever it is asked for.
SILENT_CODES = frozenset({"timeout", "connection_refused", "unreachable", "dns", "disconnected"})
#: Silent fetches in a row, of different endpoints, after which a server is paused.
MAX_SILENCES = 3
#: Length of a pause, as a multiple of the delay before a first retry.
PAUSE_RETRY_DELAYS = 15.0
#: Pauses after which the endpoints that wait for a server fail.
MAX_PAUSES = 4


class HostPause(NamedTuple):
    """A pause in which a server is not asked.

    Attributes:
        seconds: until its end.
        requested: whether the server asked for it.
    """

    seconds: float
    requested: bool


class HostBackoff:
    """The servers of a batch that are paused or may soon be. All endpoints of one server wait for the same time.

    Args:
        notes: the batch's memo, which its next attempt reads too.
        pause_seconds: length of the pause of a silent server.
    """

    def __init__(self, notes: MutableMapping[str, Any], pause_seconds: float) -> None:
        self._notes = notes
        self._pause_seconds = pause_seconds
        #: host -> silent fetches in a row, Unix time at which its pause ends, whether it asked for that
        self._known: dict[str, tuple[int, float, bool]] = {
            name: (silences, until, requested) for name, (silences, until, requested) in notes.get("hosts", {}).items()
        }

    def note(self, url: str, code: str | None, now: float, pause: float | None = None) -> None:
        """Note how a fetch ended.

        Args:
            url: its URL.
            code: code of its failure; None for a success.
            now: Unix time.
            pause: seconds that the server asks for, if it does.
        """
        if pause is not None:
            self._known[host_of(url)] = (0, now + pause, True)
        elif code in SILENT_CODES:
            host = host_of(url)
            silences = self._known.get(host, (0, 0.0, False))[0] + 1
            paused = silences >= MAX_SILENCES
            self._known[host] = (0, now + self._pause_seconds, False) if paused else (silences, 0.0, False)
        elif not self._known or self._known.pop(host_of(url), None) is None:
            return
        self._notes["hosts"] = self._known

    def pause(self, url: str, now: float) -> HostPause | None:
        """Return the pause that a URL's server is in at this Unix time; None when it may be asked."""
        if not self._known:
            return None
        _, until, requested = self._known.get(host_of(url), (0, now, False))
        return HostPause(until - now, requested) if until > now else None
