"""SPARQL results as CSV, as the original writes them: columns in order of their names, ``_`` as ``-``."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any

#: Service -> prefix of its own entities, which is left out of values.
PREFIXES = {"https://query.wikidata.org/sparql": "http://www.wikidata.org/entity/"}
#: Rows of a chunk.
ROWS_PER_CHUNK = 1000


def split_url(url: str) -> tuple[str, str]:
    """Return the service and the query file of ``<service>#<query-file>``; either may be empty."""
    service, _, name = url.partition("#")
    return service, name


def to_csv(answer: Mapping[str, Any], prefix: str = "") -> Iterator[bytes]:
    """Yield the CSV of a result in SPARQL's JSON; ``prefix`` is removed from the beginning of values.

    Raises:
        ValueError: the answer is not such a result.
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
            if number % ROWS_PER_CHUNK == 0:
                yield _flush(text)
        yield _flush(text)
    except (KeyError, TypeError, AttributeError) as error:
        msg = "no head.vars and results.bindings"
        raise ValueError(msg) from error


def _flush(text: StringIO) -> bytes:
    data = text.getvalue().encode(errors="replace")
    text.seek(0)
    text.truncate()
    return data
