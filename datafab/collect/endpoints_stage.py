"""The endpoints of an ``endpoint.csv``: the items of the flow ``collect``; for its parameters see ``stages.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from datafab.collect.batching import by_host
from datafab.collect.endpoint import FetchStatus, Row, endpoint_hash, read_rows, status_by_row, with_fetch_status
from datafab.collect.plugins.sparql_query import split_url
from datafab.collect.queryfile import QueryFiles
from datafab.core.item import Item, Status
from datafab.core.services import Services
from datafab.core.stage import Context, Stage
from datafab.errors import FlowError
from datafab.store.regularfile import read_regular
from datafab.store.store import root_of


def endpoints(ctx: Context) -> Iterator[Item]:
    """Read the endpoints of an endpoint.csv."""
    root = _root(ctx.params)
    store = ctx.services.store(root)
    store.ping()
    store.sweep()
    name = _name(ctx.params)
    now = ctx.services.clock.utc().replace(tzinfo=None)
    seen: set[str] = set()
    queries = _query_files(ctx.params, ctx.services)
    for row in read_rows(_read(name, ctx.services, ctx.check), name.partition("#")[2] or name):
        if row.warning:
            ctx.log.warning(row.warning, endpoint=row.facts.endpoint)
        item = _item(row, root, now, seen)
        if row.facts.plugin == "sparql" and item.collect is not None:
            item = item.evolve(collect=item.collect.evolve(query=queries.store_text(split_url(row.url)[1])))
        yield item


def _item(row: Row, root: str, now: datetime, seen: set[str]) -> Item:
    """Return the item of a row. A repeated row is not fetched: both fetches could run at the same time."""
    key = endpoint_hash(row.url)
    item = Item(source=f"endpoint:{key}", url=row.url, store=root, collect=row.facts)
    if status_by_row(row.facts, row.url, now):
        return item
    if key in seen:
        return with_fetch_status(item, FetchStatus.ALREADY_FETCHED, status=Status.UNCHANGED)
    seen.add(key)
    return item


def _root(params: Mapping[str, Any]) -> str:
    """Return the URL of the collection's store."""
    root = params.get("collection") or ""
    if not root or not isinstance(root, str | Path):
        msg = "no collection: give the folder or URL that gets resource/ and log/"
        raise FlowError(msg, code="missing_parameter", field="collection")
    return root_of(str(root))


def _name(params: Mapping[str, Any]) -> str:
    """Return the parameter ``endpoints``; empty when it is not a text."""
    name = params.get("endpoints")
    return str(name) if isinstance(name, str | Path) else ""


def _read(name: str, services: Services, check: Callable[[], None] = lambda: None) -> bytes:
    """Read the endpoint.csv."""
    if name.startswith("list:"):
        return services.store(services.settings.store).read_list(name.removeprefix("list:").partition("#")[0])
    try:
        return read_regular(_path(name), check=check)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a usable path"
        msg = f"{name or 'no file'}: {reason}; `endpoints` names the endpoint.csv"
        raise FlowError(msg, code="missing_file", field="endpoints") from error


def _path(name: str) -> Path:
    return Path(unquote(urlsplit(name).path)) if name.startswith("file:") else Path(name)


def localise(params: Mapping[str, Any], services: Services) -> dict[str, Any]:
    """Add the query files that endpoints name to the parameters: the job's workers may be on other hosts."""
    name = _name(params)
    if not (name and params.get("collection")):
        return dict(params)
    data = _read(name, services)
    if b"sparql" not in data:
        return dict(params)
    named = (split_url(row.url)[1] for row in read_rows(data, name) if row.facts.plugin == "sparql")
    return {**params, "queries": _query_files(params, services).pack(named)}


def _query_files(params: Mapping[str, Any], services: Services) -> QueryFiles:
    """Return the query files of a job: those among its parameters, else those that this host has."""
    lists = services.store(services.settings.store)
    return QueryFiles(params.get("queries"), query_folder(params), services.store(_root(params)), lists)


def query_folder(params: Mapping[str, Any]) -> Path | None:
    """Return the folder of a job's endpoint.csv; None where it has none, as an upload."""
    name = _name(params)
    listed = name.startswith("list:")
    path = _path(name.partition("#")[2] if listed else name)
    return path.parent if path.name and (path.is_absolute() or not listed) else None


STAGES = (
    Stage(
        name="endpoints",
        params=frozenset({"endpoints", "collection", "queries", "log_facts", "conditional", "adaptive"}),
        queue="io",
        expand=endpoints,
        deal=by_host,
        provides=frozenset({"url", "collect", "store"}),
    ),
)
