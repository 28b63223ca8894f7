"""Read a text file, unpacking it within limits. Only one block or line is held in memory."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from datafab.analysis.encoding import HEAD_BYTES
from datafab.analysis.mixed_encoding import codec_and_errors
from datafab.core.long_cells import MAX_CELL_CHARS
from datafab.errors import Fatal

BLOCK_BYTES = 1024**2
#: The character that DOS wrote at the end of a text.
_DOS_END = b"\x1a"
_DOS_ENDS = re.compile(rb"\x1a[\x1a\r\n]*\Z")
_DOS_ENDS_OF_LINE = re.compile(r"\x1a[\x1a\r\n]*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A text file that can be read from its beginning any number of times."""

    path: Path
    gzipped: bool = False
    #: name of the member to read, if the file is a zip
    member: str | None = None
    #: maximum unpacked bytes
    max_unpacked: int
    #: called for every block; raises an exception to cancel the work
    check: Callable[[], None]

    @property
    def packed(self) -> bool:
        """Whether the text is compressed."""
        return self.gzipped or self.member is not None

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        """Open the text; a member of a zip may be a gzip itself."""
        with ExitStack() as cleanup:
            if self.member is None:
                file: BinaryIO = cleanup.enter_context(self.path.open("rb"))
            else:
                archive = cleanup.enter_context(zipfile.ZipFile(self.path))
                file = cast("BinaryIO", cleanup.enter_context(archive.open(self.member)))
            yield cast("BinaryIO", cleanup.enter_context(gzip.GzipFile(fileobj=file))) if self.gzipped else file

    def head(self) -> bytes:
        """Return the first ``HEAD_BYTES`` bytes."""
        with self._open() as file:
            return file.read(HEAD_BYTES)

    def blocks(self) -> Iterator[bytes]:
        r"""Yield all bytes except ``\x1a`` at the end, which is the end mark of DOS.

        Raises:
            Fatal: ``too_large``, the text unpacks to more than ``max_unpacked`` bytes.
        """
        size, pending = 0, b""
        with self._open() as file:
            while block := file.read(BLOCK_BYTES):
                self.check()
                size += len(block)
                if self.packed and size > self.max_unpacked:
                    msg = f"unpacks to more than {self.max_unpacked:,} bytes: publish it in parts"
                    raise Fatal(msg, code="too_large")
                if pending:
                    yield pending
                pending = block
        # In UTF-16, the byte is part of a character.
        if pending and not (pending[-1:] == _DOS_END and pending[-2:-1] == b"\0"):
            pending = _DOS_ENDS.sub(b"", pending)
        if pending:
            yield pending

    def lines(self, encoding: str) -> Generator[str, None, None]:
        r"""Yield all physical lines with their ends: ``\n``, ``\r\n`` or ``\r``; the last without ``\x1a`` at its end.

        Raises:
            Fatal: ``too_large``, a line has ``MAX_CELL_CHARS`` characters or more.
        """
        pending = ""
        codec, errors = codec_and_errors(encoding)
        with self._open() as file, io.TextIOWrapper(file, encoding=codec, errors=errors, newline="") as text:
            while line := text.readline(MAX_CELL_CHARS):
                if len(line) == MAX_CELL_CHARS:
                    msg = f"has a line of {MAX_CELL_CHARS:,} characters or more: is it a table, with one row a line?"
                    raise Fatal(msg, code="too_large")
                if pending:
                    yield pending
                pending = line
            if pending := _DOS_ENDS_OF_LINE.sub("", pending):
                yield pending
