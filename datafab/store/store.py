"""A store root: resources by digest, logs and analyses by name, each written whole or not at all.

| name | holds |
| --- | --- |
| ``resource/<sha256>`` | bytes, never changed |
| ``log/YYYY-MM-DD/<endpoint>.json`` | one fetch (``datafab/collect/fetchlog.py``) |
| ``history/<endpoint>.json`` | an endpoint's last answer (``datafab/collect/history.py``) |
| ``analysis/<sha256>/<version>.json`` | one analysis |
| ``bad-rows/<job>.csv`` | the rows that a push has left out |
| ``former/<digest>.json``, ``.jsonl.gz`` | a CKAN table that is being replaced (``datafab/push/former_table.py``) |
| ``batch/<sha256>`` | an item list too long for a message |
| ``tmp/`` | unfinished files, removed when a day old; the folder exists only while a process writes |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Self, TypeVar
from urllib.parse import unquote

from datafab.cancellation import check
from datafab.errors import Fatal, FlowError, SettingError
from datafab.store.files import Files, one_day_ago, raise_store_error
from datafab.store.folder import Folder
from datafab.store.scratch import sweep_work_folders
from datafab.urls import url_parts, usable

T = TypeVar("T")

#: Bodies below this stay in memory until their digest is known: a resource that exists is never written again.
MEMORY_BYTES = 256 * 1024

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ResourceWriter:
    """Writes a resource whose name, its digest, is known at its end only. Without ``commit`` nothing is kept.

    Attributes:
        size: bytes written so far.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._hash = hashlib.sha256()
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._path: str | None = None
        self._file: BinaryIO | None = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Append some bytes.

        Raises:
            FlowError: they cannot be written.
            Lost: the job was cancelled.
        """
        check()
        self._hash.update(chunk)
        self._chunks.append(chunk)
        self._buffered += len(chunk)
        self.size += len(chunk)
        if self._buffered >= MEMORY_BYTES:
            self._spill()

    def commit(self) -> tuple[str, int]:
        """Keep the bytes written as a resource; return its sha256 and size in bytes."""
        digest = self._hash.hexdigest()
        name = _resource(digest)
        # A file of another size was cut short: by a crash of the original, which writes in place, or a power cut.
        if self._files.size(name) != self.size:
            if self._path is None:
                self._files.write(name, b"".join(self._chunks))
            else:
                self._files.finish(self._spill(end=True), name)
                self._path = None
        else:
            # Pruning removes old resources that nothing refers to: this one is about to be referred to.
            self._files.touch(name)
        self.discard()
        return digest, self.size

    def discard(self) -> None:
        """Remove what was written and not committed."""
        with suppress(OSError):
            self._close()
        if self._path is not None:
            Path(self._path).unlink(missing_ok=True)
        self._path, self._chunks = None, []

    def _spill(self, *, end: bool = False) -> str:
        """Move the buffered chunks to the temporary file; return its path."""
        if self._file is None or self._path is None:
            self._file = self._files.create_temporary()
            self._path = self._file.name
        try:
            self._file.write(b"".join(self._chunks))
            if end:
                self._close()
        except OSError as error:
            raise_store_error(self._path, error)
        self._chunks, self._buffered = [], 0
        return self._path

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


class Store:
    """The files below one root. Any number of processes may use it at once.

    Attributes:
        root: its path or URL as given: a folder, or ``s3://bucket/prefix``.
    """

    def __init__(self, root: str, s3_endpoint: str | None = None) -> None:
        self.root = root
        self._files = files_at(root, s3_endpoint)

    def ping(self) -> None:
        """Raise FlowError unless the store can be written to; mark it for ``require_marked``."""
        self._files.ping()

    def require_marked(self) -> None:
        """Raise FlowError unless a host has pinged the store: this may be another folder of the same name."""
        self._files.require_marked()

    def tidy(self) -> None:
        """Remove the empty folder of temporary files; call it when a piece of work is done."""
        self._files.tidy()

    def new_resource(self) -> ResourceWriter:
        """Start a resource: ``with store.new_resource() as resource: resource.write(chunk); resource.commit()``."""
        return ResourceWriter(self._files)

    def has(self, sha256: str) -> bool:
        """Tell whether the store has a resource."""
        return self.size(sha256) is not None

    def size(self, sha256: str) -> int | None:
        """Return the size of a resource in bytes; None when there is none."""
        return self._files.size(_resource(sha256))

    def open(self, sha256: str) -> BinaryIO:
        """Open a resource for reading.

        Raises:
            Fatal: there is no such resource.
        """
        try:
            return self._files.open(_resource(sha256))
        except FileNotFoundError as error:
            raise self._missing(sha256) from error

    @contextmanager
    def local(self, sha256: str) -> Iterator[Path]:
        """Provide a resource as a file of this host until the end of ``with``; one in a bucket is downloaded.

        Raises:
            Fatal: there is no such resource.
        """
        try:
            provided = self._files.local(_resource(sha256))
        except FileNotFoundError as error:
            raise self._missing(sha256) from error
        with provided as path:
            yield path

    def _missing(self, sha256: str) -> Fatal:
        msg = f"no resource {sha256} in the store {self.root}: collect it again"
        return Fatal(msg, code="missing_resource", field="sha256")

    def path(self, sha256: str) -> Path:
        """Return the path of a resource on this host, whether it exists or not."""
        return self._files.path(_resource(sha256))

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file by its name; readers see the old or the new one, never a part."""
        self._files.write(name, data)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file by its name; None when there is none."""
        try:
            with self._files.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    @contextmanager
    def writer(self, name: str) -> Iterator[BinaryIO]:
        """Write or replace a file piece by piece; it is in place once ``with`` has ended without an error."""
        file = self._files.create_temporary()
        try:
            try:
                with file:
                    yield file
            except OSError as error:
                raise_store_error(file.name, error)
            self._files.finish(file.name, name)
        finally:
            Path(file.name).unlink(missing_ok=True)
            self.tidy()

    @contextmanager
    def local_file(self, name: str) -> Iterator[Path | None]:
        """Provide a file, by its name, as a file of this host until the end of ``with``; None when there is none."""
        try:
            provided = self._files.local(name)
        except FileNotFoundError:
            yield None
            return
        with provided as path:
            yield path

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all files below a folder, in no order."""
        return self._files.names(folder)

    def map_names(self, function: Callable[[str], T], names: Iterable[str]) -> Iterator[T]:
        """Yield ``function(name)`` for each name, in order; in several threads where each file takes a request."""
        width = self._files.concurrency
        if width == 1:
            yield from map(function, names)
            return
        remaining = iter(names)
        with ThreadPoolExecutor(width) as pool:
            while batch := list(islice(remaining, 8 * width)):
                yield from pool.map(function, batch)

    def exists(self, name: str) -> bool:
        """Tell whether the store has a file with this name."""
        return self._files.size(name) is not None

    def write_list(self, data: bytes) -> str:
        """Store a list that is too long for a message; return its sha256.

        The file is written again each time, so that its age is that of the last job that needs it (see
        ``remove_lists``).
        """
        digest = hashlib.sha256(data).hexdigest()
        self._files.write(f"batch/{digest}", data)
        self.tidy()
        return digest

    def read_list(self, sha256: str) -> bytes:
        """Return a list that ``write_list`` stored.

        Raises:
            FlowError: the store does not have it.
        """
        if not _DIGEST.fullmatch(sha256):
            msg = f"list {sha256!r}: not a sha256 digest"
            raise FlowError(msg, code="bad_digest")
        data = self.read(f"batch/{sha256}")
        if data is None:
            msg = f"no list {sha256} in the store {self.root}: do all processes use the same DATAFAB_STORE_URL?"
            raise FlowError(msg, code="missing_list", field="DATAFAB_STORE_URL")
        return data

    def remove_lists(self, before: float) -> int:
        """Remove the lists that were last needed before this Unix time; return their number."""
        return self._files.sweep("batch", before)

    def remove_files(self, folder: str, before: float) -> int:
        """Remove the files of a folder that were last written before this Unix time; return their number."""
        return self._files.sweep(folder, before)

    @property
    def touches(self) -> bool:
        """Whether a resource that is collected again counts as written now."""
        return self._files.touches

    def files_with_age(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Yield the files below a folder: name, bytes, Unix time of the last write or touch."""
        return self._files.files_with_age(folder)

    def remove(self, name: str, before: float) -> bool:
        """Remove a file; return False when it is younger than this Unix time, or gone."""
        return self._files.remove(name, before)

    def sweep(self) -> int:
        """Remove day-old files of killed processes, here and in this host's work folders; return their number."""
        return self._files.sweep("tmp", one_day_ago()) + sweep_work_folders(one_day_ago())


def root_of(place: str) -> str:
    """Return the URL of a store's root: the same in every process, whatever its working folder."""
    return place if "://" in place else Path(place).absolute().as_uri()


def _resource(sha256: str) -> str:
    """Return the name of a resource. Digests come from messages and logs: other text could lead out of the store."""
    if not _DIGEST.fullmatch(sha256):
        msg = f"{sha256!r} is not a sha256 digest"
        raise Fatal(msg, code="bad_digest", field="sha256")
    return f"resource/{sha256}"


def files_at(root: str, endpoint: str | None = None) -> Files:
    """Return the files below a root: a plain path, ``file:///srv/store`` or ``s3://bucket/prefix``.

    Args:
        root: the path or URL.
        endpoint: URL of an object store other than Amazon's.

    Raises:
        SettingError: the root is empty or of an unknown kind.
    """
    if not root:
        msg = "the store has no root: give a folder or a URL"
        raise SettingError(msg, field="store")
    url = url_parts(root)
    if url.scheme in {"", "file"} and usable(root):
        return Folder(unquote(url.path) if url.scheme else root)
    if url.scheme == "s3" and url.netloc:
        from datafab.store.bucket import Bucket  # noqa: PLC0415 - boto3 costs half a second

        return Bucket(url.netloc, url.path.strip("/"), endpoint)
    msg = f"store {root!r}: give a folder, file:///srv/store or s3://bucket/prefix"
    raise SettingError(msg, field="store")
