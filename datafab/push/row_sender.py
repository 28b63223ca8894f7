"""Rows on their way into a table of CKAN's datastore: how many go in a request, and which of them CKAN refuses.

What a request may hold is known to nobody beforehand: CKAN has no limit of its own, the server in front of it mostly
has (nginx: 1 MB). A body that is refused with 413 is halved, and no later one is larger.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from datafab.errors import Fatal
from datafab.push.ckan import Ckan, encoded

#: Rows of one request, and bytes of its body, keys included: CKAN's cost is by row, a server's limit by bytes.
MAX_ROWS = 2000
MAX_BYTES = 2_000_000

#: A row of so many bytes may be too long for the full text that PostgreSQL makes of it (1 MB of words and positions, of
#: which a text can have six times its own length at worst).
LONG = 170_000
#: Rows that are tried before a table is deleted.
MAX_TRIALS = 50

Record = Mapping[str, Any]


class Row(NamedTuple):
    """A record as it is sent."""

    #: where it comes from, for messages: ``line 12``
    place: str
    #: its JSON
    text: bytes

    @property
    def record(self) -> dict[str, Any]:
        """The record itself."""
        found: dict[str, Any] = json.loads(self.text)
        return found


class Sender:
    """Appends rows to one table.

    Args:
        ckan: the CKAN.
        resource: id of the resource that has the table.
        total: how many rows there will be.
        sent: told after each request how many rows are there.
    """

    def __init__(self, ckan: Ckan, resource: str, total: int, sent: Callable[[int], None]) -> None:
        self._ckan = ckan
        self._resource = resource
        self._total = total
        self._told = sent
        self._limit = MAX_BYTES
        self.done = 0

    def send(self, records: Iterable[tuple[str, Record]]) -> int:
        """Append records, each with its place; return how many there were.

        Raises:
            Fatal: CKAN refuses one; the message names its place, and the field where that can be found out.
        """
        chunk: list[Row] = []
        size = 0
        for place, record in records:
            row = Row(place, encoded(record))
            if chunk and (len(chunk) == MAX_ROWS or size + len(row.text) > self._limit):
                self._append(chunk)
                chunk, size = [], 0
            chunk.append(row)
            size += len(row.text) + 1
        if chunk:
            self._append(chunk)
        return self.done

    def _append(self, rows: Sequence[Row]) -> None:
        """Append rows in one request, or in several where one is too large."""
        while rows:
            some = self._within(rows)
            try:
                last = self.done + len(some) >= self._total
                self._ckan.datastore_insert(self._resource, [row.text for row in some], last=last)
            except Fatal as error:
                if error.code != "ckan_413" or len(some) == 1:
                    self._refused(some, error)
                self._limit = sum(len(row.text) for row in some) // 2
                continue
            rows = rows[len(some) :]
            self.done += len(some)
            self._told(self.done)

    def _within(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return as many of the first rows as a request may hold, one at least."""
        size = 0
        for count, row in enumerate(rows):
            size += len(row.text) + 1
            if count and size > self._limit:
                return rows[:count]
        return rows

    def _refused(self, rows: Sequence[Row], error: Fatal) -> NoReturn:
        """Raise an error that names the row."""
        if error.code == "ckan_413":
            raise too_large(rows[0].place, len(rows[0].text), error)
        if error.code != "ckan_409":
            raise error
        bad, said = self._bad_row(rows, error)
        if bad is None:
            places = f"{rows[0].place} to {rows[-1].place}" if len(rows) > 1 else rows[0].place
            raise Fatal(f"{places}: {error.message}", code=error.code, field=error.field) from error
        column = self._bad_column(bad)
        where = f"{bad.place}, column {column!r}" if column else bad.place
        raise Fatal(f"{where}: {said.message}", code=error.code, field=error.field) from error

    def _bad_row(self, rows: Sequence[Row], error: Fatal) -> tuple[Row | None, Fatal]:
        """Find the first row that is refused by itself: CKAN names the last one of the request whichever it was."""
        said: Fatal | None = error
        while len(rows) > 1:
            first = rows[: len(rows) // 2]
            found = self._why_not([row.text for row in first])
            rows, said = (first, found) if found else (rows[len(first) :], said)
        said = self._why_not([rows[0].text])
        return (rows[0], said) if said else (None, error)

    def _bad_column(self, row: Row) -> str | None:
        """Find the field with which a row begins to be refused."""
        record = row.record
        names = list(record)
        low, high = 0, len(names)
        while high - low > 1:
            middle = (low + high) // 2
            part = dict.fromkeys(names) | {name: record[name] for name in names[:middle]}
            low, high = (low, middle) if self._why_not([encoded(part)]) else (middle, high)
        return names[low] if names else None

    def _why_not(self, texts: Sequence[bytes]) -> Fatal | None:
        """Return why CKAN does not take these records; None: it would. Nothing is kept."""
        try:
            self._ckan.datastore_insert(self._resource, texts, dry_run=True)
        except Fatal as error:
            return error
        return None


def too_large(place: str, size: int, error: Fatal) -> Fatal:
    """Return the error for a row that is by itself more than CKAN's server takes."""
    msg = (
        f"{place}: this row alone is a request of {size} bytes, which the server of this CKAN refuses (413): "
        "raise its limit (nginx: client_max_body_size), or shorten the row"
    )
    return Fatal(msg, code="ckan_413", field=error.field)


class Trial:
    """Tries on the table that is there whether the datastore would take a long row; nothing of it is kept.

    What a row is refused for is mostly its full text. That is made by the server, of all cells of a row, whichever
    column they are in: so the old table tells as well as the new one would. Without one there is nothing to lose.

    Args:
        ckan: the CKAN.
        resource: id of the resource that has the table.
    """

    def __init__(self, ckan: Ckan, resource: str) -> None:
        self._ckan = ckan
        self._resource = resource
        self._column: str | None = None
        self._left: int | None = None

    def take(self, place: str, record: Record) -> None:
        """Try a row.

        Raises:
            Fatal: it is too large for a request, or for the full text.
        """
        texts = {name: value for name, value in record.items() if value}
        joined = " ".join(texts.values())
        if len(joined.encode("utf-8", "replace")) < LONG or not self._ready():
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
        """Find a column of texts in the table; False: there is none, or enough was tried."""
        if self._left is None:
            info = self._ckan.datastore_info(self._resource) or {"fields": []}
            self._column = next((field["id"] for field in info["fields"] if field["type"] == "text"), None)
            self._left = MAX_TRIALS if self._column else 0
        self._left -= 1
        return self._left >= 0
