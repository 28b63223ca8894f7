"""An index in Elasticsearch 8 or 9, for any number of hosts.

Documents are written through the alias ``<name>-write`` and read through ``<name>``. The index behind the aliases is
created if it is missing, and replaced by ``elastic_migration.py``. Versions are external (``external_gte``), so that
the server refuses a document that is older than the stored one, and putting a document twice changes nothing.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, NotFoundError
from elasticsearch.helpers import parallel_bulk, streaming_bulk

from datafab.core.document import Count, Document, Results, document_id
from datafab.errors import FlowError, Retriable, SettingError
from datafab.index import elastic_indices, elastic_legacy
from datafab.index.elastic_errors import INDEX_MISSING, SETTING, put_result, translate_error
from datafab.index.elastic_mapping import SCHEMA_VERSION, SEARCH_FIELDS, bulk_action, read_document
from datafab.index.elastic_query import search_request
from datafab.index.highlight import find_highlights
from datafab.index.interface import PutOutcome, PutResult
from datafab.index.query import Facet, Sort, check_page
from datafab.settings import Settings

#: Default name of the alias that is read: csvmetadtgv's own.
DEFAULT_NAME = "csvmetadtgv"
#: Maximum bytes of a bulk request: a server accepts 100 MB, a proxy in front of it often less.
MAX_REQUEST_BYTES = 8 * 1024**2
#: Minimum number of documents for two parallel requests, of which the server handles one while the other is prepared.
MIN_PARALLEL_DOCUMENTS = 200
#: Fields of the bulk answer that are read: the whole answer has a long entry for each document.
BULK_ANSWER_FIELDS = ("items.*.status", "items.*.error")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,100}")
_DEFAULT_PORTS = {"http": 9200, "https": 443}


class ElasticIndex:
    """An index in Elasticsearch. Safe for threads and forks; connects on first use.

    Args:
        url: ``http(s)://[user:password@]host[:port][/path][/name]``; the default ports are 9200 and 443.
        settings: for the login, the trusted CA and the timeouts.

    Raises:
        SettingError: the URL cannot be used.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        parts = urlsplit(url)
        path, _, name = parts.path.rstrip("/").rpartition("/")
        self.name = name or DEFAULT_NAME
        try:
            port = parts.port or _DEFAULT_PORTS[parts.scheme]
        except ValueError:
            port = 0
        if not parts.hostname or not port or not _NAME.fullmatch(self.name):
            msg = f"{SETTING}: give http://host:9200/name; a name has small letters, digits, '-', '_' and '.'"
            raise SettingError(msg, field=SETTING)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.display_url = f"{parts.scheme}://{host}:{port}{path}/{self.name}"
        self.write_alias = f"{self.name}-write"
        self.legacy = settings.index_legacy
        self._options = _client_options(parts.username, parts.password, settings) | {
            "hosts": [f"{parts.scheme}://{host}:{port}{path}"]
        }
        #: the client with the id of its process, as each process needs one of its own
        self._client: tuple[int, Elasticsearch] | None = None
        #: clients of a parent process, which must be neither used nor closed here
        self._foreign: list[Elasticsearch] = []
        self._ensured = False

    @property
    def client(self) -> Elasticsearch:
        """The Elasticsearch client of this process."""
        known = self._client
        if known is not None and known[0] == os.getpid():
            return known[1]
        if known is not None:
            self._foreign.append(known[1])
        # The client logs every request, and every failure, which our errors report already.
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)
        made = Elasticsearch(**self._options)
        self._client = (os.getpid(), made)
        return made

    def ping(self) -> None:
        """Raise Retriable or FlowError if the index cannot be used."""
        self.aliases()

    def close(self) -> None:
        """Close the client; a later use connects again."""
        known, self._client = self._client, None
        if known is not None and known[0] == os.getpid():
            known[1].close()

    def put_many(self, documents: Iterable[Document]) -> list[PutResult]:
        """Put documents; return the result of each. An older version never replaces a newer one.

        Raises:
            Retriable: the index is unavailable, and the result of every document is unknown.
            FlowError: the index refuses the login or cannot be used.
        """
        batch = list(documents)
        if not self._ensured:
            self.ensure_index()
        found = self._put(batch)
        if any(isinstance(one, Retriable) and one.code == INDEX_MISSING for one in found):
            # The index was deleted since it was ensured.
            self.ensure_index()
            found = self._put(batch)
        return found

    def _put(self, documents: list[Document]) -> list[PutResult]:
        found = self._bulk(partial(bulk_action, self.write_alias), documents)
        if not self.legacy:
            return found
        legacy_results = self._bulk(partial(elastic_legacy.legacy_bulk_action, self.legacy), documents)
        return [two if isinstance(one, PutOutcome) else one for one, two in zip(found, legacy_results, strict=True)]

    def _bulk(self, to_action: Callable[[Document], dict[str, Any]], documents: list[Document]) -> list[PutResult]:
        found: list[PutResult] = []
        size = min(500, -(-len(documents) // 2))
        put = (
            partial(parallel_bulk, thread_count=2, chunk_size=size)
            if len(documents) >= MIN_PARALLEL_DOCUMENTS
            else streaming_bulk
        )
        # No retries in the client: a worker should not wait, and the caller tries again.
        client = self.client.options(max_retries=0)
        try:
            for _, answer in put(
                client,
                map(to_action, documents),
                max_chunk_bytes=MAX_REQUEST_BYTES,
                raise_on_error=False,
                raise_on_exception=False,
                require_alias=True,
                filter_path=BULK_ANSWER_FIELDS,
            ):
                found.append(put_result(next(iter(answer.values())), self.display_url))
        except TransportError as error:
            broken = translate_error(error, self.display_url)
            if not found or not isinstance(broken, Retriable):
                raise broken from error
            found.extend(broken for _ in documents[len(found) :])
        return found

    def get(self, source: str) -> Document | None:
        """Return the document of a source."""
        with self.translating_errors():
            try:
                found = self.client.get(index=self.name, id=document_id(source), source_excludes=SEARCH_FIELDS)
            except NotFoundError:
                return None
        return read_document(found["_source"])

    def delete(self, source: str, *, version: int | None = None) -> bool:
        """Delete the document of a source, unless it has a later version; return whether it was deleted."""
        name, aliases_by_index = document_id(source), self.aliases()
        with self.translating_errors():
            if self.legacy and self.client.indices.exists_alias(name=self.legacy):
                elastic_indices.delete_document(self, self.legacy, name, version)
        read = {index for index, names in aliases_by_index.items() if self.name in names}
        written = {index for index, names in aliases_by_index.items() if self.write_alias in names}
        with self.translating_errors():
            if read != written:  # during a migration, whose copying must not restore the document
                return elastic_indices.delete_during_migration(self, name, version)
            return elastic_indices.delete_document(self, self.write_alias, name, version) if written else False

    def documents(self) -> Iterator[Document]:
        """Yield all documents visible to searches, in no particular order."""
        with self.translating_errors():
            if self.client.indices.exists(index=self.name):
                yield from elastic_indices.stored_documents(self, self.name)

    def count(self) -> int:
        """Return the number of documents visible to searches."""
        with self.translating_errors():
            try:
                return int(self.client.count(index=self.name)["count"])
            except NotFoundError:
                return 0

    def refresh(self) -> None:
        """Make all documents put so far visible to searches; this happens by itself after a second."""
        with self.translating_errors():
            self.client.indices.refresh(index=f"{self.name},{self.write_alias}", ignore_unavailable=True)

    def search(
        self,
        query: str,
        limit: int = 20,
        offset: int = 0,
        *,
        sort: Sort = Sort.RELEVANCE,
        facets: Collection[Facet] = (),
    ) -> Results:
        """Search documents."""
        from datafab.index.query_parser import parse_query  # noqa: PLC0415 - lark costs a tenth of a second

        parsed = parse_query(query)
        found = self.run_search(
            **search_request(parsed, *check_page(limit, offset), sort, facets), source_excludes=SEARCH_FIELDS
        )
        if found is None:
            return Results(total=0, facets={facet.value: () for facet in facets})
        hits = tuple(read_document(hit["_source"]) for hit in found["hits"]["hits"])
        counts = {
            name: tuple(Count(value=each["key"], count=each["doc_count"]) for each in values["buckets"])
            for name, values in found.get("aggregations", {}).items()
        }
        return Results(
            total=found["hits"]["total"]["value"], hits=hits, highlights=find_highlights(parsed, hits), facets=counts
        )

    def run_search(self, **search: Any) -> dict[str, Any] | None:
        """Return Elasticsearch's answer to a search; None if there is no index yet."""
        with self.translating_errors():
            try:
                answer: dict[str, Any] = self.client.search(index=self.name, **search).body
            except NotFoundError:
                return None
        return answer

    def aliases(self) -> dict[str, set[str]]:
        """Return the indexes behind the two aliases, with the aliases of each."""
        with self.translating_errors():
            both = f"{self.name},{self.write_alias}"
            answer = self.client.options(ignore_status=404).indices.get_alias(name=both, allow_no_indices=True)
        return {index: set(found["aliases"]) for index, found in answer.body.items() if isinstance(found, dict)}

    def ensure_index(self) -> None:
        """Create the template, the index and its aliases if they are missing. Safe to call concurrently.

        Raises:
            FlowError: they were created by an older datafab.
        """
        written = [index for index, names in self.aliases().items() if self.write_alias in names]
        with self.translating_errors():
            if self.legacy:
                elastic_indices.ensure_legacy_index(self, self.legacy)
            if not written:
                elastic_indices.log_missing_analyzer(self, elastic_indices.put_template(self))
                elastic_indices.create_index(
                    self,
                    elastic_indices.index_name(self.name, 1),
                    {self.name: {}, self.write_alias: {"is_write_index": True}},
                )
            elif elastic_indices.read_index_meta(self, written[0]).get("schema_version", 0) < SCHEMA_VERSION:
                msg = f"{self.display_url} is of an older datafab: run `datafab index migrate`; searches go on"
                raise FlowError(msg, code="index", field=SETTING)
        self._ensured = True

    @contextmanager
    def translating_errors(self) -> Iterator[None]:
        """Translate the client's errors."""
        try:
            yield
        except (ApiError, TransportError) as error:
            raise translate_error(error, self.display_url) from error


def _client_options(user: str | None, password: str | None, settings: Settings) -> dict[str, Any]:
    """Return the options of a client except its hosts."""
    options: dict[str, Any] = {
        "request_timeout": settings.read_timeout,
        "connections_per_node": settings.io_threads,
        # One retry, for a connection that the server has closed meanwhile; all other retries are up to the caller.
        "max_retries": 1,
        "retry_on_status": (),
        "headers": {"User-Agent": settings.user_agent},
    }
    login, secret = settings.index_login, settings.index_password
    if settings.index_api_key:
        options["api_key"] = settings.index_api_key
    elif user:
        options["basic_auth"] = (unquote(user), unquote(password or ""))
    elif login:
        options["basic_auth"] = (login, secret or "")
    if settings.ca_bundle:
        options["ca_certs"] = str(settings.ca_bundle)
    return options
