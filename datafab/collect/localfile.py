"""``file:`` endpoints: files below one folder of this host, told of in the words of HTTP, as the original does."""

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

#: What cannot be opened has the status that a server would answer with.
_STATUS = {FileNotFoundError: HTTPStatus.NOT_FOUND, PermissionError: HTTPStatus.FORBIDDEN}


def is_file(url: str) -> bool:
    """Tell whether a URL names a file."""
    return url.lower().startswith("file:")


def read_file(
    url: str, store: Store, settings: Settings, headers: Mapping[str, str], transform: Transform | None = None
) -> FetchResult:
    """Bring a file into a store.

    Args:
        url: its path counts from ``file_root`` on, whether it begins with a slash or not.
        store: where its bytes go.
        settings: say which folder that is, and how large a file may be.
        headers: told of as those of the request.
        transform: see ``Session.fetch``.

    Raises:
        FlowError: the store cannot be written.
    """
    started = time.perf_counter()
    status: HTTPStatus | None = None
    kept: tuple[str, int] | None = None
    answered: dict[str, str] = {}
    try:
        with _opened(url, settings.file_root) as file:
            status, facts = HTTPStatus.OK, os.fstat(file.fileno())
            answered = {"Content-Length": str(facts.st_size), "Date": formatdate(facts.st_mtime, usegmt=True)}
            kept = _keep(file, store, settings.max_bytes, transform)
        refusal = None if kept else empty(url)
    except _Barred as error:
        refusal = Refusal(error.code, f"{without_credentials(url)}: {error}", error.exception)
    except TooLarge as error:
        refusal = explain(error, url)
    except OSError as error:
        status = _STATUS.get(type(error), HTTPStatus.BAD_REQUEST)
        said = error.strerror or type(error).__name__
        refusal = Refusal(bad_status(status, url).code, f"{without_credentials(url)}: {said}, below DATAFAB_FILE_ROOT")
    sha256, size = kept or (None, None)
    return FetchResult(
        url=url,
        elapsed=time.perf_counter() - started,
        status=status,
        headers=answered,
        request_headers=headers if status else {},
        sha256=sha256,
        size=size,
        refusal=refusal,
    )


class _Barred(Exception):
    """A file that nobody may ask for."""

    def __init__(self, code: str, message: str, exception: str) -> None:
        super().__init__(message)
        self.code, self.exception = code, exception


def _opened(url: str, root: Path | None) -> BinaryIO:
    """Open the file of a URL. What leads out of the folder is missing, like anything that is not there."""
    if root is None:
        msg = "files are collected only below the folder DATAFAB_FILE_ROOT, which is not set"
        raise _Barred("no_file_root", msg, "InvalidSchema")
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise _Barred("other_host", f"a file of another host, {parts.netloc!r}", "ValueError")
    names = [unquote(name) for name in parts.path.split("/") if name]
    # An encoded slash within a name is somebody's trick.
    tricky = any("/" in name or "\0" in name for name in names)
    path = root if tricky else (root / "/".join(names)).resolve()
    if tricky or not path.is_relative_to(root.resolve()):
        raise FileNotFoundError(2, "No such file or directory")
    return open_regular(path)


def _keep(file: BinaryIO, store: Store, limit: int, transform: Transform | None) -> tuple[str, int] | None:
    chunks = _chunks(file, limit)
    if transform is not None:
        chunks = transform("", chunks)
    with store.new_resource() as resource:
        for chunk in chunks:
            resource.write(chunk)
        return resource.commit() if resource.size else None


def _chunks(file: BinaryIO, limit: int) -> Iterator[bytes]:
    size = 0
    while chunk := file.read(READ_BYTES):
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the file has more than {limit} bytes")
        yield chunk
