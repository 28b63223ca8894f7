"""The index of analysed resources: one document per source, searched by words, columns and formats."""

from __future__ import annotations

from pathlib import Path

from datafab.errors import SettingError
from datafab.index.interface import Index, PutOutcome, PutResult
from datafab.index.sqlite import SqliteIndex
from datafab.settings import Settings, load
from datafab.urls import without_credentials

__all__ = ["Index", "PutOutcome", "PutResult", "index_file", "open_index"]


def index_file(url: str) -> Path | None:
    """Return the file of the index at a URL; None if that is not SQLite."""
    scheme, _, rest = url.partition("://")
    return Path(rest[1:]) if scheme == "sqlite" and rest.startswith("/") and rest != "/" else None


def open_index(url: str, settings: Settings | None = None) -> Index:
    """Return the index at a URL.

    Args:
        url: ``sqlite:///path``, with four slashes if the path is absolute, or ``http://host:9200/name``.
        settings: for the login and the timeouts of Elasticsearch; None: those of the environment.

    Raises:
        SettingError: the URL is of another kind, or has no path.
    """
    file = index_file(url)
    if file is not None:
        return SqliteIndex(file)
    if url.partition("://")[0] in {"http", "https"}:
        from datafab.index.elastic import ElasticIndex  # noqa: PLC0415 - its client takes a second to import

        return ElasticIndex(url, settings or load())
    msg = f"DATAFAB_INDEX_URL={without_credentials(url)!r} is not the URL of an index: give sqlite:///path or http://host:9200/name"
    raise SettingError(msg, field="DATAFAB_INDEX_URL")
