"""The result of a query at a SPARQL service, as CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from datafab.collect.plugins.sparql_query import PREFIXES, to_csv
from datafab.fetch.refusal import Refusal
from datafab.fetch.result import Refused
from datafab.fetch.session import Get
from datafab.urls import without_credentials

#: The standard way to ask for JSON: parameters such as ``format`` differ from service to service.
ACCEPT = {"Accept": "application/sparql-results+json"}


class SparqlQuery:
    """A query at a SPARQL service."""

    def __init__(self, get: Get, service: str, text: str) -> None:
        self._get = get
        self._service = service
        self._text = text

    def rows(self) -> Iterator[bytes]:
        """Yield the CSV.

        Raises:
            Refused: the answer is not a result in JSON.
        """
        parts = urlsplit(self._service)
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("query", self._text)])
        answer = self._get(urlunsplit(parts._replace(query=query)))
        try:
            yield from to_csv(json.loads(answer), PREFIXES.get(self._service, ""))
        except ValueError as error:
            sentence = f"the answer is not the result of a SPARQL query in JSON: {error}"
            raise Refused(
                Refusal("bad_result", f"{without_credentials(self._service)}: {sentence}", "SPARQLError")
            ) from error
