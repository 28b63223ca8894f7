"""How a pass goes over the pages of a udata catalogue, which move while they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from datafab.catalogue.dataset import moment
from datafab.errors import Retriable

#: How often one pass reads all of it again because the catalogue moved under it.
MAX_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list of datasets.

    Attributes:
        datasets: as the API has them.
        next_page: URL of the next one; None on the last.
        total: how many datasets there are, where it says so.
    """

    datasets: list[dict[str, Any]]
    next_page: str | None
    total: int | None


def until(cursor: datetime | None, overlap: timedelta) -> datetime | None:
    """Return how far back a pass goes: beyond the last one, for dates arrive late. None: to the end."""
    return cursor and cursor - overlap


class Walk:
    """One pass over the pages, which are sorted by ``last_update``, newest first, while rows move under it.

    A dataset that is changed goes to the top and shifts the others down: they come twice, and are told once. One that
    is deleted shifts the others up: some might not be seen. So when the total or the first dataset is another at the
    end than it was at the beginning, all is read again, and what is new is told. A large catalogue never rests, so
    after ``MAX_RESTARTS`` times that is enough: to be missed, a dataset must have been hidden each time.

    Attributes:
        url: of the page to be read next; None: the first.
        over: whether all has been read.
    """

    def __init__(self, until: datetime | None, state: Mapping[str, Any] | None = None) -> None:
        """Begin, or go on where ``state()`` was taken (what was told since the beginning may be told again)."""
        given = state or {}
        self._until = until
        self.url: str | None = given.get("url")
        self.over: bool = given.get("over", False)
        self._top: list[Any] | None = given.get("top")
        self._restarts: int = given.get("restarts", 0)
        self._ended: bool = given.get("ended", False)
        self._moved: bool = given.get("moved", False)
        self._read: set[str] = set()
        self._told: set[str] = set()

    def state(self) -> dict[str, Any]:
        """Return what another process needs to go on: a few bytes of JSON."""
        known = {"url": self.url, "over": self.over, "ended": self._ended, "moved": self._moved}
        return known | {"top": self._top, "restarts": self._restarts}

    def take(self, page: Page) -> list[dict[str, Any]]:
        """Take in the page of ``url``; return its datasets that are recent enough and were not told before.

        Raises:
            Retriable: the pages lead round in a circle.
        """
        fresh = [dataset for dataset in page.datasets if self._is_fresh(dataset)]
        if self.url is None:
            self._at_top(page)
        else:
            self._moved = self._moved or (self._top is not None and page.total != self._top[0])
            self._onwards(page)
        return fresh

    def _is_fresh(self, dataset: Mapping[str, Any]) -> bool:
        name = dataset.get("id")
        if not isinstance(name, str) or not name.strip() or name in self._told or self._is_old(dataset):
            return False
        self._told.add(name)
        return True

    def _is_old(self, dataset: Mapping[str, Any]) -> bool:
        updated = moment(dataset.get("last_update"))
        return self._until is not None and updated is not None and updated < self._until

    def _at_top(self, page: Page) -> None:
        """Read the first page: at the beginning, and once more at the end."""
        # With its date: that the same one is first again may be as it has changed after others had.
        first = page.datasets[0] if page.datasets else {}
        top = [page.total, first.get("id"), first.get("last_update")]
        if self._ended:
            if (top == self._top and not self._moved) or self._restarts == MAX_RESTARTS:
                self.over = True
                return
            self._restarts += 1
        self._top, self._ended, self._moved = top, False, False
        self._read.clear()
        self._onwards(page, first=True)

    def _onwards(self, page: Page, *, first: bool = False) -> None:
        dated = [dataset for dataset in page.datasets if moment(dataset.get("last_update")) is not None]
        # By the last one with a date: a single old row among newer ones is no end.
        if page.next_page is None or not page.datasets or (dated and self._is_old(dated[-1])):
            self.over, self._ended, self.url = first, True, None
            return
        if page.next_page in self._read:
            msg = f"{page.next_page}: the catalogue's pages lead round in a circle"
            raise Retriable(msg, code="catalogue_circle", field=page.next_page)
        self._read.add(page.next_page)
        self.url = page.next_page
