"""The query files that endpoints name: below the folder of the ``endpoint.csv``, or below the collection."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from datafab.errors import FlowError
from datafab.store.regularfile import read_regular
from datafab.store.store import Store

#: Bytes of a query: a longer one fits into no request.
MAX_QUERY_BYTES = 64 * 1024
#: Suffixes of query files. An endpoint must not make datafab send other files to a server of its choice.
SUFFIXES = frozenset({".rq", ".sparql"})


class QueryFiles:
    """The query files of one job.

    Args:
        packed: digest of the list that the job brought; None when it brought none.
        folder: of the endpoint.csv, where this host has it.
        collection: the collection.
        lists: the store of lists.
    """

    def __init__(self, packed: str | None, folder: Path | None, collection: Store, lists: Store) -> None:
        self._packed = packed
        self._folder = folder
        self._collection = collection
        self._lists = lists
        self._digests: dict[str, str | None] = {}

    def pack(self, names: Iterable[str]) -> str:
        """Store the texts of those of these files that exist as one list; return its digest."""
        texts = {name: text for name in dict.fromkeys(names) if (text := self._text(name)) is not None}
        return self._lists.write_list(json.dumps(texts).encode())

    def store_text(self, name: str) -> str | None:
        """Store the text of a file as a list; return its digest, None when there is no such file."""
        if name not in self._digests:
            text = self._text(name)
            self._digests[name] = None if text is None else self._lists.write_list(text.encode())
        return self._digests[name]

    @cached_property
    def _unpacked(self) -> dict[str, str]:
        return json.loads(self._lists.read_list(self._packed)) if self._packed else {}

    def _text(self, name: str) -> str | None:
        if name in self._unpacked:
            return self._unpacked[name]
        if PurePosixPath(name).suffix not in SUFFIXES:
            return None
        data = _read_below(self._folder, name) if self._folder else None
        if data is None:
            data = _read_from(self._collection, name)
        return None if data is None or len(data) > MAX_QUERY_BYTES else data.decode(errors="replace")


def _read_below(folder: Path, name: str) -> bytes | None:
    """Read a file below a folder; None where its path leads out of it, by ``..``, a root or a link."""
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve()) and path.suffix in SUFFIXES
        return read_regular(path, MAX_QUERY_BYTES) if inside else None
    except (OSError, ValueError):
        return None


def _read_from(collection: Store, name: str) -> bytes | None:
    if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
        return None
    url = urlsplit(collection.root)
    if url.scheme in {"", "file"}:
        return _read_below(Path(unquote(url.path)), name)
    try:
        return collection.read(name)
    except (FlowError, ValueError):  # a folder, or not a usable name
        return None
