"""A store root: resources by digest, logs and analyses by name, each written whole or not at all.

| name | holds |
| --- | --- |
| ``resource/<sha256>`` | bytes, never changed |
| ``log/YYYY-MM-DD/<endpoint>.json`` | one fetch (``datafab/collect/fetchlog.py``) |
| ``history/<endpoint>.json`` | how an endpoint was last seen (``datafab/collect/history.py``) |
| ``analysis/<sha256>/<version>.json`` | one analysis |
| ``former/<digest>.json``, ``.jsonl.gz`` | a CKAN table that is being replaced (``datafab/push/former_table.py``) |
| ``batch/<sha256>`` | an item list too long for a message |
| ``tmp/`` | files under way: it is there while somebody writes; what was left is swept when a day old |
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

from datafab.errors import Fatal, FlowError, SettingError
from datafab.store.files import Files, a_day_ago, broken
from datafab.store.folder import Folder
from datafab.store.scratch import sweep_work
from datafab.urls import url_parts, usable

T = TypeVar("T")

#: Bodies below this stay in memory until their digest is known: what is there already is never written again.
IN_MEMORY = 256 * 1024

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Incoming:
    """A resource on its way in, hashed as it comes. Nothing of it stays unless it is committed.

    Attributes:
        size: bytes written so far.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._held = 0
        self._path: str | None = None
        self._file: BinaryIO | None = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, chunk: bytes) -> None:
        """Take some bytes.

        Raises:
            FlowError: they cannot be written.
        """
        self._hash.update(chunk)
        self._parts.append(chunk)
        self._held += len(chunk)
        self.size += len(chunk)
        if self._held >= IN_MEMORY:
            self._spill()

    def commit(self) -> tuple[str, int]:
        """Keep what came as a resource; return its sha256 and size in bytes."""
        digest = self._hash.hexdigest()
        name = _resource(digest)
        # A file of another size was cut short by a crash: written in place by the original, or by a power cut.
        if self._files.size(name) != self.size:
            if self._path is None:
                self._files.write(name, b"".join(self._parts))
            else:
                self._files.adopt(self._spill(end=True), name)
                self._path = None
        else:
            # Whoever removes what is old and named nowhere must not take what is about to be named.
            self._files.renew(name)
        self.discard()
        return digest, self.size

    def discard(self) -> None:
        """Forget what came and was not committed."""
        with suppress(OSError):
            self._close()
        if self._path is not None:
            Path(self._path).unlink(missing_ok=True)
        self._path, self._parts = None, []

    def _spill(self, *, end: bool = False) -> str:
        """Move what is held in memory to the temporary file; return its path."""
        if self._file is None or self._path is None:
            self._file = self._files.create()
            self._path = self._file.name
        try:
            self._file.write(b"".join(self._parts))
            if end:
                self._close()
        except OSError as error:
            broken(self._path, error)
        self._parts, self._held = [], 0
        return self._path

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()


class Store:
    """What lies below one root. Any number of processes may use it at once.

    Attributes:
        root: its URL or path, as given: a folder, or ``s3://bucket/prefix``.
    """

    def __init__(self, root: str, s3_endpoint: str | None = None) -> None:
        self.root = root
        self._files = files_at(root, s3_endpoint)

    def ping(self) -> None:
        """Raise FlowError unless it can be written to."""
        self._files.ping()

    def require_marked(self) -> None:
        """Raise FlowError unless some host has pinged it: else it is another folder of the same name."""
        self._files.require_marked()

    def tidy(self) -> None:
        """Leave nothing behind but what was stored: to be called when a piece of work is done."""
        self._files.tidy()

    def incoming(self) -> Incoming:
        """Begin a resource: ``with store.incoming() as incoming: incoming.write(chunk); incoming.commit()``."""
        return Incoming(self._files)

    def has(self, sha256: str) -> bool:
        """Tell whether there is such a resource."""
        return self.size(sha256) is not None

    def size(self, sha256: str) -> int | None:
        """Return a resource's bytes; None when there is none."""
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
        """Have a resource as a file of this host until the end of ``with``, fetched where the store is elsewhere.

        Raises:
            Fatal: there is no such resource.
        """
        try:
            held = self._files.local(_resource(sha256))
        except FileNotFoundError as error:
            raise self._missing(sha256) from error
        with held as path:
            yield path

    def _missing(self, sha256: str) -> Fatal:
        msg = f"no resource {sha256} in the store {self.root}: collect it again"
        return Fatal(msg, code="missing_resource", field="sha256")

    def path(self, sha256: str) -> Path:
        """Return a resource's path on this host, whether it is there or not."""
        return self._files.path(_resource(sha256))

    def write(self, name: str, data: bytes) -> None:
        """Write a log or an analysis over what was there: readers see the one or the other, never a part."""
        self._files.write(name, data)

    def read(self, name: str) -> bytes | None:
        """Return a log or an analysis; None when there is none."""
        try:
            with self._files.open(name) as file:
                return file.read()
        except FileNotFoundError:
            return None

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Write a file piece by piece over what was there; it is there when ``with`` has ended well."""
        file = self._files.create()
        try:
            try:
                with file:
                    yield file
            except OSError as error:
                broken(file.name, error)
            self._files.adopt(file.name, name)
        finally:
            Path(file.name).unlink(missing_ok=True)
            self.tidy()

    @contextmanager
    def opened(self, name: str) -> Iterator[Path | None]:
        """Have a file of any name as one of this host until the end of ``with``; None when there is none."""
        try:
            held = self._files.local(name)
        except FileNotFoundError:
            yield None
            return
        with held as path:
            yield path

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all files below a folder, in no order."""
        return self._files.names(folder)

    def each(self, names: Iterable[str], look: Callable[[str], T]) -> Iterator[T]:
        """Yield what ``look`` gives for each name, in order; it runs in other threads where the store is far away."""
        width = self._files.side_by_side
        if width == 1:
            yield from map(look, names)
            return
        rest = iter(names)
        with ThreadPoolExecutor(width) as pool:
            while some := list(islice(rest, 8 * width)):
                yield from pool.map(look, some)

    def exists(self, name: str) -> bool:
        """Tell whether there is a file with this name."""
        return self._files.size(name) is not None

    def write_list(self, data: bytes) -> str:
        """Keep what is too long for a message; return its sha256.

        Written anew each time, so that its age is that of the last job that needs it (see ``forget_lists``).
        """
        digest = hashlib.sha256(data).hexdigest()
        self._files.write(f"batch/{digest}", data)
        self.tidy()
        return digest

    def read_list(self, sha256: str) -> bytes:
        """Return what ``write_list`` kept.

        Raises:
            FlowError: it is not there.
        """
        if not _DIGEST.fullmatch(sha256):
            msg = f"list {sha256!r}: no sha256 digest"
            raise FlowError(msg, code="bad_digest")
        data = self.read(f"batch/{sha256}")
        if data is None:
            msg = f"no list {sha256} in the store {self.root}: do all processes use the same DATAFAB_STORE_URL?"
            raise FlowError(msg, code="missing_list", field="DATAFAB_STORE_URL")
        return data

    def forget_lists(self, before: float) -> int:
        """Remove the lists that were last needed before this Unix time; return how many."""
        return self._files.sweep("batch", before)

    @property
    def renews(self) -> bool:
        """Whether a resource that comes in again is as young as a new one."""
        return self._files.renews

    def aged(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Yield all files below a folder: name, bytes, Unix time of the last write."""
        return self._files.aged(folder)

    def remove(self, name: str, before: float) -> bool:
        """Remove a file, unless it is younger than this Unix time, or gone: False then."""
        return self._files.remove(name, before)

    def sweep(self) -> int:
        """Remove what killed processes left here, and in this host's work folders, a day ago; return how many."""
        return self._files.sweep("tmp", a_day_ago()) + sweep_work(a_day_ago())


def root_of(place: str) -> str:
    """Return the URL of a store's root: the same for every process, whatever folder it runs in."""
    return place if "://" in place else Path(place).absolute().as_uri()


def _resource(sha256: str) -> str:
    """Digests come from messages and logs: anything else could be a path out of the store."""
    if not _DIGEST.fullmatch(sha256):
        msg = f"{sha256!r} is no sha256 digest"
        raise Fatal(msg, code="bad_digest", field="sha256")
    return f"resource/{sha256}"


def files_at(root: str, endpoint: str | None = None) -> Files:
    """Return the files below a root: a plain path, ``file:///srv/store`` or ``s3://bucket/prefix``.

    Args:
        root: the path or URL.
        endpoint: of an object store that is not Amazon's.

    Raises:
        SettingError: the root is empty or of another kind.
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
