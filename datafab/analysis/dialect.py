"""Detect what kind of file some bytes are and, for a text, the layout of its table. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from datafab.analysis.cell_kind import is_value
from datafab.analysis.encoding import HEAD_BYTES, byte_order_mark_codec
from datafab.analysis.header import Header, find_header, header_warnings, most_common_width, starts_with_title
from datafab.analysis.header_candidate import Candidate, Record
from datafab.analysis.quoting import detect_quoting
from datafab.analysis.records import STANDARD, Quoting, read_records
from datafab.analysis.unmarked_encoding import wide_codec
from datafab.errors import Fatal

#: Maximum number of records and of lines from which ``detect_layout`` decides.
HEAD_RECORDS, HEAD_LINES = 100, 1000
#: Separators in the order of preference if they fit equally well.
SEPARATORS = (";", ",", "\t", "|")
#: Separators of tables that have none of the others, with the least number of columns that makes them credible: times
#: and names contain them, too.
RARE_SEPARATORS = {":": 2, " ": 3}
#: A separator that never occurs: in a table of one column every separator is part of a value.
NO_SEPARATOR = "\x1f"
#: Minimum number of records, all with the same number of cells, to accept a rare separator.
MIN_RARE_SEPARATOR_RECORDS = 3


class FileKind(StrEnum):
    """The kind of a file by its first bytes, regardless of its name."""

    EMPTY = "empty"
    TEXT = "text"
    HTML = "html"
    JSON = "json"
    XML = "xml"
    PDF = "pdf"
    GZIP = "gzip"
    ZIP = "zip"
    XLSX = "xlsx"
    ODS = "ods"
    XLS = "xls"
    PARQUET = "parquet"
    BINARY = "binary"


_MAGIC = (
    (b"\x1f\x8b", FileKind.GZIP),
    (b"PK\x03\x04", FileKind.ZIP),
    (b"PK\x05\x06", FileKind.ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileKind.XLS),
    (b"PAR1\x15", FileKind.PARQUET),
    (b"%PDF-", FileKind.PDF),
)
_CONTROLS = frozenset(map(chr, range(32))) - frozenset("\t\n\v\f\r\x1a\x1b")
_MAX_CONTROL_SHARE = 0.05
#: Maximum number and share of NUL bytes in a text that holds no other control characters.
_MAX_NULS, _MAX_NUL_SHARE = 2, 0.1
_NUMBER = re.compile(r"-?[0-9]+([.,][0-9]+)?")
#: Weights of a separator that is in no record, that leaves the first record a single cell above a table, and that may
#: be part of the values of a single column.
_SINGLE_COLUMN_WEIGHT, _TITLE_WEIGHT, _UNSUPPORTED_TITLE_WEIGHT = 0.24, 0.8, 0.1
#: More records than these are needed to doubt a separator.
_MIN_DOUBT_RECORDS = 2


def detect_kind(head: bytes) -> FileKind:
    """Return the kind of a file by its first ``HEAD_BYTES`` bytes; for a zip, see ``detect_zip_kind``."""
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    text = head.decode(byte_order_mark_codec(head) or wide_codec(head) or "latin-1", errors="ignore")
    if not text.strip():
        return FileKind.EMPTY if len(head) < HEAD_BYTES else FileKind.TEXT
    if _is_binary(text):
        return FileKind.BINARY
    return _detect_markup(text.lstrip().lower())


def _is_binary(text: str) -> bool:
    """Tell whether a text has too many control characters to be one; NULs alone may be a fault of a text."""
    # At the end of a text, NULs fill a block of a disk.
    filled = text.rstrip("\0")
    nuls, controls = filled.count("\0"), sum(map(filled.count, _CONTROLS))
    if controls == nuls:
        return nuls > max(_MAX_NULS, _MAX_NUL_SHARE * len(filled)) or not filled
    return controls > _MAX_CONTROL_SHARE * len(filled)


def _detect_markup(text: str) -> FileKind:
    """Tell HTML, XML and JSON from tables; a comparison such as ``<18 ans`` opens no element."""
    inside = text[1:].lstrip()
    if text[0] == "<" and (inside[:1] in {"?", "!"} or inside[:1].isalpha()) and ">" in text:
        return FileKind.HTML if "<html" in text or "<!doctype html" in text else FileKind.XML
    if text[0] == "{" and inside[:1] in {'"', "}"}:
        return FileKind.JSON
    if text[0] == "[" and (inside[:1] in {"{", "[", '"', "]", "-"} or inside[:1].isdigit()):
        return FileKind.JSON
    return FileKind.TEXT


def detect_zip_kind(names: Collection[str]) -> FileKind:
    """Return the kind of a zip by the names of its members."""
    if "xl/workbook.xml" in names:
        return FileKind.XLSX
    return FileKind.ODS if "content.xml" in names else FileKind.ZIP


def delimiter(separator: str, width: int) -> str:
    """Return the effective separator of a table with this number of columns."""
    return separator if width > 1 else NO_SEPARATOR


@dataclass(frozen=True, slots=True)
class Layout:
    """Where and how a table is written in a text."""

    separator: str
    #: physical lines before the header: titles, remarks, blank lines, a repeated header
    skip: int
    #: the header's cells as they are written, joined if it takes two records
    header: tuple[str, ...]
    #: records of the header
    depth: int = 1
    #: what a reader should know about how the table was found
    warnings: tuple[str, ...] = ()
    #: how its cells are quoted
    quoting: Quoting = STANDARD


def detect_layout(lines: Sequence[str]) -> Layout:
    """Find separator and header of a table in its first lines, or all of them.

    Raises:
        Fatal: ``empty``; ``header``, every record is the same; see ``read_records``.
    """
    quoting = detect_quoting(lines)
    found = {each: _first_records(lines, each, quoting) for each in SEPARATORS}
    separator = max(SEPARATORS, key=lambda each: _separator_fit(each, found[each]))
    doubt = None
    if found[separator] and most_common_width(found[separator])[0] == 1:
        doubt = next((each for each in SEPARATORS if _may_separate(found[each])), None)
        found |= {each: _first_records(lines, each, quoting) for each in RARE_SEPARATORS}
        separator = next((each for each in RARE_SEPARATORS if doubt is None and _is_rare(each, found[each])), separator)
    rows = found[separator]
    if not rows:
        # There is either nothing, or only a record that is never complete; this raises for the latter.
        rows = list(islice(read_records(lines, separator, quoting=quoting), HEAD_RECORDS))
    if not rows:
        raise Fatal("holds blank lines only", code="empty")
    return replace(_layout(separator, rows, find_header(rows), doubt), quoting=quoting)


def _first_records(lines: Sequence[str], separator: str, quoting: Quoting) -> list[Record]:
    return list(islice(read_records(lines, separator, quoting=quoting, truncated=True), HEAD_RECORDS))


def _layout(separator: str, rows: Sequence[Record], head: Header, doubt: str | None) -> Layout:
    if len(rows) > 1 and head.position == len(rows) - 1 and _same(rows[0][1], rows[-1][1]):
        raise Fatal("repeats one line over and over: header and rows cannot be told apart", code="header")
    warnings = header_warnings(head, "line")
    if doubt is not None and separator not in RARE_SEPARATORS:
        warnings = (*warnings, f"read as one column: {doubt!r} separates the lines below the first, but not the first")
    return Layout(separator, rows[head.position][0] - 1, head.cells, head.depth, warnings)


def _separator_fit(separator: str, rows: Sequence[Record]) -> tuple[float, int]:
    """Rate how well a separator fits. A single column is the last resort.

    It is not enough that most records have the same width, as decimal commas divide rows evenly, too. So records
    whose cells contain other separators count less, and all records count less if the first is a title and not a
    header. A first record of one cell is the name of a single column, unless there is evidence for a title.
    """
    if not rows:
        return (0.0, 0)
    width, count = most_common_width(rows)
    share = count / len(rows)
    if width == 1:
        return (share * _SINGLE_COLUMN_WEIGHT, width)
    if len(rows[0][1]) == 1 and not starts_with_title(rows, separator):
        return (share * _UNSUPPORTED_TITLE_WEIGHT, width)
    others = [each for each in SEPARATORS if each != separator]
    mixed = sum(any(_holds_separator(cell, others) for cell in cells) for _, cells in rows) / len(rows)
    return (share * (1 - mixed / 2) * (1.0 if len(rows[0][1]) == width else _TITLE_WEIGHT), width)


def _may_separate(rows: Sequence[Record]) -> bool:
    """Tell whether all records have the same number of cells, at least two, except a first record of one cell."""
    widths = {len(cells) for _, cells in rows[1:]}
    return len(rows) > _MIN_DOUBT_RECORDS and len(rows[0][1]) == 1 and len(widths) == 1 and widths != {1}


def _holds_separator(cell: str, separators: Sequence[str]) -> bool:
    """Tell whether a cell contains a separator that is not a decimal comma."""
    return any(each in cell for each in separators) and _NUMBER.fullmatch(cell.strip()) is None


def _is_rare(separator: str, rows: Sequence[Record]) -> bool:
    """Tell whether a rare separator yields records of one width in which most columns hold values."""
    widths = {len(cells) for _, cells in rows}
    if len(rows) < MIN_RARE_SEPARATOR_RECORDS or len(widths) > 1 or min(widths) < RARE_SEPARATORS[separator]:
        return False
    first = Candidate(rows, 0)
    return sum(map(is_value, first.columns)) * 2 >= min(widths) and (separator == " " or first.contrasts > 0)


def _same(one: Sequence[str], other: Sequence[str]) -> bool:
    return [cell.strip() for cell in one] == [cell.strip() for cell in other]


def is_name(cell: str) -> bool:
    """Tell whether a header cell names its column; pandas' ``Unnamed: 3`` does not."""
    return bool(cell.strip()) and not cell.strip().startswith("Unnamed:")


def unique_names(header: Iterable[str]) -> list[str]:
    """Return unique, printable, one-line names of the columns; ``column_3`` if the header has none.

    Repeated names get the suffixes ``.1``, ``.2``, as in pandas.
    """
    taken: dict[str, None] = {}
    for position, cell in enumerate(header, 1):
        plain = " ".join("".join(char for char in cell if char.isprintable() or char.isspace()).split())
        name = plain if is_name(plain) else f"column_{position}"
        again = 0
        unique = name
        while unique in taken:
            again += 1
            unique = f"{name}.{again}"
        taken[unique] = None
    return list(taken)
