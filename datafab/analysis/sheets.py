"""Choose the sheet of a workbook: the one that is asked for, or the largest among the visible ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from odf.style import Style, TableProperties  # type: ignore[import-untyped]
from odf.table import Table  # type: ignore[import-untyped]
from pandas import ExcelFile  # type: ignore[import-untyped]

from datafab.errors import Fatal

#: Maximum number of names that an error lists.
MAX_LISTED_SHEETS = 20


def find_sheet(names: Sequence[str], wanted: str) -> str:
    """Return the sheet with a name, whatever its case and the blanks around it, else with a number from 1.

    Raises:
        Fatal: ``sheet``, there is none.
    """
    plain = _plain(wanted)
    same = [name for name in names if name == wanted] or [name for name in names if _plain(name) == plain]
    if same:
        return same[0]
    if plain.isascii() and plain.isdecimal() and 1 <= int(plain) <= len(names):
        return names[int(plain) - 1]
    listed = ", ".join(map(repr, names[:MAX_LISTED_SHEETS])) + (", …" if len(names) > MAX_LISTED_SHEETS else "")
    raise Fatal(f"has no sheet {wanted!r}: choose one of {listed}", code="sheet", field="sheet")


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def hidden_sheets(book: ExcelFile) -> list[str]:
    """Return the names of the sheets that are hidden in a workbook."""
    if book.engine == "xlrd":
        return [sheet.name for sheet in book.book.sheets() if sheet.visibility]
    if book.engine == "odf":
        return list(_hidden_ods_sheets(book.book))
    return [sheet.title for sheet in book.book.worksheets if sheet.sheet_state != "visible"]


def _hidden_ods_sheets(document: Any) -> Iterator[str]:
    """Yield the names of the sheets whose style says that they are not displayed."""
    styles = {
        style.getAttribute("name")
        for style in document.automaticstyles.getElementsByType(Style)
        for properties in style.getElementsByType(TableProperties)
        if str(properties.getAttribute("display")).lower() == "false"
    }
    for table in document.getElementsByType(Table):
        if table.getAttribute("stylename") in styles:
            yield str(table.getAttribute("name"))
