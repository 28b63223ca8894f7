"""Reading all pages of a udata catalogue while its datasets move from page to page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from datafab.catalogue.dataset import parse_moment
from datafab.errors import Retriable

#: How often one pass reads all pages again because the catalogue changed meanwhile.
MAX_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list of datasets.

    Attributes:
        datasets: the datasets as the API describes them.
        next_page: URL of the next page; None on the last.
        total: number of datasets, if the API gives it.
    """

    datasets: list[dict[str, Any]]
    next_page: str | None
    total: int | None


def pass_horizon(cursor: datetime | None, overlap: timedelta) -> datetime | None:
    """Return the date back to which a pass reads: before the last pass, as dates arrive late. None: all datasets."""
    return cursor and cursor - overlap


class CataloguePager:
    """One pass over the pages, which are sorted by ``last_update``, newest first, and change while they are read.

    A dataset that is updated moves to the top and shifts the others down: they appear twice, and are returned once. A
    dataset that is deleted shifts the others up: some might be missed. So if the total or the first dataset has changed
    by the end, all pages are read again, and datasets that were not returned yet are. A large catalogue never stands
    still, so this is repeated at most ``MAX_RESTARTS`` times: a dataset is only missed if it was missed each time.

    Attributes:
        url: URL of the page to read next; None: the first page.
        finished: whether all pages have been read.
    """

    def __init__(self, horizon: datetime | None, state: Mapping[str, Any] | None = None) -> None:
        """Start a pass, or continue one from its ``state()`` (which may return datasets a second time)."""
        saved = state or {}
        self._horizon = horizon
        self.url: str | None = saved.get("url")
        self.finished: bool = saved.get("over", False)
        self._top: list[Any] | None = saved.get("top")
        self._restarts: int = saved.get("restarts", 0)
        self._ended: bool = saved.get("ended", False)
        self._moved: bool = saved.get("moved", False)
        self._read_urls: set[str] = set()
        self._returned_ids: set[str] = set()

    def state(self) -> dict[str, Any]:
        """Return what another process needs to continue: a few bytes of JSON."""
        position = {"url": self.url, "over": self.finished, "ended": self._ended, "moved": self._moved}
        return position | {"top": self._top, "restarts": self._restarts}

    def accept(self, page: Page) -> list[dict[str, Any]]:
        """Process the page of ``url``; return its datasets that are recent enough and were not returned before.

        Raises:
            Retriable: a page links to one that was read already.
        """
        fresh = [dataset for dataset in page.datasets if self._is_fresh(dataset)]
        if self.url is None:
            self._accept_first(page)
        else:
            self._moved = self._moved or (self._top is not None and page.total != self._top[0])
            self._go_on(page)
        return fresh

    def _is_fresh(self, dataset: Mapping[str, Any]) -> bool:
        name = dataset.get("id")
        if not isinstance(name, str) or not name.strip() or name in self._returned_ids or self._is_old(dataset):
            return False
        self._returned_ids.add(name)
        return True

    def _is_old(self, dataset: Mapping[str, Any]) -> bool:
        updated = parse_moment(dataset.get("last_update"))
        return self._horizon is not None and updated is not None and updated < self._horizon

    def _accept_first(self, page: Page) -> None:
        """Process the first page, which is read at the start and once more at the end."""
        # With its date: the same dataset may be first because it was updated after others.
        first = page.datasets[0] if page.datasets else {}
        top = [page.total, first.get("id"), first.get("last_update")]
        if self._ended:
            if (top == self._top and not self._moved) or self._restarts == MAX_RESTARTS:
                self.finished = True
                return
            self._restarts += 1
        self._top, self._ended, self._moved = top, False, False
        self._read_urls.clear()
        self._go_on(page, first=True)

    def _go_on(self, page: Page, *, first: bool = False) -> None:
        dated = [dataset for dataset in page.datasets if parse_moment(dataset.get("last_update")) is not None]
        # The last dataset with a date decides: a single old one among newer ones is not the end.
        if page.next_page is None or not page.datasets or (dated and self._is_old(dated[-1])):
            self.finished, self._ended, self.url = first, True, None
            return
        if page.next_page in self._read_urls:
            msg = f"{page.next_page}: the catalogue's pages form a loop: this page was read already"
            raise Retriable(msg, code="catalogue_circle", field=page.next_page)
        self._read_urls.add(page.next_page)
        self.url = page.next_page
