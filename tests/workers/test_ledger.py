"""The ledger on a real Redis and real workers: rows 1, 2 and 4 to 7 of its table of trials, and its own limits."""

from __future__ import annotations

import base64
import json
import os
import signal
import time

import pytest

from datafab.core.item import MAX_MESSAGE_BYTES, Batch
from datafab.core.job import Job, JobStatus
from datafab.errors import FlowError, NotFound
from datafab.flows.registry import plan
from tests.servers.celery import until
from tests.workers.conftest import Bench
from tests.workers.toys import app
from workers.app import jobs
from workers.canvas import start, write_job


def test_a_chain_that_waits_goes_on_once(bench: Bench):
    job = bench.run("waiting")
    assert job.status == JobStatus.SUCCEEDED
    assert bench.told(job.id, "look") == {"toy:0": 6}  # two stages, each looks three times
    assert bench.told(job.id, "end") == {"toy:0": 2}
    assert [stage.stage for stage in job.progress] == ["work", "waiter", "waiter_io", "work_io"]
    assert job.counts
    assert job.counts.ok == 1


def test_a_waiting_job_says_so_and_holds_no_message(bench: Bench):
    job = bench.start("waiting", delay=1.5)
    until(lambda: bench.job(job).status == JobStatus.WAITING, 10)
    bench.settle()
    assert bench.job(job).stage == "waiter"
    assert bench.end(job).status == JobStatus.SUCCEEDED


def test_a_waiting_job_is_looked_at_when_somebody_says_so(bench: Bench):
    job = bench.start("waiting", delay=600)
    for looks in (1, 2):
        bench.until_told(job, "look", looks)
        until(lambda: bench.job(job).status == JobStatus.WAITING, 10)
        assert bench.ledger.wake(job) == 1
    bench.until_told(job, "look", 4)  # the second stage's first
    # While it looks, or before its message has arrived, the word is kept.
    (rid,) = bench.ledger.row_states(job)
    bench.ledger.wake(job)
    bench.until_told(job, "look", 5)
    until(lambda: bench.job(job).status == JobStatus.WAITING, 10)
    bench.ledger.wake(job)
    assert bench.end(job).status == JobStatus.SUCCEEDED
    assert bench.told(job, "look") == {"toy:0": 6}
    assert bench.ledger.wake(job) == 0
    assert not bench.redis.exists(f"datafab:1:row:{rid}")


def test_a_word_that_comes_during_a_look_is_kept_for_the_next(bench: Bench):
    job = Job(id="hurried", flow="noop5", created=time.time(), deadline=time.time() + 60)
    source, stages = plan("noop5", {})
    write_job(job, source, stages)
    (rid,) = bench.ledger.row_states(job.id)
    take = {"seconds": 60, "pool": "threads", "stage": "numbers"}
    lease = bench.ledger.take(rid, 0, "a", **take)
    assert not lease.woken
    assert bench.ledger.wake(job.id) == 1
    assert bench.ledger.wait(lease, 600, "not ready")
    assert bench.end(job.id).status == JobStatus.SUCCEEDED


def test_a_chord_joins_once_over_waits_and_a_killed_child(bench: Bench):
    job = bench.start("waiting", n=20, wait=["toy:1", "toy:7", "toy:13"], seconds=0.1)
    bench.until_told(job, "start")
    os.kill(bench.cluster.parts["cpu"].children()[0], signal.SIGKILL)
    ended = bench.end(job, 60)
    assert ended.counts
    assert (ended.counts.ok, ended.counts.failed) == (20, 0)
    starts, ends = bench.told(job, "start"), bench.told(job, "end")
    assert ends == {f"toy:{n}": 2 for n in range(20)}
    assert 40 <= starts.total() <= 41


def test_a_task_longer_than_the_visibility_timeout_runs_once(bench: Bench):
    in_thread = bench.start("long_io", seconds=8)
    in_child = bench.start("long", seconds=8, n=2)
    assert bench.end(in_child).status == bench.end(in_thread).status == JobStatus.SUCCEEDED
    assert bench.told(in_thread, "start") == {"toy:0": 1}
    assert bench.told(in_child, "start") == {"toy:0": 1, "toy:1": 1}
    bench.settle()


def test_a_poison_task_is_parked_with_its_reason_and_can_be_tried_again(bench: Bench):
    job = bench.run("killing", kill=["toy:0"], times=3)
    assert job.status == JobStatus.PARKED
    assert job.error
    assert "its worker died: Worker exited prematurely: signal 9 (SIGKILL)" in job.error.message
    assert job.error.message.endswith("(3 times)")
    assert bench.told(job.id, "start") == {"toy:0": 3}
    assert list(bench.ledger.row_states(job.id).values()) == ["parked"]
    assert bench.ledger.unpark(job.id) == 1  # the fourth start lives
    assert bench.end(job.id).status == JobStatus.SUCCEEDED
    assert bench.told(job.id, "end") == {"toy:0": 2}  # once in each stage


def test_a_poison_item_in_a_fan_out_fails_alone(bench: Bench):
    job = bench.run("killing", n=6, kill=["toy:2"], times=99)
    assert job.status == JobStatus.SUCCEEDED
    assert job.counts
    assert (job.counts.ok, job.counts.failed) == (5, 1)
    (error,) = jobs().failures(job.id).values()
    assert error.type == "parked"
    assert "its worker died" in error.message


def test_a_worker_reads_its_settings_once(bench: Bench):
    job = bench.start("settled")
    bench.end(job)
    assert bench.told(job, "once") == {"toy:0": 2}


def test_a_poison_item_spares_the_others_of_its_batch(redis_server, bench: Bench):
    # One batch of several items: what the dying item leaves undone is only itself.
    bench.cluster.parts["io"].stop()
    bench.cluster.env["DATAFAB_BATCH_SIZE"] = "4"
    bench.cluster.start("io")
    try:
        bench.cluster.ready(app, "io")
        job = bench.run("killing", n=8, kill=["toy:1"], times=99)
        assert job.counts
        assert (job.counts.ok, job.counts.failed) == (7, 1)
        assert list(jobs().failures(job.id)) == ["toy:1"]
    finally:
        bench.cluster.env["DATAFAB_BATCH_SIZE"] = "1"
        bench.cluster.parts["io"].stop()


@pytest.mark.parametrize("flow", ["hanging", "hanging_io"])
def test_a_hung_task_loses_its_row_and_runs_again(bench: Bench, flow: str):
    job = bench.start(flow, n=3, hang=["toy:1"])
    part = bench.cluster.parts["cpu" if flow == "hanging" else "io"]
    if flow == "hanging_io":
        # A thread cannot be killed: its process ends, as soon as its other work is done, and is started again.
        assert part.wait(25) == os.EX_TEMPFAIL
        bench.mend()
    ended = bench.end(job)
    assert ended.status == JobStatus.SUCCEEDED
    assert bench.told(job, "start") == {"toy:0": 1, "toy:1": 2, "toy:2": 1}
    assert bench.told(job, "end") == {"toy:0": 1, "toy:1": 1, "toy:2": 1}


@pytest.mark.parametrize(
    ("fault", "status", "ok", "failed"),
    [
        ("retriable", JobStatus.SUCCEEDED, 2, 0),
        ("always", JobStatus.FAILED, 0, 2),
        ("bug", JobStatus.FAILED, 0, 2),
        ("flow", JobStatus.FAILED, None, None),
    ],
)
def test_failures_are_values(bench: Bench, fault: str, status: JobStatus, ok: int | None, failed: int | None):
    job = bench.run("faulty", n=2, fault=fault)
    assert job.status == status
    if ok is not None:
        assert job.counts
        assert (job.counts.ok, job.counts.failed) == (ok, failed)
    else:
        assert job.error
        assert (job.error.type, job.error.field) == ("flowerror", "toy")
    if failed:
        assert job.error
        assert job.error.message.startswith("all 2 items failed, the first with: ")


def test_a_failure_says_why(bench: Bench):
    job = bench.run("faulty", fault="always")
    (error,) = jobs().failures(job.id).values()
    assert error.message == "never (3 tries)"
    lines = jobs().logs(job.id)
    assert next(line["event"] for line in lines if line["level"] == "info").startswith("never; again in")


def test_a_source_stage_that_cannot_run_fails_its_job(bench: Bench):
    job = bench.run("long", bad=True)
    assert job.status == JobStatus.FAILED
    assert job.error
    assert job.error.field == "bad"


def test_a_splitter_that_dies_splits_once(bench: Bench):
    bench.mend()
    job = bench.start("long", n=5, kill_source=1)  # dies with its whole worker: sources run in threads
    bench.cluster.parts["io"].wait(40)
    ended = bench.end(job, 60)  # its row goes to the queue `cpu`, where it is alone
    assert ended.counts
    assert ended.counts.ok == 5
    assert bench.told(job, "start") == {f"toy:{n}": 1 for n in range(5)}


def test_cancel_ends_a_waiting_job_and_its_rows(bench: Bench):
    job = bench.start("waiting", n=3, delay=60)
    until(lambda: list(bench.ledger.row_states(job).values()).count("wait") == 3, 20)
    assert jobs().end(job, JobStatus.CANCELLED)
    assert not jobs().end(job, JobStatus.SUCCEEDED)
    assert bench.ledger.row_states(job) == {}
    assert bench.job(job).status == JobStatus.CANCELLED


def test_cancel_stops_a_running_job_and_frees_its_slot(bench: Bench):
    both = bench.start("long", n=2, seconds=30)
    bench.until_told(both, "start", 2)  # all children are busy
    jobs().end(both, JobStatus.CANCELLED)
    assert bench.run("long", timeout=15).status == JobStatus.SUCCEEDED
    assert bench.told(both, "end") == {}


def test_a_hung_task_of_a_cancelled_job_frees_its_slot(bench: Bench):
    both = bench.start("hanging", n=2, hang=["toy:0", "toy:1"])
    bench.until_told(both, "start", 2)
    jobs().end(both, JobStatus.CANCELLED)
    assert bench.run("long", timeout=20).status == JobStatus.SUCCEEDED


def test_a_parked_job_is_tried_again_once(bench: Bench):
    job = bench.run("killing", kill=["toy:0"], times=3)
    assert (bench.ledger.unpark(job.id), bench.ledger.unpark(job.id)) == (1, 0)
    assert bench.end(job.id).status == JobStatus.SUCCEEDED
    assert bench.ledger.unpark(job.id) == 0
    assert bench.job(job.id).status == JobStatus.SUCCEEDED


def test_a_splitter_that_was_parked_splits_anew(bench: Bench):
    # Its rows of the first split went with the job: the same canvas again would be stale from end to end.
    job = bench.start("long", n=3, kill_source=99)
    until(lambda: not bench.cluster.parts["io"].alive, 40)
    parked = bench.end(job, 80)
    assert parked.status == JobStatus.PARKED
    bench.redis.hset(next(iter(bench.redis.keys("datafab:1:row:datafab.numbers:*"))), "next", "{}")
    bench.redis.set(f"toy:{job}:kills:numbers", 99)
    bench.mend()
    assert bench.ledger.unpark(job) == 1
    ended = bench.end(job, 30)
    assert (ended.status, ended.total, ended.progress[-1].done) == (JobStatus.SUCCEEDED, 3, 3)


def test_a_row_that_cannot_be_sent_does_not_hold_up_the_others(bench: Bench):
    broken, good = bench.start("waiting", delay=1), bench.start("waiting", delay=1)
    for job in (broken, good):
        until(lambda job=job: bench.job(job).status == JobStatus.WAITING, 10)
    (rid,) = bench.ledger.row_states(broken)
    bench.redis.hset(f"datafab:1:row:{rid}", "sig", "{no JSON")
    assert bench.end(good).status == JobStatus.SUCCEEDED
    assert not bench.job(broken).final
    jobs().end(broken, JobStatus.CANCELLED)


def test_a_job_waits_again_when_what_ran_beside_has_ended(bench: Bench):
    job = bench.start("waiting", n=2, wait=["toy:0"], delay=4)
    until(lambda: bench.job(job).progress[-1:] and bench.job(job).progress[-1].stage == "work_io", 15)
    until(lambda: bench.job(job).status == JobStatus.WAITING, 5)
    assert bench.end(job, 40).status == JobStatus.SUCCEEDED


def test_a_revoke_from_flower_cancels_the_whole_job(bench: Bench):
    job = bench.start("long", n=4, seconds=1.5)
    bench.until_told(job, "start")
    (waiting, *_) = [rid for rid, state in bench.ledger.row_states(job).items() if state == "sent"]
    app.control.revoke(waiting.rpartition(":")[2])
    assert bench.end(job).status == JobStatus.CANCELLED


def test_a_message_that_never_left_is_sent_by_the_tick(bench: Bench):
    now = time.time()
    job = Job(id="0" * 32, flow="long", params={"n": 2}, key="mine", created=now, deadline=now + 60)
    write_job(job, *plan("long", {}))  # and the producer dies
    again, created = start("long", {"n": 2}, "mine")
    assert (again.id, created) == (job.id, False)
    assert bench.job(job.id).status == JobStatus.QUEUED
    assert bench.end(job.id).status == JobStatus.SUCCEEDED


def test_a_lost_message_is_sent_again(bench: Bench):
    # The queue's messages vanish, as if a worker had died with them in its hands.
    bench.cluster.parts["cpu"].kill()
    job = bench.start("pair", n=3)
    bench.until_told(job, "end", 3)
    # Three or more: the tick sends again what lies in the queue for long, as on a busy machine.
    until(lambda: bench.redis.llen("datafab:1:cpu") >= 3, 10)
    bench.redis.delete("datafab:1:cpu")
    bench.mend()
    ended = bench.end(job, 30)
    assert ended.counts
    assert ended.counts.ok == 3
    assert bench.told(job, "end") == {f"toy:{n}": 2 for n in range(3)}


def test_a_lost_join_is_sent_again(bench: Bench):
    bench.cluster.parts["control"].kill()
    job = bench.start("long", n=2)
    until(lambda: any("datafab.report" in entry for entry in bench.redis.lrange("datafab:1:control", 0, -1)), 10)
    bench.redis.delete("datafab:1:control")
    bench.mend()
    assert bench.end(job, 40).status == JobStatus.SUCCEEDED


def test_a_key_is_one_job(bench: Bench):
    first, created = start("long", {}, "one")
    second, again = start("long", {}, "one")
    assert (created, again) == (True, False)
    assert first.id == second.id
    bench.end(first.id)


def test_a_job_past_its_deadline_fails(bench: Bench):
    job = bench.start("waiting", delay=60)
    until(lambda: bench.job(job).status == JobStatus.WAITING, 10)
    bench.redis.zadd("datafab:1:deadlines", {job: 1})
    ended = bench.end(job, 20)
    assert ended.status == JobStatus.FAILED
    assert ended.error
    assert ended.error.type == "deadline"


def test_what_cannot_be_started_is_refused(bench: Bench):
    with pytest.raises(NotFound, match="no flow 'nothing'"):
        start("nothing", {})
    with pytest.raises(FlowError, match="no stage 'nothing'"):
        start("long", {"then": ["nothing"]})
    with pytest.raises(FlowError, match="occurs twice"):
        start("long", {"then": ["work"]})
    with pytest.raises(FlowError, match="larger than"):
        start("long", {"text": "x" * 9000})


def test_messages_are_small_and_survive_json(bench: Bench):
    bench.cluster.parts["cpu"].kill()
    job = bench.start("long", n=3, text="é" * 500)
    # Three or more: the tick sends again what lies in the queue for long, as on a busy machine.
    until(lambda: bench.redis.llen("datafab:1:cpu") >= 3, 10)
    for message in bench.redis.lrange("datafab:1:cpu", 0, -1):
        assert len(message.encode()) < MAX_MESSAGE_BYTES
        args, _, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
        assert Batch.model_validate(args[0]).dump() == args[0]
    bench.mend()
    bench.end(job)


def test_every_key_has_the_prefix(bench: Bench):
    bench.run("waiting", n=2)
    keys = {key for key in bench.redis.keys("*") if not key.startswith("toy:")}
    strange = {key for key in keys if not key.startswith("datafab:1:")}
    assert strange <= {key for key in strange if "pidbox" in key}, strange


def test_secrets_travel_outside_messages_and_end_with_the_job(bench: Bench):
    job, _ = start("keyed", {"n": 2}, secrets={"api_key": "planted-secret"})
    assert bench.end(job.id).counts.ok == 2
    assert not bench.redis.exists(f"datafab:1:secret:{job.id}")
    assert "planted-secret" not in bench.everything()
    logs = "".join(part.log.read_text() for part in bench.cluster.parts.values())
    assert "planted-secret" not in logs
    without, _ = start("keyed", {})
    ended = bench.end(without.id)
    assert (ended.status, ended.error.type, ended.error.field) == (JobStatus.FAILED, "secret", "api_key")


@pytest.mark.parametrize(("kill", "status"), [([], "succeeded"), (["toy:0"], "parked")])
def test_a_flow_may_follow_whenever_a_job_has_ended(bench: Bench, kill: list[str], status: str):
    job = bench.run("followed", kill=kill, times=99)
    assert job.status == status
    until(lambda: f"{job.id} {status}" in bench.redis.lrange("toy:followed", 0, -1), 10)
    until(lambda: all(one.final for one in jobs().newest(flow="follower")), 10)
    assert bench.redis.lrange("toy:followed", 0, -1).count(f"{job.id} {status}") == 1
    assert not bench.redis.zcard("datafab:1:after")
