"""The query files that the endpoints of an ``endpoint.csv`` name: below its folder, or below the collection."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from datafab.errors import FlowError
from datafab.store.regularfile import read_regular
from datafab.store.store import Store

#: Bytes of a query: a longer one would fit into no request.
LONGEST = 64 * 1024
#: What query files end in. An endpoint must not have other files of ours sent to a server of its choice.
ENDINGS = frozenset({".rq", ".sparql"})


class Queries:
    """The query files of one job."""

    def __init__(self, packed: str | None, folder: Path | None, collection: Store, lists: Store) -> None:
        self._packed = packed
        self._folder = folder
        self._collection = collection
        self._lists = lists
        self._kept: dict[str, str | None] = {}

    def packed(self, names: Iterable[str]) -> str:
        """Keep the texts of these files, those that there are, as one list; return its digest."""
        texts = {name: text for name in dict.fromkeys(names) if (text := self._text(name)) is not None}
        return self._lists.write_list(json.dumps(texts).encode())

    def kept(self, name: str) -> str | None:
        """Keep the text of a file as a list; return its digest, None when there is no such file."""
        if name not in self._kept:
            text = self._text(name)
            self._kept[name] = None if text is None else self._lists.write_list(text.encode())
        return self._kept[name]

    @cached_property
    def _brought(self) -> dict[str, str]:
        return json.loads(self._lists.read_list(self._packed)) if self._packed else {}

    def _text(self, name: str) -> str | None:
        if name in self._brought:
            return self._brought[name]
        if PurePosixPath(name).suffix not in ENDINGS:
            return None
        data = _below(self._folder, name) if self._folder else None
        if data is None:
            data = _kept(self._collection, name)
        return None if data is None or len(data) > LONGEST else data.decode(errors="replace")


def _below(folder: Path, name: str) -> bytes | None:
    """Return a file below a folder; None where it leads out of it, by ``..``, a root or a link."""
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve()) and path.suffix in ENDINGS
        return read_regular(path, LONGEST) if inside else None
    except (OSError, ValueError):
        return None


def _kept(collection: Store, name: str) -> bytes | None:
    if not name or name.startswith("/") or ".." in PurePosixPath(name).parts:
        return None
    url = urlsplit(collection.root)
    if url.scheme in {"", "file"}:
        return _below(Path(unquote(url.path)), name)
    try:
        return collection.read(name)
    except (FlowError, ValueError):  # a folder, or no name at all
        return None
