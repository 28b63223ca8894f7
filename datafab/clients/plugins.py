"""The plugins that make a resource of several answers, or of another form than the server's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from datafab.clients import sparql
from datafab.clients.arcgis import Layer
from datafab.clients.fetch import Get
from datafab.clients.refusal import shown
from datafab.domain.payload import CollectFacts
from datafab.domain.plugin import ArcgisParameters, parameters_of
from datafab.domain.sparql import split
from datafab.errors import Fatal

#: Seconds in which the answer to a query must have come.
QUERY = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How a resource is made.

    Attributes:
        produce: see ``Session.gather``.
        page: seconds for one answer.
        headers: sent with each request.
        budget: tries after the first, where the endpoint says.
        pause: seconds before the first of them, where the endpoint says.
        warning: what of the endpoint's parameters was no good.
    """

    produce: Callable[[Get], Iterator[bytes]]
    page: float
    headers: Mapping[str, str] = field(default_factory=dict)
    budget: int | None = None
    pause: float | None = None
    warning: str | None = None


def making(facts: CollectFacts, url: str, query: Callable[[str], str | None]) -> Making | None:
    """Return how the plugin of an endpoint makes its resource; None when a plain GET does.

    Args:
        facts: the endpoint's.
        url: the endpoint's.
        query: gives the text of a query file.

    Raises:
        Fatal: it cannot be made.
    """
    match facts.plugin:
        case "arcgis":
            given, warning = parameters_of(ArcgisParameters, facts.parameters)
            return Making(
                produce=lambda get: Layer(get, url, given.max_page_size).dump(),
                page=given.timeout,
                budget=given.retries,
                pause=given.retry_backoff_seconds,
                warning=warning,
            )
        case "sparql":
            service, name = split(url)
            text = query(name)
            if text is None:
                raise Fatal(_no_query(url, name), code="missing_query", field="endpoint-url")
            return Making(
                produce=lambda get: sparql.Query(get, service, text).rows(), page=QUERY, headers=sparql.ACCEPT
            )
    return None


def _no_query(url: str, name: str) -> str:
    if not name:
        return f"{shown(url)}: a sparql endpoint is <service>#<query file>, and this one names no file"
    where = "below the folder of the endpoint.csv or the collection"
    return f"{shown(url)}: there is no query file {name!r} {where}"
