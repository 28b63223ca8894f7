"""Find and unpack the table in a ZIP archive."""

from __future__ import annotations

import stat
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
#: Maximum size of the list of members, a hundred thousand or so.
MAX_DIRECTORY_BYTES = 8 * 1024**2
#: Position of its size in what ``zipfile`` reads from the end of an archive.
_DIRECTORY_SIZE = 5


def read_zip_kind(path: Path) -> FileKind:
    """Return the kind of a zip by its members.

    Raises:
        Fatal: it is damaged, or lists too many members.
    """
    with translate_failures(READ_FAILURES), path.open("rb") as file:
        # As ZipFile reads it, which makes an object of each member: a small file may list a hundred million.
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined] # noqa: SLF001 - there is no public function
    if end and end[_DIRECTORY_SIZE] > MAX_DIRECTORY_BYTES:
        msg = f"lists its members in more than {MAX_DIRECTORY_BYTES:,} bytes: publish the table itself"
        raise Fatal(msg, code="too_large")
    with translate_failures(READ_FAILURES), zipfile.ZipFile(path) as archive:
        return detect_zip_kind(archive.namelist())


def declared_size(path: Path) -> int:
    """Return the declared unpacked size of all members in bytes."""
    with translate_failures(READ_FAILURES), zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def extract_table(path: Path, target: Path, limit: int, check: Callable[[], None]) -> tuple[str, list[str]]:
    """Unpack the largest table of an archive; return its name and those of all members.

    The names are only shown: the table is written to ``target``, whatever its path in the archive. Links are no tables.

    Raises:
        Fatal: there is no table, it is protected, or it unpacks to more than ``limit`` bytes.
    """
    with translate_failures(READ_FAILURES), zipfile.ZipFile(path) as archive:
        members = [each for each in archive.infolist() if _is_file(each) and not _is_hidden(each.filename)]
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


def _is_file(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a file, and not a folder, link or device, as archives made on Unix may say."""
    mode = member.external_attr >> 16
    return not member.is_dir() and (not stat.S_IFMT(mode) or stat.S_ISREG(mode))


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
