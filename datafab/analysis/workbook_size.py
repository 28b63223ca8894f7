"""How much a workbook is in memory, by what its parts say and before any library believes them.

A sheet of a few bytes may name one cell a million rows down, or one that is repeated a million times.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from xml.parsers import expat

from datafab.analysis.dialect import Kind
from datafab.analysis.ods_size import Ods
from datafab.analysis.refusals import LOOKING, READING, refusals
from datafab.analysis.textfile import BLOCK
from datafab.analysis.xlsx_size import Xlsx

#: Where an ODS has its sheets; all its parts are held at once.
_CONTENT = "content.xml"


def workbook(path: Path, kind: Kind, check: Callable[[], None]) -> None:
    """Refuse a workbook that is too large for the memory.

    Raises:
        Fatal: ``too_large``; ``corrupt_archive``, it cannot be read.
    """
    with refusals(LOOKING), refusals(READING), zipfile.ZipFile(path) as archive:
        whole = Ods()
        for name in archive.namelist():
            if name == _CONTENT and kind is Kind.ODS:
                # odfpy takes what it finds until it breaks off.
                _walk(archive, name, whole, check)
                continue
            # Any part may be a sheet, or be held in memory, whatever it is called. Broken ones the libraries judge.
            with suppress(expat.ExpatError):
                _walk(archive, name, whole if kind is Kind.ODS else Xlsx(), check)


def _walk(archive: zipfile.ZipFile, name: str, part: Xlsx | Ods, check: Callable[[], None]) -> None:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = part.start
    parser.EndElementHandler = part.end
    with archive.open(name) as file:
        while block := file.read(BLOCK):
            check()
            parser.Parse(block, False)
            part.bounded()
    # An end that is missing is seen only now.
    parser.Parse(b"", True)
