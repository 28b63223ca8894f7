"""The one table in a ZIP archive."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from datafab.analysis.dialect import Kind, zipped
from datafab.analysis.refusals import READING, refusals
from datafab.analysis.textfile import BLOCK
from datafab.errors import Fatal

_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods", ".parquet", ".json", ".geojson", ".gz")
#: Members that are named in an analysis.
NAMED = 100


def kind(path: Path) -> Kind:
    """Say what a zip is by its members."""
    with refusals(READING), zipfile.ZipFile(path) as archive:
        return zipped(archive.namelist())


def unpacked_size(path: Path) -> int:
    """Return the bytes that all members say they unpack to."""
    with refusals(READING), zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def extract(path: Path, target: Path, limit: int, check: Callable[[], None]) -> tuple[str, list[str]]:
    """Unpack the largest table of an archive; return its name and those of all members.

    Raises:
        Fatal: there is none, it is protected, or it unpacks to more than ``limit`` bytes.
    """
    with refusals(READING), zipfile.ZipFile(path) as archive:
        members = [each for each in archive.infolist() if not each.is_dir() and not _hidden(each.filename)]
        tables = [each for each in members if each.filename.lower().endswith(_TABLES)]
        if not tables:
            inside = ", ".join(each.filename for each in members[:3]) or "nothing"
            msg = f"is a ZIP archive without a table (in it: {inside}): publish its table as CSV"
            raise Fatal(msg[:500], code="unsupported")
        chosen = max(tables, key=lambda each: each.file_size)
        size = 0
        with archive.open(chosen) as source, target.open("wb") as file:
            while block := source.read(BLOCK):
                check()
                size += len(block)
                # What the archive says of its size is not believed.
                if size > limit:
                    raise Fatal(f"unpacks to more than {limit:,} bytes: publish it in parts", code="too_large")
                file.write(block)
    return chosen.filename, [each.filename for each in members[:NAMED]]


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
