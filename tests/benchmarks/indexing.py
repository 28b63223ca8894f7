"""How fast documents go into Elasticsearch, next to its own client's bulk helper with bodies that are ready."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from elasticsearch.helpers import streaming_bulk

from datafab.core.document import Document
from datafab.index import PutOutcome, open_index
from datafab.index.elastic import MAX_REQUEST_BYTES, ElasticIndex
from datafab.index.elastic_mapping import bulk_action
from tests.benchmarks.searching import documents


@dataclass(frozen=True)
class Figures:
    """What was measured: documents a second, of each round."""

    documents: int
    ours: list[float]
    raw: list[float]

    @property
    def ratio(self) -> float:
        """Our rate as a factor of the helper's, the median of the rounds."""
        return median(ours / raw for ours, raw in zip(self.ours, self.raw, strict=True))


def measure(url: str, count: int = 100_000, rounds: int = 100) -> Figures:
    """Put documents into an index of ours, half of them by the bulk helper, in turns."""
    index = open_index(url)
    assert isinstance(index, ElasticIndex)
    index.ensure_index()
    figures, made, size = Figures(count, [], []), documents(count), count // rounds // 2
    for number in range(rounds):
        ways = [(figures.ours, _ours), (figures.raw, _raw)]
        for rates, put in ways if number % 2 else reversed(ways):
            rates.append(put(index, _next(made, size)))
    index.refresh()
    assert index.count() == size * rounds * 2
    index.close()
    return figures


def _next(made: Iterator[Document], size: int) -> list[Document]:
    return [document for _, document in zip(range(size), made, strict=False)]


def _ours(index: ElasticIndex, some: list[Document]) -> float:
    began = time.perf_counter()
    outcomes = index.put_many(some)
    seconds = time.perf_counter() - began
    assert set(outcomes) == {PutOutcome.OK}, next(one for one in outcomes if one is not PutOutcome.OK)
    return len(some) / seconds


def _raw(index: ElasticIndex, some: list[Document]) -> float:
    actions = [_plain(bulk_action(index.write_alias, document)) for document in some]
    began = time.perf_counter()
    taken = [ok for ok, _ in streaming_bulk(index.client, actions, max_chunk_bytes=MAX_REQUEST_BYTES)]
    seconds = time.perf_counter() - began
    assert all(taken)
    return len(some) / seconds


def _plain(made: dict[str, Any]) -> dict[str, Any]:
    """Return an action as one would write it by hand."""
    return made | {"_source": json.loads(made["_source"])}
