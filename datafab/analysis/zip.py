"""Find and unpack the table in a ZIP archive."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from datafab.analysis.dialect import FileKind, detect_zip_kind
from datafab.analysis.refusals import READ_FAILURES, translate_failures
from datafab.analysis.textfile import BLOCK_BYTES
from datafab.errors import Fatal

_TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods", ".parquet", ".json", ".geojson", ".gz")
#: Maximum number of members that an analysis lists.
MAX_NAMED_MEMBERS = 100


def read_zip_kind(path: Path) -> FileKind:
    """Return the kind of a zip by its members."""
    with translate_failures(READ_FAILURES), zipfile.ZipFile(path) as archive:
        return detect_zip_kind(archive.namelist())


def declared_size(path: Path) -> int:
    """Return the declared unpacked size of all members in bytes."""
    with translate_failures(READ_FAILURES), zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def extract_table(path: Path, target: Path, limit: int, check: Callable[[], None]) -> tuple[str, list[str]]:
    """Unpack the largest table of an archive; return its name and those of all members.

    Raises:
        Fatal: there is no table, it is protected, or it unpacks to more than ``limit`` bytes.
    """
    with translate_failures(READ_FAILURES), zipfile.ZipFile(path) as archive:
        members = [each for each in archive.infolist() if not each.is_dir() and not _is_hidden(each.filename)]
        tables = [each for each in members if each.filename.lower().endswith(_TABLE_SUFFIXES)]
        if not tables:
            inside = ", ".join(each.filename for each in members[:3]) or "nothing"
            msg = f"is a ZIP archive without a table (in it: {inside}): publish its table as CSV"
            raise Fatal(msg[:500], code="unsupported")
        chosen = max(tables, key=lambda each: each.file_size)
        size = 0
        with archive.open(chosen) as source, target.open("wb") as file:
            while block := source.read(BLOCK_BYTES):
                check()
                size += len(block)
                # The declared size is not trusted.
                if size > limit:
                    raise Fatal(f"unpacks to more than {limit:,} bytes: publish it in parts", code="too_large")
                file.write(block)
    return chosen.filename, [each.filename for each in members[:MAX_NAMED_MEMBERS]]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
