"""``file:`` endpoints: files below one folder of this host, logged in the terms of HTTP, as the original does."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from datafab.fetch.answer import Transform
from datafab.fetch.connection import READ_BYTES, TooLarge
from datafab.fetch.refusal import Refusal, bad_status, empty, explain
from datafab.fetch.result import FetchResult
from datafab.settings import Settings
from datafab.store.regularfile import open_regular
from datafab.store.store import Store
from datafab.urls import without_credentials

#: Error on opening a file -> the status that a server would answer with.
_STATUSES = {FileNotFoundError: HTTPStatus.NOT_FOUND, PermissionError: HTTPStatus.FORBIDDEN}


def is_file(url: str) -> bool:
    """Tell whether a URL names a file."""
    return url.lower().startswith("file:")


def read_file(
    url: str, store: Store, settings: Settings, headers: Mapping[str, str], transform: Transform | None = None
) -> FetchResult:
    """Copy a file into a store.

    Args:
        url: its path is relative to ``file_root``, with or without a leading slash.
        store: where its bytes go.
        settings: give the folder and the largest size of a file.
        headers: request headers of the result.
        transform: see ``Session.fetch``.

    Raises:
        FlowError: the store cannot be written.
    """
    started = time.perf_counter()
    status: HTTPStatus | None = None
    stored: tuple[str, int] | None = None
    response_headers: dict[str, str] = {}
    try:
        with _open_below(url, settings.file_root) as file:
            status, facts = HTTPStatus.OK, os.fstat(file.fileno())
            response_headers = {"Content-Length": str(facts.st_size), "Date": formatdate(facts.st_mtime, usegmt=True)}
            stored = _store_file(file, store, settings.max_bytes, transform)
        refusal = None if stored else empty(url)
    except _NotAllowed as error:
        refusal = Refusal(error.code, f"{without_credentials(url)}: {error}", error.exception)
    except TooLarge as error:
        refusal = explain(error, url)
    except OSError as error:
        status = _STATUSES.get(type(error), HTTPStatus.BAD_REQUEST)
        reason = error.strerror or type(error).__name__
        refusal = Refusal(
            bad_status(status, url).code, f"{without_credentials(url)}: {reason}, below DATAFAB_FILE_ROOT"
        )
    sha256, size = stored or (None, None)
    return FetchResult(
        url=url,
        elapsed=time.perf_counter() - started,
        status=status,
        headers=response_headers,
        request_headers=headers if status else {},
        sha256=sha256,
        size=size,
        refusal=refusal,
    )


class _NotAllowed(Exception):
    """A file that must not be read."""

    def __init__(self, code: str, message: str, exception: str) -> None:
        super().__init__(message)
        self.code, self.exception = code, exception


def _open_below(url: str, root: Path | None) -> BinaryIO:
    """Open the file of a URL. A path that leads out of the folder fails like that of a missing file."""
    if root is None:
        msg = "files are collected only below the folder DATAFAB_FILE_ROOT, which is not set"
        raise _NotAllowed("no_file_root", msg, "InvalidSchema")
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise _NotAllowed("other_host", f"a file of another host, {parts.netloc!r}", "ValueError")
    names = [unquote(name) for name in parts.path.split("/") if name]
    # An encoded slash within a name is an attempt to leave the folder.
    forged = any("/" in name or "\0" in name for name in names)
    path = root if forged else (root / "/".join(names)).resolve()
    if forged or not path.is_relative_to(root.resolve()):
        raise FileNotFoundError(2, "No such file or directory")
    return open_regular(path)


def _store_file(file: BinaryIO, store: Store, max_bytes: int, transform: Transform | None) -> tuple[str, int] | None:
    chunks = _limited(file, max_bytes)
    if transform is not None:
        chunks = transform("", chunks)
    with store.new_resource() as resource:
        for chunk in chunks:
            resource.write(chunk)
        return resource.commit() if resource.size else None


def _limited(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    size = 0
    while chunk := file.read(READ_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"the file has more than {max_bytes} bytes")
        yield chunk
