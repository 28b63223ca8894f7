"""What is less urgent gives way, on real workers and a real Redis."""

from __future__ import annotations

import pytest

from datafab.errors import FlowError
from tests.servers.celery import until
from tests.workers.conftest import Bench
from workers.app import jobs

LOW = "datafab:1:io\x06\x16"


def test_an_urgent_job_overtakes_all_that_is_queued_before_it(bench: Bench):
    bench.cluster.parts["io"].kill()
    crowd = [bench.start("pair", priority=9) for _ in range(30)]
    never_seen = bench.start("pair", priority=6)
    urgent = bench.start("pair")
    assert (bench.redis.llen(f"{LOW}9"), bench.redis.llen(f"{LOW}6"), bench.redis.llen("datafab:1:io")) == (30, 1, 1)
    bench.mend()
    ended = {job: bench.end(job, 60).ended for job in [*crowd, never_seen, urgent]}
    # Each of its stages goes ahead, so it is among the first that end.
    assert sorted(ended, key=lambda job: ended[job] or 0).index(urgent) < 16
    began = {job: jobs().get(job).started or 0 for job in ended}
    # Eight threads begin at once.
    assert {urgent, never_seen} <= set(sorted(began, key=lambda job: began[job])[:8])


def test_of_those_that_give_way_what_has_begun_goes_first(bench: Bench):
    bench.cluster.parts["io"].kill()
    crowd = [bench.start("noop5", priority=9) for _ in range(60)]
    bench.mend()
    ended = {job: bench.end(job, 90) for job in crowd}
    # The first were through before the last began: five stages each, one after another in eight threads.
    began = sorted(job.started or 0 for job in ended.values())
    assert sum((job.ended or 0) < began[-1] for job in ended.values()) > 20


def test_a_lost_message_that_is_less_urgent_is_sent_again_as_such(bench: Bench):
    bench.cluster.parts["io"].kill()
    job = bench.start("noop5", priority=9)
    assert bench.redis.lpop(f"{LOW}9")
    until(lambda: bench.redis.llen(f"{LOW}9"), 30)
    assert not bench.redis.llen("datafab:1:io")
    bench.mend()
    assert bench.end(job).status == "succeeded"


@pytest.mark.parametrize("priority", [-1, 10, "9", True, None, 0.5])
def test_a_priority_that_is_none_is_refused(bench: Bench, priority: object):
    with pytest.raises(FlowError, match=r"from 0 \(most urgent\) to 9") as raised:
        bench.start("noop5", priority=priority)
    assert raised.value.field == "priority"
