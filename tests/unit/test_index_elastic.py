"""What Elasticsearch alone does: its template, its refusals, its absence."""

from __future__ import annotations

from datafab.clients.index import Outcome
from datafab.domain.document import Document


def doc(source: str = "file:a", version: int = 1, **facts) -> Document:
    return Document(**({"source": source, "version": version, "status": "ok", "title": "Titre"} | facts))


def test_put(elastic_index):
    assert elastic_index.put_many([doc()]) == [Outcome.OK]
    assert elastic_index.get("file:a") == doc()
