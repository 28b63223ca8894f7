"""Listing jobs costs the same number of Redis commands however many jobs are kept."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from click.testing import CliRunner

from datafab.catalogue.source_state import Look
from datafab.catalogue.sources import SourceRegistry
from datafab.cli.main import main
from datafab.core.jobs import RedisJobs
from datafab.core.metrics import ClusterMetrics
from datafab.core.redis import connect
from datafab.core.services import Services
from datafab.settings import load
from tests.kept_jobs import KINDS, fill
from tests.servers.redis import RedisServer
from webhook import create_app
from workers.app import use

FEW, MANY = 50, 5000
ROUTES = (
    "/api/jobs?limit=3",
    "/api/jobs?limit=3&after={deep}",
    "/api/jobs?limit=3&status=failed",
    "/api/jobs?limit=3&flow=collect&after={deep}",
    "/api/jobs?limit=3&caller=harvester",
    "/api/jobs?limit=3&status=failed&flow=push&caller=harvester&after={deep}",
    "/api/jobs?limit=3&status=parked",
    "/datapusher/status",
    "/datapusher/job?_limit=3",
    "/datapusher/job?_limit=3&_offset={half}",
    "/datapusher/job?_limit=3&_status=error&_offset={half}",
    "/metrics",
    "/api/sources?id=endpoint:one",
)


class Cost:
    """Clusters on one Redis with few and many jobs, and the commands that a request to each of them runs there."""

    def __init__(self, server: RedisServer) -> None:
        self.redis = server.client()
        self.clients, self.ids, self.settings = [], [], []
        for count in (FEW, MANY):
            settings = load({}, redis_url=server.url, home=server.folder, key_prefix=f"kept{count}")
            services = Services(settings, jobs=RedisJobs(settings, connect(settings)))
            self.ids.append(fill(services.redis(), count, began=1e9))
            services.get(SourceRegistry).record_look("endpoint:one", Look(1.0, "ok", "0" * 32))
            self.settings.append(settings)
            self.clients.append(create_app(settings, services, start=None).test_client())

    def get(self, at: int, route: str) -> str:
        ids = self.ids[at]
        path = route.format(deep=ids[len(ids) // 2], half=len(ids) // 10)
        answer = self.clients[at].get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def commands(self) -> dict[str, int]:
        stats = self.redis.info("commandstats")
        ours = {"cmdstat_info", "cmdstat_ping"}
        return {name: stat["calls"] for name, stat in stats.items() if name not in ours}

    def of(self, action) -> dict[str, int]:
        """Return the commands that run at Redis, those in scripts included."""
        action()  # the first time scripts are loaded
        self.redis.config_resetstat()
        action()
        return self.commands()


@pytest.fixture(scope="module")
def cost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cost]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield Cost(server)


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_costs_the_same_with_many_jobs(cost: Cost, route: str):
    few, many = (cost.of(partial(cost.get, at, route)) for at in range(2))
    assert few == many
    assert few


def test_the_command_line_costs_the_same_with_many_jobs(cost: Cost):
    def listing(at: int) -> None:
        use(cost.settings[at])
        run = CliRunner().invoke(main, ["jobs", "list", "--status", "failed", "--limit", "3", "--json"])
        assert run.stdout.count("\n") == 3, run.output

    few, many = (cost.of(partial(listing, at)) for at in range(2))
    assert few == many


def test_the_doctor_costs_the_same_with_many_jobs(cost: Cost):
    """The parts of ``datafab doctor`` that read jobs and rows."""

    def reading(at: int) -> None:
        metrics = ClusterMetrics(connect(cost.settings[at]))
        assert metrics.read().jobs["running", "collect"] == (FEW, MANY)[at] / len(KINDS)
        assert metrics.idle_queues(60) == {}

    few, many = (cost.of(partial(reading, at)) for at in range(2))
    assert few == many
