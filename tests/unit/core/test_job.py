"""How far a job is, how fast, and how long it takes yet."""

from __future__ import annotations

import pytest

from datafab.cli.output import describe_progress, print_summary
from datafab.core.item import Counts, Item, ItemError
from datafab.core.job import Job, Progress, job_result
from datafab.core.job_fields import Record, read_job
from datafab.core.memory_jobs import MemoryJobs


@pytest.mark.parametrize(
    ("seconds", "total", "rate", "eta"),
    [
        (10.0, 20, 1.0, 10),
        (10.0, 11, 1.0, 1),
        (4.0, 20, 2.5, 4),
        (10.0, 10, 1.0, None),
        (10.0, None, 1.0, None),  # not counted yet
        (0.0, 20, None, None),  # nothing to go by
    ],
)
def test_the_pace_is_that_so_far(seconds, total, rate, eta):
    stage = Progress(stage="collect", ok=7, unchanged=1, skipped=1, failed=1, bytes=5000).with_pace(seconds, total)
    assert (stage.items_per_second, stage.eta) == (rate, eta)
    assert stage.bytes_per_second == (round(5000 / seconds) if seconds else None)


def test_a_job_is_shown_without_the_logins_of_its_addresses():
    params = {"url": "http://u:ge@heim@e.org/a@b", "event": {"a": ["see ftp://geheim@e.org/x", 1, None]}, "n": 1}
    job = Job(id="j", flow="source", params=params, created=1, deadline=2)
    assert job.dump()["params"] == {"url": "http://e.org/a@b", "event": {"a": ["see ftp://e.org/x", 1, None]}, "n": 1}
    assert job.params == params


GONE = ItemError(type="http_404", message="it is gone", field="href")


@pytest.mark.parametrize(
    ("sums", "failures", "status", "says"),
    [
        (None, {}, "succeeded", None),
        ({}, {}, "succeeded", None),
        ({"ok": 1}, {}, "succeeded", None),
        ({"ok": 1}, {"a": GONE}, "succeeded", None),  # told by a stage that follows
        ({"skipped": 1}, {}, "succeeded", None),
        ({"ok": 1, "failed": 9}, {"a": GONE}, "succeeded", None),
        ({"unchanged": 1, "failed": 1}, {"a": GONE}, "succeeded", None),
        ({"skipped": 1, "failed": 1}, {"a": GONE}, "succeeded", None),
        ({"failed": 1}, {"a": GONE}, "failed", "it is gone"),
        (
            {"failed": 2},
            {"b": GONE, "a": GONE.evolve(message="no")},
            "failed",
            "all 2 items failed, the first with: no",
        ),
        ({"failed": 1}, {}, "failed", "all 1 items failed"),
    ],
)
def test_a_job_has_failed_when_all_of_its_items_have(sums, failures, status, says):
    ended, error = job_result(None if sums is None else Counts(job="j", **sums), failures)
    assert (ended.value, error and error.message) == (status, says)
    assert error is None or not failures or (error.type, error.field) == ("http_404", "href")


@pytest.mark.parametrize(
    ("stage", "progress", "named"),
    [
        ("index", [{"failed": 2}, {"failed": 2}], "index"),  # that broke, not its items
        ("stage1", [{"failed": 2}, {"failed": 2}], "stage0"),
        ("report", [{"ok": 1, "failed": 1}, {"failed": 2}], "stage1"),
        ("stage1", [{"ok": 1, "failed": 1}, {"failed": 2}], "stage1"),
        ("stage0", [{"ok": 2}], "stage0"),
        ("source", [], "source"),
    ],
)
def test_a_failed_job_names_the_stage_in_which_the_last_item_failed(stage, progress, named):
    stages = tuple(Progress(stage=f"stage{number}", **sums) for number, sums in enumerate(progress))
    job = Job(id="j", flow="f", status="failed", stage=stage, created=1.0, deadline=2.0, progress=stages)
    assert job.failed_in == named


def test_what_has_not_begun_has_no_pace():
    assert Progress(stage="collect").with_pace(10.0, 20) == Progress(stage="collect")


def test_a_job_in_redis_tells_it_for_each_stage():
    fields = {
        "flow": "collect", "status": "running", "created": "90", "deadline": "999", "total": "10",
        "stages": "collect,analyse,index", "n:collect:ok": "4", "n:collect:failed": "1", "b:collect": "1000",
        "s:collect": "100", "l:collect": "110", "n:analyse:ok": "1", "s:analyse": "101", "l:analyse": "102",
        "s:index": "103",
    }  # fmt: skip
    job = read_job("j", fields)
    assert job.dump()["progress"] == [
        {"stage": "collect", "ok": 4, "unchanged": 0, "skipped": 0, "failed": 1, "bytes": 1000}
        | {"items_per_second": 0.5, "bytes_per_second": 100, "eta": 10},
        {"stage": "analyse", "ok": 1, "unchanged": 0, "skipped": 0, "failed": 0, "bytes": 0}
        | {"items_per_second": 1.0, "bytes_per_second": 0, "eta": 9},
    ]
    assert read_job("j", fields | {"status": "cancelled"}).counts == Counts(job="j", ok=1)


def test_a_job_of_this_process_tells_it_too():
    jobs = MemoryJobs()
    jobs.set_total("j", 4)
    for position in range(2):
        jobs.record("j", "collect", None, [Record(position, Item(source="x", size=10), touched=True)], [])
    (stage,) = jobs.progress()
    assert stage.items_per_second
    assert stage.bytes_per_second
    assert stage.eta is not None


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Progress(stage="collect", ok=3), ""),
        (Progress(stage="collect", failed=1, unchanged=2, skipped=3), "1 failed, 2 unchanged, 3 skipped"),
        (Progress(stage="collect", ok=1, bytes=5000, bytes_per_second=1500), "5.0 KB, 1.5 KB/s"),
    ],
)
def test_what_stands_beside_a_bar(stage, said):
    assert describe_progress(stage) == said


def fields(**more: str) -> dict[str, str]:
    """Return what stands in Redis of a collection that analyses."""
    counted = {"n:collect:ok": "530", "n:collect:failed": "3", "b:collect": "1000", "n:analyse:ok": "530"}
    counted |= {"n:analyse:failed": "3", "d:analyse:ok:skipped": "118", "d:analyse:failed:passed": "3"}
    known = {"flow": "collect", "status": "succeeded", "created": "90", "deadline": "999", "total": "533"}
    return known | {"stages": "collect,analyse,index", "asked": "collect"} | counted | more


def test_a_stage_that_follows_is_counted_apart():
    job = read_job("j", fields())
    assert job.counts == Counts(job="j", ok=530, failed=3)
    collect, analyse = job.progress
    assert job.main == collect
    assert (analyse.ok, analyse.skipped, analyse.failed, analyse.passed, analyse.done) == (412, 118, 0, 3, 533)


def test_a_job_that_was_cancelled_is_counted_by_what_was_asked_for():
    partly = fields(status="cancelled") | {"n:analyse:ok": "100", "n:analyse:failed": "0"}
    assert read_job("j", partly).counts == Counts(job="j", ok=530, failed=3, bytes=1000)


def test_a_job_of_the_version_before_is_read_as_it_was_counted():
    old = {name: value for name, value in fields().items() if not name.startswith("d:") and name != "asked"}
    job = read_job("j", old | {"n:analyse:ok": "412", "n:analyse:failed": "121"})
    assert job.counts == Counts(job="j", ok=412, failed=121)
    assert job.main == job.progress[-1]
    assert (job.progress[1].ok, job.progress[1].failed, job.progress[1].passed) == (412, 121, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "533 endpoints: 530 collected, 3 failed; analysed 412, 118 are no tables · 1.0 KB"),
        (
            {"d:analyse:ok:skipped": "1", "d:analyse:ok:failed": "2"},
            "533 endpoints: 530 collected, 3 failed; analysed 527, 1 is no table, 2 could not be analysed · 1.0 KB",
        ),
        (
            {"n:index:failed": "533"},
            "533 endpoints: 530 collected, 3 failed; analysed 412, 118 are no tables; index: 533 failed · 1.0 KB",
        ),
        ({"asked": "analyse"}, "530 ok, 3 failed · 0 B"),
    ],
)
def test_the_summary_tells_of_endpoints(capsys, changes, said):
    job = read_job("j", fields(**changes))
    assert job.counts is not None
    print_summary(job, job.counts)
    assert capsys.readouterr().out.strip() == said


def test_the_summary_of_one(capsys):
    one = {"n:collect:ok": "1", "flow": "collect", "status": "succeeded", "created": "9", "deadline": "9"}
    job = read_job("j", one | {"asked": "collect"})
    print_summary(job, job.counts or Counts(job="j"))
    assert capsys.readouterr().out.strip() == "1 endpoint: 1 collected · 0 B"
