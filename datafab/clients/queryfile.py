"""The query files of an ``endpoint.csv``: they travel with its job, for the workers may be on other hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from datafab.clients.store import Store
from datafab.errors import FlowError

#: Bytes of a query: a longer one would fit into no request.
LONGEST = 64 * 1024


def below(folder: Path, name: str) -> Path | None:
    """Return the file of this name below a folder; None where it leads out of it, by ``..``, a root or a link."""
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) else None


def found(names: Iterable[str], folder: Path | None, collection: Store) -> Iterator[tuple[str, str]]:
    """Yield name and text of those files that lie below the folder, else below the collection's root."""
    for name in dict.fromkeys(names):
        data = _read(folder, name) if folder else None
        if data is None and ".." not in PurePosixPath(name).parts and not name.startswith("/"):
            data = _kept(collection, name)
        if data is not None and len(data) <= LONGEST:
            yield name, data.decode(errors="replace")


def _kept(collection: Store, name: str) -> bytes | None:
    try:
        return collection.read(name) if name else None
    except (FlowError, ValueError):  # a folder, or no name at all
        return None


def _read(folder: Path, name: str) -> bytes | None:
    path = below(folder, name)
    try:
        return path.read_bytes() if path else None
    except (OSError, ValueError):
        return None
