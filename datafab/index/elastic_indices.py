"""The index of Elasticsearch behind the aliases: made when it is missing, filled anew from another.

Whoever calls translates the client's errors.
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
from datafab.index.elastic_mapping import SCHEMA, VIEWS, read, template

#: Documents that are read at once to be copied, and how long the server remembers where we are.
PAGE, REMEMBERED = 500, "10m"
_NUMBER = re.compile(r"-v\d+-(\d+)$")

_log = structlog.get_logger(__name__)


class Aliased(Protocol):
    """An index, as far as it has names."""

    #: alias that is read, alias that is written, address for people
    name: str
    write: str
    shown: str

    @property
    def client(self) -> Elasticsearch:
        """Elasticsearch's client."""


def named(name: str, number: int) -> str:
    """Return what the index behind an alias is called."""
    return f"{name}-v{SCHEMA}-{number:06}"


def after(name: str, index: str) -> str:
    """Return the name of the index that comes after this one."""
    found = _NUMBER.search(index)
    return named(name, int(found[1]) + 1 if found else 1)


def create(at: Aliased, index: str, aliases: Mapping[str, Mapping[str, Any]], **settings: Any) -> None:
    """Make an index with these aliases; its template must stand."""
    try:
        at.client.indices.create(index=index, aliases=aliases, settings=settings or None)
    except BadRequestError as error:
        kind = error.body["error"]["type"]
        if kind == "resource_already_exists_exception":
            # Made by another just now, with its aliases; or somebody took those away.
            if aliases:
                actions = [{"add": {"index": index, "alias": alias, **more}} for alias, more in aliases.items()]
                at.client.indices.update_aliases(actions=actions)
        elif kind == "invalid_alias_name_exception":
            msg = (
                f"{at.shown}: there is an index called {next(iter(aliases))}, of the original perhaps, where an alias"
                f" should be: end {SETTING} (or DATAFAB_INDEX_LEGACY) with another name, or delete that index"
            )
            raise FlowError(msg, code="index", field=SETTING) from error
        else:
            raise


def put_template(at: Aliased) -> dict[str, Any]:
    """Put the template; return what it tells of itself."""
    french = _understands(at.client, analyzer="french")
    asciifolding = _understands(at.client, tokenizer="keyword", filter=["asciifolding"])
    made = template(f"{at.name}-v*", french=french, asciifolding=asciifolding)
    at.client.indices.put_index_template(name=at.name, **{key.strip("_"): value for key, value in made.items()})
    meta: dict[str, Any] = made["_meta"]
    return meta


def tell(at: Aliased, meta: Mapping[str, Any]) -> None:
    """Log what a new index has to do without."""
    if meta["analyzer"] != "french":
        _log.warning("the server has no analyzer 'french': another is taken", index=at.shown, analyzer=meta["analyzer"])


def make_legacy(at: Aliased, name: str) -> None:
    """Make the index of the original behind an alias with this name, unless it is there."""
    if not at.client.indices.exists_alias(name=name):
        body = elastic_legacy.template(f"{name}-legacy-*")
        at.client.indices.put_index_template(name=f"{name}-legacy", **body)
        create(at, f"{name}-legacy-000001", {name: {}})


def told(at: Aliased, index: str) -> dict[str, Any]:
    """Return what an index tells of how it was made."""
    mapping = at.client.indices.get_mapping(index=index)[index]["mappings"]
    meta: dict[str, Any] = mapping.get("_meta", {})
    return meta


def stored(at: Aliased, index: str) -> Iterator[Document]:
    """Yield the documents of an index, as they were when the first was asked for.

    Raises:
        Retriable: the server does not know any more how far they were read, or not all of it answers.
    """
    try:
        for hit in scan(at.client, index=index, size=PAGE, scroll=REMEMBERED, source_excludes=VIEWS):
            yield read(hit["_source"])
    except (NotFoundError, ScanError) as error:
        msg = f"{at.shown} has forgotten how far {index} was read, or is not whole: begin again"
        raise Retriable(msg, code="index", field=SETTING) from error


def delete(at: Aliased, index: str, name: str, version: int | None) -> bool:
    """Delete a document, unless that is of a later version; False: there is none, or it is.

    With a version the index must be there: the server would make it.
    """
    judged: dict[str, Any] = {} if version is None else {"version": version, "version_type": "external_gte"}
    try:
        at.client.delete(index=index, id=name, **judged)
    except (NotFoundError, ConflictError):
        return False
    return True


def delete_while_copied(at: Aliased, name: str, version: int | None) -> bool:
    """Delete a document where it may be copied to at any moment; False: there is none, or it is of a later version."""
    latest = int(time.time() * 1000) if version is None else version
    client = at.client.options(ignore_status=404)
    known = [client.get(index=index, id=name, source=False).body for index in (at.name, at.write)]
    # With a version, so that the server refuses what is older, for as long as it remembers deletions.
    delete(at, at.write, name, latest)
    newest = max(int(found.get("_version", 0)) for found in known)
    return 0 < newest <= latest


def _understands(client: Elasticsearch, **analysis: Any) -> bool:
    try:
        client.indices.analyze(text="x", **analysis)
    except BadRequestError:
        return False
    return True
