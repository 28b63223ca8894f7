"""The answer of a SPARQL service as CSV, as the original writes it: fields in order of their names, ``_`` as ``-``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

#: What the values of a service begin with when they are its own entities, and what nobody wants to read.
PREFIXES = {"https://query.wikidata.org/sparql": "http://www.wikidata.org/entity/"}
#: Rows that are written at once.
ROWS = 1000


def split(url: str) -> tuple[str, str]:
    """Return the service and the query file of ``<service>#<query-file>``; either may be empty."""
    service, _, name = url.partition("#")
    return service, name


def table(answer: Mapping[str, Any], prefix: str = "") -> Iterator[bytes]:
    """Yield the CSV of an answer in SPARQL's JSON; ``prefix`` is left out where a value begins with it.

    Raises:
        ValueError: the answer has not that form.
    """
    try:
        names: Sequence[str] = answer["head"]["vars"]
        bindings: Sequence[Mapping[str, Any]] = answer["results"]["bindings"]
        columns = sorted((name.replace("_", "-"), name) for name in names)
        text = StringIO()
        writer = csv.writer(text)
        writer.writerow(column for column, _ in columns)
        for number, row in enumerate(bindings, 1):
            writer.writerow(str(row[name]["value"]).removeprefix(prefix) if name in row else "" for _, name in columns)
            if number % ROWS == 0:
                yield _taken(text)
        yield _taken(text)
    except (KeyError, TypeError, AttributeError) as error:
        msg = "no head.vars and results.bindings"
        raise ValueError(msg) from error


def _taken(text: StringIO) -> bytes:
    data = text.getvalue().encode(errors="replace")
    text.seek(0)
    text.truncate()
    return data
