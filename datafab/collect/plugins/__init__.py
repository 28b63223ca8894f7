"""The plugins that make a resource of several answers, or of another form than the server's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from datafab.collect.plugins import sparql
from datafab.collect.plugins.arcgis import Layer
from datafab.collect.plugins.parameters import ArcgisParameters, WfsParameters, parameters_of
from datafab.collect.plugins.sparql_query import split
from datafab.collect.plugins.wfs import Features
from datafab.core.item import CollectFacts
from datafab.errors import Fatal
from datafab.fetch.session import Get
from datafab.urls import without_credentials

#: Seconds in which the answer to a query must have come.
QUERY = 120.0
#: Seconds in which a page of a WFS server must have come.
PAGE = 120.0

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How a resource is made.

    Attributes:
        produce: see ``Session.gather``.
        page: seconds for one answer.
        headers: sent with each request.
        retries: tries after the first, where the endpoint says.
        pause: seconds before the first of them, where the endpoint says.
        exception: class name for the log where an answer was refused without one.
    """

    produce: Callable[[Get], Iterator[bytes]]
    page: float
    headers: Mapping[str, str] = field(default_factory=dict)
    retries: int | None = None
    pause: float | None = None
    exception: str = "HTTPError"


def making(
    facts: CollectFacts, url: str, query: Callable[[], str | None], warn: Callable[[str], None]
) -> Making | None:
    """Return how the plugin of an endpoint makes its resource; None when a plain GET does.

    Args:
        facts: the endpoint's.
        url: the endpoint's.
        query: gives the text of the query file that the URL names.
        warn: hears what of the endpoint's parameters was no good.

    Raises:
        Fatal: it cannot be made.
    """
    match facts.plugin:
        case "arcgis":
            layer = _given(ArcgisParameters, facts, warn)
            return Making(
                produce=lambda get: Layer(get, url, layer.max_page_size).dump(),
                page=layer.timeout,
                retries=layer.retries,
                pause=layer.retry_backoff_seconds,
                exception="EsriDownloadError",
            )
        case "sparql":
            service, name = split(url)
            text = query()
            if text is None:
                raise Fatal(_no_query(url, name), code="missing_query", field="endpoint-url")
            return Making(
                produce=lambda get: sparql.Query(get, service, text).rows(), page=QUERY, headers=sparql.ACCEPT
            )
        case "wfs":
            size = _given(WfsParameters, facts, warn).page_size
            return Making(produce=lambda get: Features(get, url, size).dump(), page=PAGE) if size else None
    return None


def _given(model: type[P], facts: CollectFacts, warn: Callable[[str], None]) -> P:
    parameters, warning = parameters_of(model, facts.parameters)
    if warning:
        warn(warning)
    return parameters


def _no_query(url: str, name: str) -> str:
    if not name:
        return f"{without_credentials(url)}: a sparql endpoint is <service>#<query file>, and this one names no file"
    where = "below the folder of the endpoint.csv or the collection, ending in .rq or .sparql"
    return f"{without_credentials(url)}: there is no query file {name!r} {where}"
