"""An Elasticsearch that goes away and comes back, under a real cluster."""

from __future__ import annotations

from tests.conftest import fresh
from workers.app import jobs


def test_a_killed_server_costs_no_document(bench, elastic_alone):
    with fresh(elastic_alone) as index:
        job = bench.start("indexing", n=200, index=f"{elastic_alone.url}/{index.name}")
        bench.until_told(job, "end", 4, timeout=60)
        elastic_alone.kill()
        assert bench.end(job, 240).counts.ok == 200
        index.refresh()
        assert index.count() == 200
        told = [line["event"] for line in jobs().logs(job)]
        assert any("(DATAFAB_INDEX_URL) cannot be reached" in event for event in told), told
