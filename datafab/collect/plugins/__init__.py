"""The plugins that make a resource from several answers, or in another format than the server's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from datafab.collect.plugins import sparql
from datafab.collect.plugins.arcgis import ArcgisLayer
from datafab.collect.plugins.parameters import ArcgisParameters, WfsParameters, read_parameters
from datafab.collect.plugins.sparql_query import split_url
from datafab.collect.plugins.wfs import WfsLayer
from datafab.core.item import CollectFacts
from datafab.errors import Fatal
from datafab.fetch.session import Get
from datafab.urls import without_credentials

#: Time limit of the answer to a query.
QUERY_SECONDS = 120.0
#: Time limit of a page of a WFS server.
PAGE_SECONDS = 120.0

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginFetch:
    """How a plugin makes a resource.

    Attributes:
        produce: see ``Session.fetch_pages``.
        page_seconds: time limit of one answer.
        headers: sent with each request.
        retries: attempts after the first, where the endpoint says.
        retry_delay: seconds before the first of them, where the endpoint says.
        exception: class name in the log of an answer that was refused without an error.
    """

    produce: Callable[[Get], Iterator[bytes]]
    page_seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    retries: int | None = None
    retry_delay: float | None = None
    exception: str = "HTTPError"


def plugin_fetch(
    facts: CollectFacts, url: str, query: Callable[[], str | None], warn: Callable[[str], None]
) -> PluginFetch | None:
    """Return how the plugin of an endpoint makes its resource; None when a plain GET does.

    Args:
        facts: the endpoint's.
        url: the endpoint's.
        query: returns the text of the query file that the URL names; None when there is none.
        warn: called with what is wrong with the endpoint's parameters.

    Raises:
        Fatal: the endpoint names no query file that exists.
    """
    match facts.plugin:
        case "arcgis":
            parameters = _parameters(ArcgisParameters, facts, warn)
            return PluginFetch(
                produce=lambda get: ArcgisLayer(get, url, parameters.max_page_size).dump(),
                page_seconds=parameters.timeout,
                retries=parameters.retries,
                retry_delay=parameters.retry_backoff_seconds,
                exception="EsriDownloadError",
            )
        case "sparql":
            service, name = split_url(url)
            text = query()
            if text is None:
                raise Fatal(_no_query(url, name), code="missing_query", field="endpoint-url")
            return PluginFetch(
                produce=lambda get: sparql.SparqlQuery(get, service, text).rows(),
                page_seconds=QUERY_SECONDS,
                headers=sparql.ACCEPT,
            )
        case "wfs":
            size = _parameters(WfsParameters, facts, warn).page_size
            return (
                PluginFetch(produce=lambda get: WfsLayer(get, url, size).dump(), page_seconds=PAGE_SECONDS)
                if size
                else None
            )
    return None


def _parameters(model: type[P], facts: CollectFacts, warn: Callable[[str], None]) -> P:
    parameters, warning = read_parameters(model, facts.parameters)
    if warning:
        warn(warning)
    return parameters


def _no_query(url: str, name: str) -> str:
    if not name:
        return f"{without_credentials(url)}: a sparql endpoint is <service>#<query file>, and this one names no file"
    where = "below the folder of the endpoint.csv or the collection, ending in .rq or .sparql"
    return f"{without_credentials(url)}: there is no query file {name!r} {where}"
