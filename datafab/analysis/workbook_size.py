"""Check how much memory a workbook takes, before a library reads it.

A sheet of a few bytes may refer to a cell a million rows down, or repeat one cell a million times.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from xml.parsers import expat

from datafab.analysis.dialect import FileKind
from datafab.analysis.ods_size import OdsSize
from datafab.analysis.refusals import PARSE_FAILURES, READ_FAILURES, translate_failures
from datafab.analysis.textfile import BLOCK_BYTES
from datafab.analysis.xlsx_size import XlsxSize

#: The part of an ODS that holds its sheets; all parts are held in memory at once.
_CONTENT = "content.xml"


def check_workbook_size(path: Path, kind: FileKind, check: Callable[[], None]) -> None:
    """Refuse a workbook that is too large for the memory.

    Raises:
        Fatal: ``too_large``; ``corrupt_archive``, the workbook cannot be read.
    """
    with translate_failures(PARSE_FAILURES), translate_failures(READ_FAILURES), zipfile.ZipFile(path) as archive:
        whole = OdsSize()
        for name in archive.namelist():
            if name == _CONTENT and kind is FileKind.ODS:
                # odfpy silently accepts a truncated part, so errors are raised here.
                _parse_part(archive, name, whole, check)
                continue
            # Any part may be a sheet or be held in memory, whatever its name. The libraries report malformed ones.
            with suppress(expat.ExpatError):
                _parse_part(archive, name, whole if kind is FileKind.ODS else XlsxSize(), check)


def _parse_part(archive: zipfile.ZipFile, name: str, part: XlsxSize | OdsSize, check: Callable[[], None]) -> None:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = part.start
    parser.EndElementHandler = part.end
    with archive.open(name) as file:
        while block := file.read(BLOCK_BYTES):
            check()
            parser.Parse(block, False)
            part.check_limits()
    # Only now does the parser report a missing end.
    parser.Parse(b"", True)
