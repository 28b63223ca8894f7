"""The index of what was analysed: one document per source, found by words, columns and formats."""

from __future__ import annotations

from pathlib import Path

from datafab.clients.index.interface import Index, Outcome, Put
from datafab.clients.index.sqlite import SqliteIndex
from datafab.errors import SettingError

__all__ = ["Index", "Outcome", "Put", "open_index"]


def open_index(url: str) -> Index:
    """Return the index at a URL.

    Args:
        url: ``sqlite:///path``; four slashes where the path is absolute.

    Raises:
        SettingError: another kind of index, or no path.
    """
    scheme, _, path = url.partition(":///")
    if scheme == "sqlite" and path:
        return SqliteIndex(Path(path))
    msg = f"DATAFAB_INDEX_URL={url!r} is not supported yet: give sqlite:///path"
    raise SettingError(msg, field="DATAFAB_INDEX_URL")
