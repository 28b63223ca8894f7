"""A streamed form with one file: its length is known beforehand, and its bytes are read when they are sent."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import BinaryIO

from datafab.cancellation import check

BLOCK_BYTES = 1024 * 1024


class Multipart:
    """The body of a form with one file. It can be sent repeatedly, as it reopens the file each time.

    Args:
        name: name of the file in the form.
        open_file: function that opens the file.
        size: size of the file in bytes.
        field: name of the field of the form.
    """

    def __init__(self, name: str, open_file: Callable[[], BinaryIO], size: int, field: str = "file") -> None:
        boundary = secrets.token_hex(16)
        filename = name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._open = open_file
        self._size = size

    def __len__(self) -> int:
        """Return the length of the body in bytes."""
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body."""
        yield self._head
        with self._open() as file:
            while block := file.read(BLOCK_BYTES):
                check()
                yield block
        yield self._tail
