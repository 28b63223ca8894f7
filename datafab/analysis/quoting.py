r"""Detect how the cells of a text are quoted, where that is not by the rules of RFC 4180. Pure.

Another way is only assumed if some cell shows it (``'a; b'``, ``"a \"b\" c"``, ``1, "a, b"``) and more records have the
same number of cells when they are read so, or as many and no mark is left in a cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from datafab.analysis.header import most_common_width
from datafab.analysis.header_candidate import Record
from datafab.analysis.records import STANDARD, Quoting, read_records
from datafab.errors import Fatal

#: Maximum number of records and of lines that are read.
_RECORDS, _LINES = 100, 1000
_SEPARATORS = ";,\t|"
_START, _END = rf"(?:^|[{_SEPARATORS}])", rf"(?=\s*(?:[{_SEPARATORS}]|$))"
#: Ways of quoting with a pattern that some cell must match.
_OTHERS = (
    (Quoting(escape="\\"), rf'{_START}"(?:[^"\\]|\\.)*\\"(?![{_SEPARATORS}\r\n])'),
    (Quoting(skip_blanks=True), rf'[{_SEPARATORS}] +"[^"\n]*"{_END}'),
    (Quoting(escape="\\", skip_blanks=True), rf'[{_SEPARATORS}] +"(?:[^"\\]|\\.)*\\"(?![{_SEPARATORS}\r\n])'),
    (Quoting("'"), rf"{_START}'[^'\n]*[{_SEPARATORS}][^'\n]*'{_END}"),
    (Quoting("'", skip_blanks=True), rf"[{_SEPARATORS}] +'[^'\n]*[{_SEPARATORS}][^'\n]*'{_END}"),
)
_OTHER_QUOTINGS = tuple((quoting, re.compile(pattern, re.MULTILINE)) for quoting, pattern in _OTHERS)


def detect_quoting(lines: Sequence[str]) -> Quoting:
    """Return how the cells of a text are quoted, by its first lines."""
    head = lines[:_LINES]
    text = "".join(head)
    shown = [quoting for quoting, pattern in _OTHER_QUOTINGS if pattern.search(text)]
    if not shown:
        return STANDARD
    usual = max(_fit(head, separator, STANDARD) for separator in _SEPARATORS)
    best, quoting = max(
        ((_fit(head, separator, each), each) for each in shown for separator in _SEPARATORS), key=lambda pair: pair[0]
    )
    return quoting if best > usual else STANDARD


def _fit(lines: Sequence[str], separator: str, quoting: Quoting) -> tuple[float, int]:
    """Rate how well a way of quoting fits: by the share of records of the same width, then by the marks in cells."""
    try:
        rows = list(islice(read_records(lines, separator, quoting=quoting, truncated=True), _RECORDS))
    except Fatal:
        return (0.0, 0)
    if not rows:
        return (0.0, 0)
    width, count = most_common_width(rows)
    return (count / len(rows) if width > 1 else 0.0, -_marks(rows))


def _marks(rows: Sequence[Record]) -> int:
    """Count the cells with a quotation mark at their beginning or end, or a backslash before one."""
    return sum(
        cell.strip()[:1] == '"' or cell.strip()[-1:] == '"' or '\\"' in cell for _, cells in rows for cell in cells
    )
