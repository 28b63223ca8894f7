"""Sending rows to a table of CKAN's datastore, and finding the row that CKAN refuses.

The largest request is not known beforehand: CKAN has no limit, but the server in front of it mostly has one (nginx:
1 MB). A body that is refused with 413 is halved, and no later one is larger.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from datafab.errors import Fatal
from datafab.push.ckan import Ckan, encoded

#: Most rows and bytes of one request. CKAN's time depends on the rows, a server's limit on the bytes.
MAX_REQUEST_ROWS = 2000
MAX_REQUEST_BYTES = 2_000_000

#: From this size, a row may be too long for the full text index of PostgreSQL (1 MB of words and positions, which can
#: take six times the length of the text).
LONG_ROW_BYTES = 170_000
#: Most rows that are tried before a table is deleted.
MAX_TRIAL_ROWS = 50

Record = Mapping[str, Any]


class Row(NamedTuple):
    """A record in the form in which it is sent."""

    #: its origin, for messages: ``line 12``
    place: str
    #: the record as JSON
    text: bytes

    @property
    def record(self) -> dict[str, Any]:
        """The record itself."""
        found: dict[str, Any] = json.loads(self.text)
        return found


class RowSender:
    """Appends rows to one table.

    Args:
        ckan: client of the CKAN.
        resource: id of the resource of the table.
        total: number of rows that will be sent.
        on_progress: called after each request with the number of rows in the table.
    """

    def __init__(self, ckan: Ckan, resource: str, total: int, on_progress: Callable[[int], None]) -> None:
        self._ckan = ckan
        self._resource = resource
        self._total = total
        self._on_progress = on_progress
        self._limit = MAX_REQUEST_BYTES
        self.done = 0

    def send(self, records: Iterable[tuple[str, Record]]) -> int:
        """Append records, each with its place; return their number.

        Raises:
            Fatal: CKAN refuses one; the message names its place, and the field if that can be found.
        """
        chunk: list[Row] = []
        size = 0
        for place, record in records:
            row = Row(place, encoded(record))
            if chunk and (len(chunk) == MAX_REQUEST_ROWS or size + len(row.text) > self._limit):
                self._append(chunk)
                chunk, size = [], 0
            chunk.append(row)
            size += len(row.text) + 1
        if chunk:
            self._append(chunk)
        return self.done

    def _append(self, rows: Sequence[Row]) -> None:
        """Append rows in one request, or in several if one is too large."""
        while rows:
            some = self._fitting(rows)
            try:
                last = self.done + len(some) >= self._total
                self._ckan.datastore_insert(self._resource, [row.text for row in some], last=last)
            except Fatal as error:
                if error.code != "ckan_413" or len(some) == 1:
                    self._raise_refusal(some, error)
                self._limit = sum(len(row.text) for row in some) // 2
                continue
            rows = rows[len(some) :]
            self.done += len(some)
            self._on_progress(self.done)

    def _fitting(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the first rows that fit into one request, at least one row."""
        size = 0
        for count, row in enumerate(rows):
            size += len(row.text) + 1
            if count and size > self._limit:
                return rows[:count]
        return rows

    def _raise_refusal(self, rows: Sequence[Row], error: Fatal) -> NoReturn:
        """Raise an error that names the refused row."""
        if error.code == "ckan_413":
            raise too_large(rows[0].place, len(rows[0].text), error)
        if error.code != "ckan_409":
            raise error
        refused, refusal = self._bad_row(rows, error)
        if refused is None:
            places = f"{rows[0].place} to {rows[-1].place}" if len(rows) > 1 else rows[0].place
            raise Fatal(f"{places}: {error.message}", code=error.code, field=error.field) from error
        column = self._bad_column(refused)
        where = f"{refused.place}, column {column!r}" if column else refused.place
        raise Fatal(f"{where}: {refusal.message}", code=error.code, field=error.field) from error

    def _bad_row(self, rows: Sequence[Row], error: Fatal) -> tuple[Row | None, Fatal]:
        """Find the first row that is refused alone: CKAN always names the last row of the request."""
        refusal: Fatal | None = error
        while len(rows) > 1:
            first = rows[: len(rows) // 2]
            found = self._refusal([row.text for row in first])
            rows, refusal = (first, found) if found else (rows[len(first) :], refusal)
        refusal = self._refusal([rows[0].text])
        return (rows[0], refusal) if refusal else (None, error)

    def _bad_column(self, row: Row) -> str | None:
        """Find the first field that causes the refusal of a row."""
        record = row.record
        names = list(record)
        low, high = 0, len(names)
        while high - low > 1:
            middle = (low + high) // 2
            part = dict.fromkeys(names) | {name: record[name] for name in names[:middle]}
            low, high = (low, middle) if self._refusal([encoded(part)]) else (middle, high)
        return names[low] if names else None

    def _refusal(self, texts: Sequence[bytes]) -> Fatal | None:
        """Return why CKAN refuses these records; None if it would accept them. Nothing is stored."""
        try:
            self._ckan.datastore_insert(self._resource, texts, dry_run=True)
        except Fatal as error:
            return error
        return None


def too_large(place: str, size: int, error: Fatal) -> Fatal:
    """Return the error for a row that alone exceeds the limit of CKAN's server."""
    msg = (
        f"{place}: this row alone is a request of {size} bytes, which the server of this CKAN refuses (413): "
        "raise its limit (nginx: client_max_body_size), or shorten the row"
    )
    return Fatal(msg, code="ckan_413", field=error.field)


class LongRowTrial:
    """A trial of long rows on the current table, before it is deleted; nothing is stored.

    A long row is mostly refused for its full text index, which PostgreSQL builds from all cells of a row, whatever
    their columns. So the current table shows whether the new one would accept the row. Without a table there is nothing
    to lose, and nothing is tried.

    Args:
        ckan: client of the CKAN.
        resource: id of the resource of the table.
    """

    def __init__(self, ckan: Ckan, resource: str) -> None:
        self._ckan = ckan
        self._resource = resource
        self._column: str | None = None
        self._left: int | None = None

    def take(self, place: str, record: Record) -> None:
        """Try a row, if it is long.

        Raises:
            Fatal: it is too large for a request, or for the full text index.
        """
        texts = {name: value for name, value in record.items() if value}
        joined = " ".join(texts.values())
        if len(joined.encode("utf-8", "replace")) < LONG_ROW_BYTES or not self._ready():
            return
        try:
            self._ckan.datastore_insert(self._resource, [{str(self._column): joined}], dry_run=True)
        except Fatal as error:
            if error.code == "ckan_413":
                raise too_large(place, len(joined), error) from error
            if "tsvector" in error.message:
                column = max(texts, key=lambda name: len(texts[name]))
                msg = f"{place}, column {column!r}: {error.message}: shorten the text"
                raise Fatal(msg, code=error.code, field=error.field) from error

    def _ready(self) -> bool:
        """Find a text column of the table; return False if there is none, or if enough rows were tried."""
        if self._left is None:
            info = self._ckan.datastore_info(self._resource) or {"fields": []}
            self._column = next((field["id"] for field in info["fields"] if field["type"] == "text"), None)
            self._left = MAX_TRIAL_ROWS if self._column else 0
        self._left -= 1
        return self._left >= 0
