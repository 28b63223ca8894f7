"""The index of what was analysed: one document per source, found by words, columns and formats."""

from __future__ import annotations

from pathlib import Path

from datafab.errors import SettingError
from datafab.index.interface import Index, Outcome, Put
from datafab.index.sqlite import SqliteIndex
from datafab.settings import Settings, load
from datafab.urls import without_credentials

__all__ = ["Index", "Outcome", "Put", "index_file", "open_index"]


def index_file(url: str) -> Path | None:
    """Return the file that the index at a URL is; None if it is none."""
    scheme, _, rest = url.partition("://")
    return Path(rest[1:]) if scheme == "sqlite" and rest.startswith("/") and rest != "/" else None


def open_index(url: str, settings: Settings | None = None) -> Index:
    """Return the index at a URL.

    Args:
        url: ``sqlite:///path``, four slashes where the path is absolute; ``http://host:9200/name``: Elasticsearch.
        settings: what Elasticsearch needs to know of us; None: what the environment says.

    Raises:
        SettingError: another kind of index, or no path.
    """
    file = index_file(url)
    if file is not None:
        return SqliteIndex(file)
    if url.partition("://")[0] in {"http", "https"}:
        from datafab.index.elastic import ElasticIndex  # noqa: PLC0415 - its client takes a second to import

        return ElasticIndex(url, settings or load())
    msg = f"DATAFAB_INDEX_URL={without_credentials(url)!r} is no index: give sqlite:///path or http://host:9200/name"
    raise SettingError(msg, field="DATAFAB_INDEX_URL")
