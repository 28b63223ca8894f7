"""One file as a form's body, streamed: its length is known beforehand, its bytes are read when they are sent."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import BinaryIO

BLOCK = 1024 * 1024


class Multipart:
    """The body of a form with one file; may be sent again, as it opens the file anew each time.

    Args:
        name: of the file, as the server is told.
        open_file: opens it.
        size: its bytes.
        field: of the form.
    """

    def __init__(self, name: str, open_file: Callable[[], BinaryIO], size: int, field: str = "file") -> None:
        boundary = secrets.token_hex(16)
        told = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{told}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._open = open_file
        self._size = size

    def __len__(self) -> int:
        """Return the bytes of the whole body."""
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body."""
        yield self._head
        with self._open() as file:
            while block := file.read(BLOCK):
                yield block
        yield self._tail
