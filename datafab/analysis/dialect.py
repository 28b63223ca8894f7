"""What kind of bytes these are and, where they are text, how a table stands in them. Pure: bytes and lines in."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from typing import TYPE_CHECKING

from datafab.analysis.cell_kind import is_value
from datafab.analysis.header import Header, header, header_warnings, raw_width, supported_title
from datafab.analysis.header_candidate import Candidate, Record
from datafab.analysis.mixed_encoding import MIXED_ENCODING
from datafab.errors import Fatal

if TYPE_CHECKING:
    from _csv import Reader

#: Bytes that ``kind`` wants to see.
HEAD = 8192
#: Records, and lines at most, from which ``layout`` decides.
HEAD_RECORDS, HEAD_LINES = 100, 1000
#: Characters of one cell or line at most: outlines of areas are long, a quote that is never closed is longer.
MAX_CELL = 16 * 1024**2
#: The better one first, where two fit equally well.
SEPARATORS = (";", ",", "\t", "|")
#: Separators of tables that have none of those, and the columns that make them believable: times and names hold them.
RARE = {":": 2, " ": 3}
#: Separates nothing: in a table of one column every separator is part of a value.
NOTHING = "\x1f"
#: Records that must have the same number of cells by such a one.
RARE_RECORDS = 3


class Kind(StrEnum):
    """What a file is by its first bytes, whatever it is called."""

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
    (b"\x1f\x8b", Kind.GZIP),
    (b"PK\x03\x04", Kind.ZIP),
    (b"PK\x05\x06", Kind.ZIP),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind.XLS),
    (b"PAR1\x15", Kind.PARQUET),
    (b"%PDF-", Kind.PDF),
)
# UTF-32 before UTF-16: the one's mark begins with the other's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = frozenset(map(chr, range(32))) - frozenset("\t\n\v\f\r\x1a\x1b")
_TOO_MANY_CONTROLS = 0.05
_NUMBER = re.compile(r"-?[0-9]+([.,][0-9]+)?")
#: What a separator is worth that is in no record, one whose first record is a title, one that a single column may hold.
_ALONE, _TITLED, _UNSUPPORTED = 0.24, 0.8, 0.1
#: Records that are too few to doubt anything.
_FEW = 2
#: Bytes that are no UTF-8 after which a text may be none.
_SURE = 1000
#: Bytes of French in cp1252 that happen to be UTF-8: `âŒ«` has two too many.
_CHANCE = 8
#: Bytes that cp1252 leaves undefined.
_NOT_CP1252 = b"\x81\x8d\x8f\x90\x9d"


def kind(head: bytes) -> Kind:
    """Say what a file is, from its first ``HEAD`` bytes. A zip may be more: see ``zipped``."""
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    text = head.decode(_mark(head) or "latin-1", errors="ignore")
    if not text.strip():
        return Kind.EMPTY if len(head) < HEAD else Kind.TEXT
    if sum(map(text.count, _CONTROLS)) > _TOO_MANY_CONTROLS * len(text):
        return Kind.BINARY
    return _markup(text.lstrip().lower())


def _mark(head: bytes) -> str | None:
    return next((codec for mark, codec in _MARKS if head.startswith(mark)), None)


def _markup(text: str) -> Kind:
    """Tell a page or a document from a table; a comparison such as ``<18 ans`` opens no element."""
    inside = text[1:].lstrip()
    if text[0] == "<" and (inside[:1] in {"?", "!"} or inside[:1].isalpha()) and ">" in text:
        return Kind.HTML if "<html" in text or "<!doctype html" in text else Kind.XML
    if text[0] == "{" and inside[:1] in {'"', "}"}:
        return Kind.JSON
    if text[0] == "[" and (inside[:1] in {"{", "[", '"', "]", "-"} or inside[:1].isdigit()):
        return Kind.JSON
    return Kind.TEXT


def zipped(names: Collection[str]) -> Kind:
    """Say what a zip is, from the names of its members."""
    if "xl/workbook.xml" in names:
        return Kind.XLSX
    return Kind.ODS if "content.xml" in names else Kind.ZIP


def encoding(blocks: Iterable[bytes]) -> str:
    """Decide the encoding of a whole text: its byte order mark, else UTF-8 where all of it is, else cp1252.

    A text that is UTF-8 more often than not is a mixture of both. Statistical guesses are avoided on purpose: they take
    French in cp1252 for Baltic or Central European.

    Raises:
        Fatal: ``encoding``, the text is not what its byte order mark says.
    """
    remaining = iter(blocks)
    first = next(remaining, b"")
    marked = _mark(first)
    if marked:
        _decoded(chain((first,), remaining), marked)
        return marked
    return _unmarked(chain((first,), remaining))


def _decoded(blocks: Iterable[bytes], marked: str) -> None:
    decoder = codecs.getincrementaldecoder(marked)()
    try:
        for block in chain(blocks, (b"",)):
            decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        msg = f"begins as {marked} but is not ({error.reason}): save it as UTF-8"
        raise Fatal(msg, code="encoding") from error


def _unmarked(blocks: Iterable[bytes]) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    good = bad = 0
    held, undefined = b"", False
    for block in chain(blocks, (b"",)):
        undefined = undefined or any(byte in block for byte in _NOT_CP1252)
        # In cp1252 French, what is no UTF-8 soon outweighs what happens to be.
        if bad > _SURE and bad > good:
            continue
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError:
            decoder.reset()
            text = (held + block).decode("utf-8", "replace")
            # Some stand for a wrong byte, some are in the text.
            wrong, held = text.count("\N{REPLACEMENT CHARACTER}"), b""
            bad += max(1, wrong - block.count("\N{REPLACEMENT CHARACTER}".encode()))
            # What is more than one byte a character, but for the three of each that stands for a wrong one.
            good += len(text.encode()) - len(text) - 2 * wrong
        else:
            before, held = held, decoder.getstate()[0]
            good += len(before) + len(block) - len(held) - len(text)
    if not bad:
        return "utf-8"
    if good > bad + _CHANCE:
        return MIXED_ENCODING
    return "latin-1" if undefined else "cp1252"


def delimiter(separator: str, width: int) -> str:
    """Return what separates the cells of a table of so many columns."""
    return separator if width > 1 else NOTHING


def csv_reader(lines: Iterable[str], separator: str) -> Reader:
    """Return a reader of records whose cells may have up to ``MAX_CELL`` characters."""
    # The csv module has one limit for the whole process; its default of 128 KiB refuses ordinary GeoJSON cells.
    csv.field_size_limit(MAX_CELL)
    return csv.reader(lines, delimiter=separator)


def records(
    lines: Iterable[str], separator: str, *, first: int = 1, cut: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of each record that is not blank; ``line`` is the physical one where it begins.

    Args:
        lines: physical lines with their ends.
        separator: one character.
        first: number of the first of these lines.
        cut: the lines are a beginning: a last record that they do not hold whole is left out.

    Raises:
        Fatal: ``quote``, a quote is never closed; ``too_large``, a cell is.
    """
    ended = False

    def feed() -> Iterator[str]:
        nonlocal ended
        yield from lines
        ended = True

    reader = csv_reader(feed(), separator)
    line = first
    try:
        for cells in reader:
            if ended and cut:
                return
            # The lines ran out within a record: only an open quote makes the reader ask for more.
            if ended:
                msg = f"the quote opened in the record at line {line} is never closed: close or double it"
                raise Fatal(msg, code="quote", field=f"line {line}")
            if cells and not (len(cells) == 1 and cells[0].isspace()):
                yield line, cells
            line = first + reader.line_num
    except csv.Error as error:
        msg = f"the record at line {line} cannot be read ({error}): is a quote never closed?"
        raise Fatal(msg, code="too_large", field=f"line {line}") from error


@dataclass(frozen=True, slots=True)
class Layout:
    """How a table stands in a text."""

    separator: str
    #: physical lines before the header: titles, remarks, blank lines, a repeated header
    skip: int
    #: the header's cells as they stand there; joined, where it takes two records
    header: tuple[str, ...]
    #: records of the header
    depth: int = 1
    #: what a reader should know of how the table was found
    warnings: tuple[str, ...] = ()


def layout(lines: Sequence[str]) -> Layout:
    """Find separator and header of a table in its first lines, or all of them.

    Raises:
        Fatal: ``empty``; ``header``, every record is the same; see ``records``.
    """
    found = {each: list(islice(records(lines, each, cut=True), HEAD_RECORDS)) for each in SEPARATORS}
    separator = max(SEPARATORS, key=lambda each: _fit(each, found[each]))
    doubt = None
    if found[separator] and raw_width(found[separator])[0] == 1:
        doubt = next((each for each in SEPARATORS if _may_separate(found[each])), None)
        found |= {each: list(islice(records(lines, each, cut=True), HEAD_RECORDS)) for each in RARE}
        separator = next((each for each in RARE if doubt is None and _is_rare(each, found[each])), separator)
    rows = found[separator]
    if not rows:
        # Nothing, or but one record that is never complete: say which.
        rows = list(islice(records(lines, separator), HEAD_RECORDS))
    if not rows:
        raise Fatal("holds blank lines only", code="empty")
    return _layout(separator, rows, header(rows), doubt)


def _layout(separator: str, rows: Sequence[Record], head: Header, doubt: str | None) -> Layout:
    if len(rows) > 1 and head.position == len(rows) - 1 and _same(rows[0][1], rows[-1][1]):
        raise Fatal("repeats one line over and over: header and rows cannot be told apart", code="header")
    warnings = header_warnings(head, "line")
    if doubt is not None and separator not in RARE:
        warnings = (*warnings, f"read as one column: {doubt!r} separates the lines below the first, but not the first")
    return Layout(separator, rows[head.position][0] - 1, head.cells, head.depth, warnings)


def _fit(separator: str, rows: Sequence[Record]) -> tuple[float, int]:
    """Say how well a separator fits. One column is the last resort.

    That most records have one width is not enough: decimal commas cut rows evenly too. So a record counts less whose
    cells hold other separators, and all do where the first one is no header but a title. A first record of one cell is
    the name of a single column, unless something speaks for a title.
    """
    if not rows:
        return (0.0, 0)
    width, count = raw_width(rows)
    share = count / len(rows)
    if width == 1:
        return (share * _ALONE, width)
    if len(rows[0][1]) == 1 and not supported_title(rows, separator):
        return (share * _UNSUPPORTED, width)
    others = [each for each in SEPARATORS if each != separator]
    mixed = sum(any(_holds(cell, others) for cell in cells) for _, cells in rows) / len(rows)
    return (share * (1 - mixed / 2) * (1.0 if len(rows[0][1]) == width else _TITLED), width)


def _may_separate(rows: Sequence[Record]) -> bool:
    """Tell whether all records but a first one of one cell have the same number of cells, two at least."""
    widths = {len(cells) for _, cells in rows[1:]}
    return len(rows) > _FEW and len(rows[0][1]) == 1 and len(widths) == 1 and widths != {1}


def _holds(cell: str, separators: Sequence[str]) -> bool:
    """Tell whether a cell holds a separator that is not a decimal comma."""
    return any(each in cell for each in separators) and _NUMBER.fullmatch(cell.strip()) is None


def _is_rare(separator: str, rows: Sequence[Record]) -> bool:
    """Tell whether a separator that sentences and times hold too makes even records, most of whose cells are values."""
    widths = {len(cells) for _, cells in rows}
    if len(rows) < RARE_RECORDS or len(widths) > 1 or min(widths) < RARE[separator]:
        return False
    first = Candidate(rows, 0)
    return sum(map(is_value, first.columns)) * 2 >= min(widths) and (separator == " " or first.contrasts > 0)


def _same(one: Sequence[str], other: Sequence[str]) -> bool:
    return [cell.strip() for cell in one] == [cell.strip() for cell in other]


def is_name(cell: str) -> bool:
    """Tell whether a cell of a header names its column; pandas' ``Unnamed: 3`` says nothing."""
    return bool(cell.strip()) and not cell.strip().startswith("Unnamed:")


def names(header: Iterable[str]) -> list[str]:
    """Name the columns: unique, on one line, printable; ``column_3`` where the header says nothing.

    A name that comes again gets ``.1``, ``.2`` as pandas does it.
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
