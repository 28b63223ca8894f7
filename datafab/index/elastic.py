"""An index in Elasticsearch 8 or 9, for any number of hosts.

Documents are written through the alias ``<name>-write`` and read through ``<name>``; what stands behind them is made
when it is missing, and exchanged by ``elastic_migration.py``. Versions are ours (``external_gte``), so that the server
refuses what is older than what it has, and putting something twice changes nothing.
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
from datafab.index import elastic_indices as making
from datafab.index import elastic_legacy
from datafab.index.elastic_errors import MISSING, SETTING, failure, outcome
from datafab.index.elastic_mapping import SCHEMA, VIEWS, action, read
from datafab.index.elastic_query import request
from datafab.index.highlight import highlights
from datafab.index.interface import Outcome, Put
from datafab.index.query import Facet, Sort, page
from datafab.settings import Settings

#: Name of the alias that is read, unless the URL ends with another: the original's.
NAME = "csvmetadtgv"
#: Bytes of one bulk request: a server takes 100 MB, what stands before it often less.
MAX_REQUEST = 8 * 1024**2
#: From so many documents on they go in two requests at once: the server works on one while the other is written here.
MANY = 200
#: What is read of the answer, which is long: one entry for each document.
ANSWERED = ("items.*.status", "items.*.error")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,100}")
_PORTS = {"http": 9200, "https": 443}


class ElasticIndex:
    """An index of Elasticsearch. Safe for threads and forks; connects when it is first used.

    Args:
        url: ``http(s)://[user:password@]host[:port][/path][/name]``; ports 9200 and 443 where none is given.
        settings: who we are, whom we trust, how long we wait.

    Raises:
        SettingError: the URL cannot be used.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        parts = urlsplit(url)
        path, _, name = parts.path.rstrip("/").rpartition("/")
        self.name = name or NAME
        try:
            port = parts.port or _PORTS[parts.scheme]
        except ValueError:
            port = 0
        if not parts.hostname or not port or not _NAME.fullmatch(self.name):
            msg = f"{SETTING}: give http://host:9200/name; a name has small letters, digits, '-', '_' and '.'"
            raise SettingError(msg, field=SETTING)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.shown = f"{parts.scheme}://{host}:{port}{path}/{self.name}"
        self.write = f"{self.name}-write"
        self.legacy = settings.index_legacy
        self._options = _options(parts.username, parts.password, settings) | {
            "hosts": [f"{parts.scheme}://{host}:{port}{path}"]
        }
        #: the client, with the process that made it: another process has one of its own
        self._client: tuple[int, Elasticsearch] | None = None
        #: those of a parent process: they must not be used here, nor closed
        self._foreign: list[Elasticsearch] = []
        self._made = False

    @property
    def client(self) -> Elasticsearch:
        """Elasticsearch's client of this process."""
        known = self._client
        if known is not None and known[0] == os.getpid():
            return known[1]
        if known is not None:
            self._foreign.append(known[1])
        # The client logs every request, and of every failure what our errors say.
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)
        made = Elasticsearch(**self._options)
        self._client = (os.getpid(), made)
        return made

    def ping(self) -> None:
        """Raise Retriable or FlowError when the index cannot be used."""
        self.aliases()

    def close(self) -> None:
        """Close what is open; a later use opens it anew."""
        known, self._client = self._client, None
        if known is not None and known[0] == os.getpid():
            known[1].close()

    def put_many(self, documents: Iterable[Document]) -> list[Put]:
        """Put documents; return what became of each. An older version never replaces a newer one.

        Raises:
            Retriable: the index is away, and nothing is known of any document.
            FlowError: it refuses us.
        """
        wanted = list(documents)
        if not self._made:
            self.make()
        found = self._put(wanted)
        if any(isinstance(one, Retriable) and one.code == MISSING for one in found):  # emptied behind our back
            self.make()
            found = self._put(wanted)
        return found

    def _put(self, documents: list[Document]) -> list[Put]:
        found = self._bulk(partial(action, self.write), documents)
        if not self.legacy:
            return found
        beside = self._bulk(partial(elastic_legacy.action, self.legacy), documents)
        return [two if isinstance(one, Outcome) else one for one, two in zip(found, beside, strict=True)]

    def _bulk(self, made: Callable[[Document], dict[str, Any]], documents: list[Document]) -> list[Put]:
        found: list[Put] = []
        size = min(500, -(-len(documents) // 2))
        put = partial(parallel_bulk, thread_count=2, chunk_size=size) if len(documents) >= MANY else streaming_bulk
        # Nobody waits in a worker: what passes by itself is tried again by whoever asked.
        client = self.client.options(max_retries=0)
        try:
            for _, told in put(
                client,
                map(made, documents),
                max_chunk_bytes=MAX_REQUEST,
                raise_on_error=False,
                raise_on_exception=False,
                require_alias=True,
                filter_path=ANSWERED,
            ):
                found.append(outcome(next(iter(told.values())), self.shown))
        except TransportError as error:
            broken = failure(error, self.shown)
            if not found or not isinstance(broken, Retriable):
                raise broken from error
            found.extend(broken for _ in documents[len(found) :])
        return found

    def get(self, source: str) -> Document | None:
        """Return a source's document."""
        with self.telling():
            try:
                found = self.client.get(index=self.name, id=document_id(source), source_excludes=VIEWS)
            except NotFoundError:
                return None
        return read(found["_source"])

    def delete(self, source: str, *, version: int | None = None) -> bool:
        """Forget a source's document, unless that is of a later version than this; False: nothing was forgotten."""
        name, standing = document_id(source), self.aliases()
        with self.telling():
            if self.legacy and self.client.indices.exists_alias(name=self.legacy):
                making.delete(self, self.legacy, name, version)
        read = {index for index, names in standing.items() if self.name in names}
        written = {index for index, names in standing.items() if self.write in names}
        with self.telling():
            if read != written:  # a migration: what it still has to copy must not bring the document back
                return making.delete_while_copied(self, name, version)
            return making.delete(self, self.write, name, version) if written else False

    def documents(self) -> Iterator[Document]:
        """Yield every document that a search sees, in no order."""
        with self.telling():
            if self.client.indices.exists(index=self.name):
                yield from making.stored(self, self.name)

    def count(self) -> int:
        """Return how many documents a search sees."""
        with self.telling():
            try:
                return int(self.client.count(index=self.name)["count"])
            except NotFoundError:
                return 0

    def refresh(self) -> None:
        """Let searches see what was put; by itself this takes a second."""
        with self.telling():
            self.client.indices.refresh(index=f"{self.name},{self.write}", ignore_unavailable=True)

    def search(
        self,
        query: str,
        limit: int = 20,
        offset: int = 0,
        *,
        sort: Sort = Sort.RELEVANCE,
        facets: Collection[Facet] = (),
    ) -> Results:
        """Find documents."""
        from datafab.index.query_parser import parse  # noqa: PLC0415 - lark costs a tenth of a second

        asked = parse(query)
        found = self.ask(**request(asked, *page(limit, offset), sort, facets), source_excludes=VIEWS)
        if found is None:
            return Results(total=0, facets={facet.value: () for facet in facets})
        hits = tuple(read(hit["_source"]) for hit in found["hits"]["hits"])
        counts = {
            name: tuple(Count(value=each["key"], count=each["doc_count"]) for each in values["buckets"])
            for name, values in found.get("aggregations", {}).items()
        }
        return Results(
            total=found["hits"]["total"]["value"], hits=hits, highlights=highlights(asked, hits), facets=counts
        )

    def ask(self, **search: Any) -> dict[str, Any] | None:
        """Return Elasticsearch's answer to a search; None: there is no index yet."""
        with self.telling():
            try:
                answer: dict[str, Any] = self.client.search(index=self.name, **search).body
            except NotFoundError:
                return None
        return answer

    def aliases(self) -> dict[str, set[str]]:
        """Return the indexes behind the two aliases, with those that each has."""
        with self.telling():
            both = f"{self.name},{self.write}"
            answer = self.client.options(ignore_status=404).indices.get_alias(name=both, allow_no_indices=True)
        return {index: set(told["aliases"]) for index, told in answer.body.items() if isinstance(told, dict)}

    def make(self) -> None:
        """Make the template, the index and its aliases, unless they are there. Several may do so at once.

        Raises:
            FlowError: they are of an older datafab.
        """
        standing = [index for index, names in self.aliases().items() if self.write in names]
        with self.telling():
            if self.legacy:
                making.make_legacy(self, self.legacy)
            if not standing:
                making.tell(self, making.put_template(self))
                making.create(self, making.named(self.name, 1), {self.name: {}, self.write: {"is_write_index": True}})
            elif making.told(self, standing[0]).get("schema_version", 0) < SCHEMA:
                msg = f"{self.shown} was made by an older datafab: run `datafab index migrate`; reading goes on"
                raise FlowError(msg, code="index", field=SETTING)
        self._made = True

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Translate what goes wrong."""
        try:
            yield
        except (ApiError, TransportError) as error:
            raise failure(error, self.shown) from error


def _options(user: str | None, password: str | None, settings: Settings) -> dict[str, Any]:
    """Return what a client needs but for its hosts."""
    options: dict[str, Any] = {
        "request_timeout": settings.read_timeout,
        "connections_per_node": settings.io_threads,
        # A connection that the server has closed meanwhile is made anew once; all else is for whoever asked.
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
