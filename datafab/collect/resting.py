"""Endpoints that an adaptive collection leaves out on a day: their resources have not ended."""

from __future__ import annotations

from datetime import date
from functools import cached_property

from datafab.collect.history import History, history_name
from datafab.settings import Settings
from datafab.store.store import Store


class RestingEndpoints:
    """The endpoints of a collection that are not due on a day, by their histories.

    Args:
        store: the collection.
        day: the day, in UTC.
        settings: give the hours between two fetches.
    """

    def __init__(self, store: Store, day: date, settings: Settings) -> None:
        self._store = store
        self._day = day
        self._bounds = (settings.adaptive_least, settings.adaptive_most)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self._store.names("history"))

    def keeps_open(self, endpoint: str, resource: str, last: str) -> bool:
        """Tell whether an endpoint is left out on the day, and had this resource when it was last fetched.

        Args:
            endpoint: the endpoint.
            resource: digest of the resource.
            last: day of the endpoint's last log. A later one than that of the history is of another collection.
        """
        name = history_name(endpoint)
        history = History.decoded(self._store.read(name)) if name in self._names else None
        return (
            history is not None
            and history.resource == resource
            and history.at.date().isoformat() >= last
            and history.rests_on(self._day, *self._bounds)
        )
