"""``datafab catalogue`` as a user has it, on the cluster of this host."""

from __future__ import annotations

import json

import pytest

from datafab.embedded import Cluster
from datafab.sandbox.catalogue import catalogue
from tests.integration.conftest import Run


@pytest.mark.usefixtures("cluster")
def test_a_pass_fetches_what_has_changed_and_says_how_far_it_was_read(datafab: Run, site: str):
    with catalogue() as udata:
        dataset = udata.add(f"{site}/communes.csv", f"{site}/absent.csv", title="Communes")
        udata.attach(dataset, "ftp://example.org/a.csv")
        before = datafab("catalogue", "status", "--url", udata.url).stdout
        assert f"{udata.url}: never read to the end" in before
        first = datafab("catalogue", "run", "--url", udata.url, "--wait", code=3).stdout
        assert "pages read: 1, files enqueued: 2, left out: 1 not http" in first
        assert "1 ok, 1 failed" in first
        told = {
            name: datafab("catalogue", "history", f"datagouv:{name}").stdout for name in udata.resource_ids(dataset)[:2]
        }
        assert [line.split("  ")[1] for text in told.values() for line in text.splitlines()[:-1]] == ["ok", "failed"]
        assert all("next check: 20" in text for text in told.values())
        assert "http_404" in told[udata.resource_ids(dataset)[1]]
        again = json.loads(datafab("catalogue", "run", "--url", udata.url, "--wait", "--json").stdout)
        assert (again["flow"], again["status"], again["total"]) == ("catalogue", "succeeded", 1)
        hits = [json.loads(line) for line in datafab("search", "dataset:communes", "--json").stdout.splitlines()]
        assert {(hit["resource_url"], hit["status"]) for hit in hits if hit["dataset_id"] == dataset} == {
            (f"{site}/communes.csv", "ok"),
            (f"{site}/absent.csv", "failed"),
        }
        status = json.loads(datafab("catalogue", "status", "--url", udata.url, "--json").stdout)
        assert status["url"] == udata.url
        assert status["cursor"]
        assert status["pass"]["id"] == again["id"]
        assert status["files"] == {"succeeded": 1, "failed": 1}


@pytest.mark.usefixtures("cluster")
def test_a_pass_that_cannot_be_made_says_why(datafab: Run):
    with catalogue() as udata:
        done = datafab("catalogue", "run", "--url", udata.url, "--since", "hier", code=1)
        assert "since='hier': give a date such as" in done.stderr
    assert "no source 'datagouv:x' has been checked" in datafab("catalogue", "history", "datagouv:x", code=1).stderr
    done = datafab("catalogue", "run", "--url", "ftp://x", code=1)
    assert "ftp://x" in done.stderr


def test_without_a_cluster_it_says_how_to_start_one(datafab: Run, cluster: Cluster):
    cluster.stop()
    assert "start one with `datafab up`" in datafab("catalogue", "run", code=1).stderr
