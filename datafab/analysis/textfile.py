"""A text file, unpacked while it is read, within limits. Nothing of it is held but a block or a line."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from datafab.analysis.dialect import HEAD, MAX_CELL
from datafab.analysis.mixed_encoding import codec_and_errors
from datafab.errors import Fatal

BLOCK = 1024**2
#: What DOS wrote at the end of a text.
_END = b"\x1a"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file to be read from its beginning, as often as one likes."""

    path: Path
    gzipped: bool = False
    #: of a zip: the name of the member that is read
    member: str | None = None
    #: bytes that a gzip may unpack to
    max_unpacked: int
    #: called with every block; raises when the work is no longer wanted
    check: Callable[[], None]

    @property
    def packed(self) -> bool:
        """Whether it unpacks to more than its size."""
        return self.gzipped or self.member is not None

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        """Open the text; a member of a zip may be a gzip itself."""
        with ExitStack() as left:
            if self.member is None:
                file: BinaryIO = left.enter_context(self.path.open("rb"))
            else:
                archive = left.enter_context(zipfile.ZipFile(self.path))
                file = cast("BinaryIO", left.enter_context(archive.open(self.member)))
            yield cast("BinaryIO", left.enter_context(gzip.GzipFile(fileobj=file))) if self.gzipped else file

    def head(self) -> bytes:
        """Return the first ``HEAD`` bytes."""
        with self._open() as file:
            return file.read(HEAD)

    def blocks(self) -> Iterator[bytes]:
        r"""Yield all bytes but ``\x1a`` at the end, which is the mark of an end of DOS.

        Raises:
            Fatal: ``too_large``, it unpacks to more than it may.
        """
        size, held = 0, b""
        with self._open() as file:
            while block := file.read(BLOCK):
                self.check()
                size += len(block)
                if self.packed and size > self.max_unpacked:
                    msg = f"unpacks to more than {self.max_unpacked:,} bytes: publish it in parts"
                    raise Fatal(msg, code="too_large")
                if held:
                    yield held
                held = block
        # In UTF-16 it is part of a character.
        if held and not (held[-1:] == _END and held[-2:-1] == b"\0"):
            held = held.rstrip(_END)
        if held:
            yield held

    def lines(self, encoding: str) -> Generator[str, None, None]:
        r"""Yield all physical lines with their ends: ``\n``, ``\r\n`` or ``\r``; the last without ``\x1a`` at its end.

        Raises:
            Fatal: ``too_large``, a line has ``MAX_CELL`` characters.
        """
        held = ""
        codec, errors = codec_and_errors(encoding)
        with self._open() as file, io.TextIOWrapper(file, encoding=codec, errors=errors, newline="") as text:
            while line := text.readline(MAX_CELL):
                if len(line) == MAX_CELL:
                    msg = f"has a line of {MAX_CELL:,} characters or more: is it a table, with one row a line?"
                    raise Fatal(msg, code="too_large")
                if held:
                    yield held
                held = line
            if held := held.rstrip(_END.decode()):
                yield held
