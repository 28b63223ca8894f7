"""``/metrics`` on the standing cluster, asked through two applications: what runs there is in the numbers of both."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from datafab.core.item import Batch, Item
from datafab.core.job import JobStatus
from tests.servers.celery import until
from tests.workers.conftest import Bench
from tests.workers.toys import app
from webhook import create_app
from workers.app import jobs

Numbers = dict[tuple[object, ...], float]
#: What goes on with the clock, and not with what happens.
CLOCKS = ("datafab_oldest_job_seconds", "datafab_overdue_seconds")


class Scraped:
    """Two applications on one cluster, as two processes of a webhook are."""

    def __init__(self, bench: Bench) -> None:
        self.clients = [create_app(bench.settings).test_client() for _ in range(2)]

    def both(self) -> list[Numbers]:
        return [self._numbers(client) for client in self.clients]

    def both_at_rest(self) -> list[Numbers] | None:
        """Return what both say, unless the numbers of either moved meanwhile: a tick in flight is in them too."""
        before, after = self.both(), self.both()
        at_rest = list(map(without_clocks, before)) == list(map(without_clocks, after))
        return after if at_rest else None

    def one(self) -> Numbers:
        return self._numbers(self.clients[0])

    def _numbers(self, client) -> Numbers:
        answer = client.get("/metrics")
        assert answer.status_code == 200, answer.text
        samples = (sample for family in text_string_to_metric_families(answer.text) for sample in family.samples)
        return {(s.name, *sorted(s.labels.items())): s.value for s in samples}


@pytest.fixture
def scraped(bench: Bench) -> Iterator[Scraped]:
    scraped = Scraped(bench)
    yield scraped
    for client in scraped.clients:
        client.application.extensions["datafab"].services.close()


def at(numbers: Numbers, name: str, **labels: str) -> float:
    return numbers.get((name, *sorted(labels.items())), 0.0)


def without_clocks(numbers: Numbers) -> Numbers:
    return {key: value for key, value in numbers.items() if key[0] not in CLOCKS}


def test_two_processes_tell_the_same_of_what_ran(bench: Bench, scraped: Scraped):
    before = scraped.one()
    bench.run("waiting", n=3, seconds=0.05)
    bench.settle()
    first, second = until(scraped.both_at_rest, 20)
    assert without_clocks(first) == without_clocks(second)

    def grown(name: str, **labels: str) -> float:
        return at(first, name, **labels) - at(before, name, **labels)

    assert grown("datafab_jobs_made_total", flow="waiting") == 1
    assert grown("datafab_jobs_ended_total", flow="waiting", state="succeeded") == 1
    assert grown("datafab_items_total", stage="work", status="ok") == 3
    assert grown("datafab_attempts_total", stage="waiter", outcome="ended") == 3
    assert grown("datafab_attempts_total", stage="waiter", outcome="waited") == 6
    assert grown("datafab_sent_again_total", state="wait") >= 12
    assert grown("datafab_attempt_seconds_count", stage="work") == 3
    assert grown("datafab_attempt_seconds_sum", stage="work") >= 0.15


def test_what_runs_now_is_told(bench: Bench, scraped: Scraped):
    job = bench.start("waiting", delay=600)
    seen = until(lambda: at(numbers := scraped.one(), "datafab_jobs", flow="waiting", state="waiting") and numbers, 20)
    assert at(seen, "datafab_ledger_rows", state="wait") >= 1
    assert 0 <= at(seen, "datafab_oldest_job_seconds", state="waiting") < 600
    jobs().end(job, JobStatus.CANCELLED)
    assert at(scraped.one(), "datafab_jobs", flow="waiting", state="waiting") == 0


def test_deaths_stale_copies_and_parked_jobs_are_counted(bench: Bench, scraped: Scraped):
    before = scraped.one()
    stale = Batch(job="gone", flow="noop5", items=(Item(source="toy:0"),))
    app.send_task("datafab.noop0", args=[stale.dump()])
    assert bench.run("killing", kill=["toy:0"], times=9, timeout=60).status == "parked"

    def grown(name: str, **labels: str) -> float:
        return at(scraped.one(), name, **labels) - at(before, name, **labels)

    until(lambda: grown("datafab_stale_copies_total", stage="noop0") == 1, 20)
    assert grown("datafab_attempts_total", stage="killer", outcome="died") == 3
    assert grown("datafab_parked_jobs") == 1
    assert grown("datafab_ledger_rows", state="parked") == 1
    assert grown("datafab_jobs_ended_total", flow="killing", state="parked") == 1
