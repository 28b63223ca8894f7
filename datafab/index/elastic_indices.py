"""Create the Elasticsearch indexes behind the aliases, and read and delete their documents.

The callers translate the client's errors.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import structlog
from elasticsearch import BadRequestError, ConflictError, Elasticsearch, NotFoundError
from elasticsearch.helpers import ScanError, scan

from datafab.core.document import Document
from datafab.errors import FlowError, Retriable
from datafab.index import elastic_legacy
from datafab.index.elastic_errors import SETTING
from datafab.index.elastic_mapping import SCHEMA_VERSION, SEARCH_FIELDS, index_template, read_document

#: Documents per page of a scroll, and how long the server keeps it open.
SCROLL_DOCUMENTS, SCROLL_TIMEOUT = 500, "10m"
_INDEX_NUMBER = re.compile(r"-v\d+-(\d+)$")

_log = structlog.get_logger(__name__)


class AliasedIndex(Protocol):
    """The names and the client of an index."""

    #: alias for reading, alias for writing, URL without password
    name: str
    write_alias: str
    display_url: str

    @property
    def client(self) -> Elasticsearch:
        """The Elasticsearch client."""


def index_name(name: str, number: int) -> str:
    """Return the name of the index behind an alias."""
    return f"{name}-v{SCHEMA_VERSION}-{number:06}"


def next_index_name(name: str, index: str) -> str:
    """Return the name of the index that replaces this one."""
    found = _INDEX_NUMBER.search(index)
    return index_name(name, int(found[1]) + 1 if found else 1)


def create_index(aliased: AliasedIndex, index: str, aliases: Mapping[str, Mapping[str, Any]], **settings: Any) -> None:
    """Create an index with these aliases; its template must exist."""
    try:
        aliased.client.indices.create(index=index, aliases=aliases, settings=settings or None)
    except BadRequestError as error:
        kind = error.body["error"]["type"]
        if kind == "resource_already_exists_exception":
            # Another process has just created it, or somebody has removed its aliases.
            if aliases:
                actions = [{"add": {"index": index, "alias": alias, **more}} for alias, more in aliases.items()]
                aliased.client.indices.update_aliases(actions=actions)
        elif kind == "invalid_alias_name_exception":
            msg = (
                f"{aliased.display_url}: there is an index named {next(iter(aliases))} where an alias should be:"
                f" end {SETTING} (or DATAFAB_INDEX_LEGACY) with another name, or delete that index"
            )
            raise FlowError(msg, code="index", field=SETTING) from error
        else:
            raise


def put_template(aliased: AliasedIndex) -> dict[str, Any]:
    """Put the index template; return its metadata."""
    french = _accepts_analysis(aliased.client, analyzer="french")
    asciifolding = _accepts_analysis(aliased.client, tokenizer="keyword", filter=["asciifolding"])
    made = index_template(f"{aliased.name}-v*", french=french, asciifolding=asciifolding)
    aliased.client.indices.put_index_template(
        name=aliased.name, **{key.strip("_"): value for key, value in made.items()}
    )
    meta: dict[str, Any] = made["_meta"]
    return meta


def log_missing_analyzer(aliased: AliasedIndex, meta: Mapping[str, Any]) -> None:
    """Log a warning if a new index lacks the French analyzer."""
    if meta["analyzer"] != "french":
        _log.warning(
            "the server has no analyzer 'french': another is used",
            index=aliased.display_url,
            analyzer=meta["analyzer"],
        )


def ensure_legacy_index(aliased: AliasedIndex, name: str) -> None:
    """Create the index in csvmetadtgv's own layout behind an alias, if it is missing."""
    if not aliased.client.indices.exists_alias(name=name):
        body = elastic_legacy.legacy_index_template(f"{name}-legacy-*")
        aliased.client.indices.put_index_template(name=f"{name}-legacy", **body)
        create_index(aliased, f"{name}-legacy-000001", {name: {}})


def read_index_meta(aliased: AliasedIndex, index: str) -> dict[str, Any]:
    """Return the metadata in the mapping of an index."""
    mapping = aliased.client.indices.get_mapping(index=index)[index]["mappings"]
    meta: dict[str, Any] = mapping.get("_meta", {})
    return meta


def stored_documents(aliased: AliasedIndex, index: str) -> Iterator[Document]:
    """Yield the documents of an index as of the time of the first request.

    Raises:
        Retriable: the scroll has expired, or not all shards answer.
    """
    try:
        for hit in scan(
            aliased.client, index=index, size=SCROLL_DOCUMENTS, scroll=SCROLL_TIMEOUT, source_excludes=SEARCH_FIELDS
        ):
            yield read_document(hit["_source"])
    except (NotFoundError, ScanError) as error:
        why = "its scroll has expired, or a shard does not answer"
        msg = f"{aliased.display_url}: {index} was not read to its end ({why}): start again"
        raise Retriable(msg, code="index", field=SETTING) from error


def delete_document(aliased: AliasedIndex, index: str, name: str, version: int | None) -> bool:
    """Delete a document, unless it has a later version; return whether it was deleted.

    With a version, the index must exist, as the server would create it.
    """
    version_check: dict[str, Any] = {} if version is None else {"version": version, "version_type": "external_gte"}
    try:
        aliased.client.delete(index=index, id=name, **version_check)
    except (NotFoundError, ConflictError):
        return False
    return True


def delete_during_migration(aliased: AliasedIndex, name: str, version: int | None) -> bool:
    """Delete a document during a migration, which may still copy it; return whether it was deleted."""
    latest = int(time.time() * 1000) if version is None else version
    client = aliased.client.options(ignore_status=404)
    known = [client.get(index=index, id=name, source=False).body for index in (aliased.name, aliased.write_alias)]
    # With a version, so that the server refuses older copies as long as it remembers the deletion.
    delete_document(aliased, aliased.write_alias, name, latest)
    newest = max(int(found.get("_version", 0)) for found in known)
    return 0 < newest <= latest


def _accepts_analysis(client: Elasticsearch, **analysis: Any) -> bool:
    try:
        client.indices.analyze(text="x", **analysis)
    except BadRequestError:
        return False
    return True
