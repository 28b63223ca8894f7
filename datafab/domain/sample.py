"""A fair sample of a table's rows, taken while all of them pass by and are counted. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from datafab.errors import Fatal

#: A table with more rows than this is sampled. csv-detective drops rows of tables of 10,000 and more.
WHOLE_ROWS = 9_999
#: Rows of a sample.
SAMPLE_ROWS = 2_000
#: Cells of a whole table or of a sample: each costs about 50 microseconds.
MAX_CELLS = 100_000
#: Characters held at once.
MAX_CHARS = 8 * 1024**2
#: Rows of a sample at least, however wide the table, unless they are very long.
LEAST_ROWS = 50
#: ``told`` hears of every so many rows.
TELL = 10_000


class Sample:
    """Rows of a table, none wider than its header.

    Attributes:
        rows: the rows that were kept.
        total: rows of the table.
        whole: whether ``rows`` are all of them.
        unused: positions of columns without a name in which no row holds anything.
    """

    def __init__(self, header: Sequence[str]) -> None:
        self.rows: list[list[str]] = []
        self.total = 0
        self.whole = True
        self.unused = {at for at, cell in enumerate(header) if not cell.strip()}
        affordable = max(LEAST_ROWS, MAX_CELLS // len(header))
        self._room, self._fair = min(WHOLE_ROWS, affordable), min(SAMPLE_ROWS, affordable)
        self._chars = 0
        # The same content gives the same sample, and with it the same analysis.
        self._random = random.Random(0)  # noqa: S311 - no secret

    def add(self, cells: list[str]) -> None:
        """Take a row into account: keep it, or not, with the same chance as every other."""
        self.total += 1
        if self.unused:
            self.unused = {at for at in self.unused if at >= len(cells) or not cells[at].strip()}
        if len(self.rows) < self._room:
            self.rows.append(cells)
            self._chars += sum(map(len, cells))
        else:
            if self.whole:
                self._shrink(self._fair)
            place = int(self._random.random() * self.total)
            if place < self._room:
                self._chars += sum(map(len, cells)) - sum(map(len, self.rows[place]))
                self.rows[place] = cells
        if self._chars > MAX_CHARS and len(self.rows) > 1:
            self._shrink(len(self.rows) // 2)

    def _shrink(self, room: int) -> None:
        """Go on with fewer rows: a fair sample of a fair sample is one."""
        self.whole = False
        self._room = room
        self.rows = self._random.sample(self.rows, room)
        self._chars = sum(sum(map(len, cells)) for cells in self.rows)


def sample(
    rows: Iterable[tuple[int, list[str]]], header: Sequence[str], told: Callable[[int], None] = lambda _: None
) -> Sample:
    """Count a table's rows and sample them. ``told(rows)`` hears how many have passed.

    Args:
        rows: (line, cells) of each record below the header.
        header: the header's cells.
        told: hears how many rows have passed, every ``TELL`` of them.

    Raises:
        Fatal: ``ragged``, a row has more cells than the header (blank ones at its end are forgiven).
    """
    width = len(header)
    found = Sample(header)
    for line, cells in rows:
        if len(cells) > width:
            if any(cell.strip() for cell in cells[width:]):
                msg = f"line {line} has {len(cells)} cells, the header {width}: quote cells that hold the separator"
                raise Fatal(msg, code="ragged", field=f"line {line}")
            del cells[width:]
        found.add(cells)
        if found.total % TELL == 0:
            told(found.total)
    return found
