"""The runner, without Celery and without Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from datafab.core.backoff import RetryPolicy
from datafab.core.document import analysis_name
from datafab.core.item import MAX_MESSAGE_BYTES, Batch, Counts, Item, Status, Stopped
from datafab.core.job import Job
from datafab.core.lease import NO_LEASE, Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, expand, load_items, pack, run_inline, run_stage
from datafab.core.services import Services
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, FlowError, Lost, Retriable, Skippable, Unsuitable, Wait
from datafab.settings import load


@pytest.fixture
def services(tmp_path) -> Iterator[Services]:
    mine = Services(load(home=tmp_path), jobs=MemoryJobs())
    yield mine
    mine.close()


RETRY = Lease(attempt=1)
CRASHED = Lease(attempt=1, deaths=1)
GIVEN_UP = Lease(attempt=3, deaths=3, give_up_reason="died 3 times")


def batch(*names: str, **facts) -> Batch:
    return Batch(job="j", flow="f", items=tuple(Item(source=name, **facts) for name in names))


def stage(run=None, **changes) -> Stage:
    return Stage(name="toy", queue="io", run=run, **changes)


def run(the_stage: Stage, the_batch: Batch, services: Services, lease: Lease = NO_LEASE, **attempt) -> list[Item]:
    return run_stage(the_stage, the_batch, services, Attempt(lease, **attempt))


def failing(error: Exception):
    def one(item: Item, ctx: Context) -> Item:
        if item.source == "bad":
            raise error
        return item.evolve(filename="done")

    return one


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Fatal("no", code="http_404", field="url"), Status.FAILED, "http_404"),
        (Skippable("not this one"), Status.SKIPPED, "skippable"),
        (KeyError("x"), Status.FAILED, "internal"),
        (RecursionError(), Status.FAILED, "internal"),
    ],
)
def test_an_error_is_its_items_alone(services, error, status, kind):
    good, bad, other = run(stage(failing(error)), batch("good", "bad", "other"), services)
    assert (good.filename, other.filename) == ("done", "done")
    assert (bad.status, bad.error.type) == (status, kind)


def test_a_failure_is_in_the_jobs_log(services):
    run(stage(failing(Fatal("no such file"))), batch("bad"), services)
    (line,) = services.jobs.logs()
    assert (line["level"], line["event"], line["source"]) == ("warning", "no such file", "bad")
    assert services.jobs.failures()["bad"].message == "no such file"


@pytest.mark.parametrize("error", [FlowError("the whole job"), Lost("cancelled")])
def test_what_concerns_the_whole_job_leaves_the_runner(services, error):
    with pytest.raises(type(error)):
        run(stage(failing(error)), batch("good", "bad"), services)
    assert services.jobs.done("j", "toy", None)[0].filename == "done"


def test_items_that_a_stage_does_not_want_pass_through(services):
    failed = Item(source="f", status=Status.FAILED)
    both = batch("ok").evolve(items=(failed, Item(source="ok")))
    passed, ran = run(stage(failing(Fatal("x"))), both, services)
    assert (passed, ran.filename) == (failed, "done")
    passed, ran = run(stage(failing(Fatal("x")), wants=frozenset(Status)), both, services)
    assert passed.filename == "done"


def conditional(text: str, *items: Item) -> Batch:
    return Batch(job="j", flow="f", items=items, params={"when": {"toy": text, "other": "size > 9"}})


def test_an_item_for_which_the_condition_is_false_passes_through(services):
    small, large = Item(source="s", size=1), Item(source="l", size=100)
    passed, ran = run(stage(failing(Fatal("x"))), conditional("size > 10", small, large), services)
    assert (passed, ran.filename) == (small, "done")
    assert not services.jobs.logs()


def test_a_condition_chooses_among_the_items_that_the_stage_wants(services):
    failed = Item(source="f", size=100, status=Status.FAILED)
    (passed,) = run(stage(failing(Fatal("x"))), conditional("size > 10", failed), services)
    assert passed == failed


def test_a_condition_may_ask_the_analysis(services, tmp_path):
    root = (tmp_path / "store").as_uri()
    found = {"header": ["n°"], "columns": {"n°": {"format": "siret"}}, "total_lines": 1}
    services.store(root).write(analysis_name("a" * 64), json.dumps(found).encode())
    analysed = Item(source="a", store=root, sha256="a" * 64, analysis="b" * 64)
    gone = Item(source="g", store=root, sha256="c" * 64, analysis="b" * 64)
    batch = conditional("formats has siret and columns has 'n°'", analysed, gone, Item(source="n"))
    assert [item.filename for item in run(stage(failing(Fatal("x"))), batch, services)] == ["done", None, None]


def test_what_keeps_a_condition_from_being_told_is_its_items_alone(services, tmp_path):
    root = (tmp_path / "store").as_uri()
    services.store(root).write(analysis_name("a" * 64), b"no JSON")
    broken = Item(source="b", store=root, sha256="a" * 64, analysis="b" * 64)
    good = Item(source="good")
    one, other = run(stage(failing(Fatal("x"))), conditional("rows > 1 or source = good", broken, good), services)
    assert (one.status, one.error.type, other.filename) == (Status.FAILED, "internal", "done")


def test_a_batch_with_conditions_that_died_too_often_fails_only_what_its_stage_wants(services):
    items = Item(source="s", size=1), Item(source="l", size=100)
    given = conditional("size > 10", *items)
    small, large = run(stage(failing(Fatal("x"))), given, services, GIVEN_UP)
    assert (small.status, large.status, large.error.type) == (Status.OK, Status.FAILED, "parked")


def test_a_condition_that_is_none_fails_the_job(services):
    with pytest.raises(FlowError, match="condition 'size'"):
        run(stage(failing(Fatal("x"))), conditional("size", Item(source="s")), services)


def test_waiting_items_wait_together_at_the_end(services):
    seen = []

    def one(item: Item, ctx: Context) -> Item:
        seen.append(item.source)
        if item.source in {"slow", "slower"} and "looked" not in ctx.memo:
            ctx.memo["looked"] = True
            raise Wait(f"{item.source} is not ready", delay={"slow": 0.03, "slower": 0.06}[item.source])
        return item

    items = batch("slower", "a", "slow", "b")
    with pytest.raises(Wait, match="slow is not ready") as wait:
        run(stage(one), items, services)
    assert wait.value.delay == 0.03
    time.sleep(0.07)
    assert [item.source for item in run(stage(one), items, services, RETRY)] == ["slower", "a", "slow", "b"]
    assert seen == ["slower", "a", "slow", "b", "slower", "slow"]


def test_retries_cost_budget_then_the_item_fails(services):
    the_stage = stage(failing(Retriable("busy", code="http_503", delay=0.01)), retry=RetryPolicy(retries=2))
    for _ in range(2):
        with pytest.raises(Wait, match="busy"):
            run(the_stage, batch("bad", "good"), services, RETRY)
        time.sleep(0.02)
    bad, good = run(the_stage, batch("bad", "good"), services, RETRY)
    assert (bad.error.type, bad.error.message) == ("http_503", "busy (3 tries)")
    assert good.status == Status.OK


def looks(services, the_stage: Stage, times: int, names: tuple[str, ...] = ("bad",)) -> list[Item]:
    """Look again and again, at once; return the items if an attempt ended them."""
    for _ in range(times):
        with suppress(Wait):
            return run(the_stage, batch(*names), services, Lease(attempt=1, woken=True))
    return []


def outcomes(*errors: Exception | None):
    """Return a stage's function that raises these, one at each look."""
    coming = iter(errors)

    def one(item: Item, ctx: Context) -> Item:
        if error := next(coming):
            raise error
        return item.evolve(filename="done")

    return one


@pytest.mark.parametrize("kind", ["run", "run_many"])
def test_failures_count_in_a_row_and_not_in_sum(services, kind):
    def many(items: list[Item], ctx: Context) -> Iterator[Item]:
        for item in items:
            yield one(item, ctx)

    one = outcomes(*[Retriable("busy", delay=0), Wait("not yet", delay=0)] * 40, None)
    the_stage = Stage(
        name="toy", queue="io", retry=RetryPolicy(retries=1), **{kind: {"run": one, "run_many": many}[kind]}
    )
    assert [item.filename for item in looks(services, the_stage, 81)] == ["done"]


def test_a_row_of_failures_is_ended_by_coming_further_than_ever(services):
    def loading(*reached: int):
        coming = iter(reached)

        def one(item: Item, ctx: Context) -> Item:
            ctx.progress(next(coming), 9, "rows")
            raise Retriable("broken off", delay=0)

        return stage(one, retry=RetryPolicy(retries=2))

    assert not looks(services, loading(1, 1, 2, 2, 3, 4, 5), 7)
    (bad,) = looks(services, loading(5, 2, 5), 3)
    assert bad.error.message == "broken off (3 tries)"


def test_a_wait_in_which_nothing_was_asked_ends_no_row_of_failures(services):
    turn = Wait("its server has others to serve first", delay=0, looked=False)
    the_stage = stage(outcomes(*[Retriable("busy", delay=0), turn] * 9), retry=RetryPolicy(retries=2))
    (bad,) = looks(services, the_stage, 9)
    assert bad.error.message == "busy (3 tries)"


def test_an_outage_is_waited_for_as_long_as_patience_lasts(services):
    patient = stage(outcomes(*[Retriable("busy", delay=0)] * 2000, None), retry=RetryPolicy(retries=None))
    assert [item.filename for item in looks(services, patient, 2001)] == ["done"]


def test_without_a_budget_an_outage_ends_with_patience(services):
    (bad,) = looks(services, stage(failing(Retriable("busy")), retry=RetryPolicy(retries=None, patience=7)), 3)
    assert bad.error.message == "busy: given up after 7 s"
    assert services.settings.retry_delay == 2  # so looks came after 2 and 6 seconds


def test_a_server_that_asks_for_more_than_there_is_patience_is_not_said_to_have_had_it(services):
    (bad,) = looks(services, stage(failing(Retriable("busy", delay=86_400)), retry=RetryPolicy(patience=60)), 1)
    assert bad.error.message == "busy: given up, as it asks to wait 86400 s and the patience here is 60 s"


def test_a_stage_may_call_its_notes_what_it_likes(services):
    def one(item: Item, ctx: Context) -> Item:
        ctx.memo.update({"_failures": 99, "_due": time.time() + 3600, "_since": 0, "_why": "x", "at": 99})
        raise Retriable("busy", delay=0)

    assert not looks(services, stage(one, retry=RetryPolicy(retries=3)), 3, ("a", "b"))
    (memo, waiting) = services.jobs.notes("j", "toy", None)[0]
    assert (memo["_failures"], waiting["failures"]) == (99, 3)


def test_notes_of_the_version_before_are_read(services):
    """It kept the runner's notes among the stage's own, and no second record."""
    now = time.time()
    former = {"seen": 1, "_due": now + 3600, "_since": now - 10, "_failures": 2, "_why": "busy"}
    services.jobs._memo["j", "toy", None].update({0: (dict(former), None), -1: ({"at": 1}, None)})
    with pytest.raises(Wait, match="busy") as wait:
        run(stage(failing(Fatal("not before its time"))), batch("bad", "good"), services, RETRY)
    assert 3500 < wait.value.delay <= 3600
    services.jobs._memo["j", "toy", None][0] = (dict(former), None)
    (bad,) = looks(services, stage(failing(Retriable("busy")), retry=RetryPolicy(retries=2)), 1)
    assert bad.error.message == "busy (3 tries)"


def test_a_retry_has_its_own_backoff(services):
    with pytest.raises(Wait) as wait:
        run(stage(failing(Retriable("busy"))), batch("bad"), services)
    assert wait.value.delay == 2


def test_the_raiser_may_choose_the_delay(services):
    with pytest.raises(Wait) as wait:
        run(stage(failing(Retriable("later", delay=77))), batch("bad"), services)
    assert wait.value.delay == 77


def test_patience_ends(services):
    bad, _ = run(
        stage(failing(Wait("never ready", delay=60)), retry=RetryPolicy(patience=30)), batch("bad", "good"), services
    )
    assert bad.status == Status.FAILED
    assert bad.error.message == "never ready: given up after 30 s"


def test_a_stage_that_breaks_off_is_blamed_on_the_item_it_was_at(services):
    def many(items: list[Item], ctx: Context) -> Iterator[Item]:
        for item in items:
            if item.source == "bad":
                raise ZeroDivisionError
            yield item.evolve(filename="done")

    the_stage = Stage(name="toy", queue="io", run_many=many)
    a, bad, b, c = run(the_stage, batch("a", "bad", "b", "c"), services)
    assert [item.filename for item in (a, b, c)] == ["done"] * 3
    assert bad.error.message == "ZeroDivisionError: "


def test_run_many_may_raise_what_it_should_give(services):
    def many(items: list[Item], ctx: Context) -> Iterator[Item]:
        for item in items:
            if item.source == "bad":
                raise Fatal("no", code="http_404")
            yield item

    _, bad, b = run(Stage(name="toy", queue="io", run_many=many), batch("a", "bad", "b"), services)
    assert (bad.error.type, b.status) == ("http_404", Status.OK)


def test_run_many_gives_outcomes_as_values(services):
    def many(items: list[Item], ctx: Context) -> Iterator[Item | Fatal]:
        for item in items:
            yield Fatal("no") if item.source == "bad" else item

    a, bad = run(Stage(name="toy", queue="io", run_many=many), batch("a", "bad"), services)
    assert (a.status, bad.status) == (Status.OK, Status.FAILED)


def test_run_many_that_ends_early_fails_the_rest(services):
    def many(items: list[Item], ctx: Context) -> Iterator[Item]:
        yield items[0]

    a, b = run(Stage(name="toy", queue="io", run_many=many), batch("a", "b"), services)
    assert (a.status, b.error.type) == (Status.OK, "internal")


def test_what_is_done_is_not_done_again(services):
    seen = []

    def one(item: Item, ctx: Context) -> Item:
        seen.append(item.source)
        if item.source == "c" and len(seen) < 4:
            raise Lost("killed")
        return item.evolve(filename="done")

    with pytest.raises(Lost):
        run(stage(one), batch("a", "b", "c"), services)
    items = run(stage(one), batch("a", "b", "c"), services, RETRY)
    assert seen == ["a", "b", "c", "c"]
    assert {item.filename for item in items} == {"done"}


def test_the_item_that_killed_its_worker_goes_last(services):
    seen = []

    def one(item: Item, ctx: Context) -> Item:
        seen.append(item.source)
        if item.source == "killer":
            raise SystemExit
        return item

    items = batch("a", "killer", "b", "c")
    with pytest.raises(SystemExit):
        run(stage(one), items, services)
    with pytest.raises(SystemExit):
        run(stage(one), items, services, CRASHED)
    assert seen == ["a", "killer", "b", "c", "killer"]
    left = run(stage(one), items, services, GIVEN_UP)
    assert [item.status for item in left] == [Status.OK, Status.FAILED, Status.OK, Status.OK]
    assert left[1].error.message == "died 3 times"


def test_a_stage_for_many_finds_its_killer_one_by_one(services):
    def many(items: list[Item], ctx: Context) -> Iterator[Item]:
        for item in items:
            if item.source == "killer":
                raise SystemExit
            yield item

    the_stage, items = Stage(name="toy", queue="io", run_many=many), batch("a", "killer", "b", "c")
    for lease in (RETRY, CRASHED, CRASHED):
        with pytest.raises(SystemExit):
            run(the_stage, items, services, lease)
    left = run(the_stage, items, services, GIVEN_UP)
    assert [item.status for item in left] == [Status.OK, Status.FAILED, Status.OK, Status.OK]


def test_who_waits_is_not_given_up_with_a_killer(services):
    def one(item: Item, ctx: Context) -> Item:
        if item.source == "killer":
            raise SystemExit
        if item.source == "waits" and "looked" not in ctx.memo:
            ctx.memo["looked"] = True
            raise Wait("not ready", delay=0.01)
        return item

    items = batch("waits", "killer", "c")
    with pytest.raises(SystemExit):
        run(stage(one), items, services)
    time.sleep(0.02)
    left = run(stage(one), items, services, GIVEN_UP)
    assert [item.status for item in left] == [Status.OK, Status.FAILED, Status.OK]


def test_each_waits_its_own_time(services):
    looks = []

    def one(item: Item, ctx: Context) -> Item:
        looks.append(item.source)
        raise Retriable("busy", delay=60) if item.source == "slow" else Wait("soon", delay=0.01)

    for _ in range(3):
        with pytest.raises(Wait):
            run(stage(one), batch("slow", "quick"), services, RETRY)
        time.sleep(0.02)
    assert looks == ["slow", "quick", "quick", "quick"]


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (Wait("not there yet", delay=9), Wait, "not there yet"),
        (Retriable("busy", delay=3), Wait, "busy"),
        (Fatal("no such catalogue", code="http_404"), FlowError, "no such catalogue"),
        (KeyError("x"), FlowError, "KeyError"),
    ],
)
def test_a_sources_failures_are_values_too(services, error, raised, says):
    def broken(ctx: Context) -> Iterator[Item]:
        yield Item(source="a")
        raise error

    the_stage = Stage(name="broken", queue="io", expand=broken)
    with pytest.raises(raised, match=says):
        list(expand(the_stage, Batch(job="j", flow="f"), services, Attempt()))


def test_an_error_text_that_is_no_utf_8_is_written_all_the_same(services):
    (bad,) = run(stage(failing(Fatal("file \udce9.csv"))), batch("bad"), services)
    assert bad.error.message == "file \\udce9.csv"
    assert bad.model_dump_json()


def test_every_attempt_can_be_stopped_between_items(services):
    stop = iter([None, None, Lost("cancelled")])

    def check() -> None:
        if error := next(stop):
            raise error

    with pytest.raises(Lost):
        run(stage(lambda item, _: item), batch("a", "b", "c"), services, check=check)
    assert set(services.jobs.done("j", "toy", None)) == {0, 1}


@pytest.mark.parametrize("error", [Wait("not yet"), Retriable("not now"), Fatal("never")])
def test_whatever_comes_of_an_item_its_batch_is_alive(services, error):
    alive = []
    with suppress(Wait):
        run(stage(failing(error)), batch("good", "bad"), services, on_progress=lambda: alive.append(1))
    assert len(alive) == 2


def test_progress_says_that_an_item_is_alive(services):
    alive = []

    def one(item: Item, ctx: Context) -> Item:
        ctx.progress(5, 10, "MB")
        return item

    run(stage(one), batch("a"), services, on_progress=lambda: alive.append(1))
    assert len(alive) == 2


def test_a_long_list_goes_to_the_store_and_comes_back(services):
    few, many = batch("a"), batch(*(f"http://example.org/{n:0100}" for n in range(100)))
    assert pack(few, few.items, services) == few
    packed = pack(many, many.items, services)
    assert isinstance(packed.items, str)
    assert len(packed.model_dump_json()) < MAX_MESSAGE_BYTES
    assert tuple(load_items(packed, services)) == many.items


def source(n: int) -> Stage:
    def numbers(ctx: Context) -> Iterator[Item]:
        """Yield items."""
        yield from (Item(source=str(number)) for number in range(n))

    return Stage(name="numbers", queue="io", expand=numbers)


@pytest.mark.parametrize(
    ("n", "sizes", "numbers"), [(0, [0], [None]), (3, [3], [None]), (120, [50, 50, 20], [0, 1, 2])]
)
def test_a_source_is_dealt_into_numbered_batches(services, n, sizes, numbers):
    batches = list(expand(source(n), Batch(job="j", flow="f"), services, Attempt()))
    assert [len(load_items(one, services)) for one in batches] == sizes
    assert [one.number for one in batches] == numbers
    assert services.jobs.total == n


def test_inline_runs_a_whole_flow(services):
    def odd(item: Item, ctx: Context) -> Item:
        if int(item.source) % 2:
            raise Fatal("odd")
        return item.evolve(size=10)

    stages = [Stage(name="odd", queue="io", run=odd), Stage(name="more", queue="io", run=lambda item, _: item)]
    job = Job(id="j", flow="f", created=time.time(), deadline=0)
    told = []
    counts = run_inline(stages, source(70), job, services, lambda: told.append(1))
    assert counts == Counts(job="j", ok=35, failed=35, bytes=350)
    assert len(told) == 4
    assert [(one.stage, one.done, one.failed) for one in services.jobs.progress()] == [
        ("odd", 70, 35),
        ("more", 70, 35),
    ]


def test_inline_waits_where_a_stage_says_so(services):
    def one(item: Item, ctx: Context) -> Item:
        if "looked" not in ctx.memo:
            ctx.memo["looked"] = True
            raise Wait("a moment", delay=0.01)
        return item

    job = Job(id="j", flow="f", created=time.time(), deadline=0)
    assert run_inline([stage(one)], source(2), job, services, lambda: None).ok == 2


@pytest.mark.parametrize(
    ("error", "shown", "counted"),
    [
        (Unsuitable("a PDF", another_kind=True, code="not_tabular"), Status.FAILED, "skipped"),
        (Unsuitable("half a workbook", code="corrupt_archive"), Status.FAILED, "failed"),
        (Skippable("not this one"), Status.SKIPPED, "skipped"),
    ],
)
@pytest.mark.parametrize("status", [Status.OK, Status.UNCHANGED])
def test_what_a_stage_that_follows_refuses_keeps_its_status(services, error, shown, counted, status):
    wants = frozenset({Status.OK, Status.UNCHANGED})
    (bad,) = run(stage(failing(error), wants=wants), batch("bad", status=status), services, is_extra=True)
    assert (bad.status, bad.error) == (status, None)
    assert (bad.effective().status, bad.effective().error.message) == (shown, error.message)
    (progress,) = services.jobs.progress()
    assert (getattr(progress, counted), progress.done) == (1, 1)
    failures = services.jobs.failures()
    assert [(one.message, one.stage) for one in failures.values()] == [(error.message, "toy")] * (counted == "failed")
    assert [line["event"] for line in services.jobs.logs()] == [error.message]
    assert Item.model_validate_json(bad.model_dump_json(exclude_none=True)) == bad


def test_content_that_a_stage_refuses_fails_where_the_stage_was_asked_for(services):
    refusal = Unsuitable("a PDF", another_kind=True, code="not_tabular")
    (bad,) = run(stage(failing(refusal)), batch("bad"), services)
    assert (bad.status, bad.error.type, bad.stopped) == (Status.FAILED, "not_tabular", None)


def test_a_fault_in_a_stage_that_follows_fails_the_item(services):
    (bad,) = run(stage(failing(KeyError("x"))), batch("bad"), services, is_extra=True)
    assert (bad.status, bad.error.type, bad.stopped) == (Status.FAILED, "internal", None)


def test_stages_after_a_refusal_take_the_item_as_a_failure(services):
    """As `index` does, and `publish` does not."""

    def refusing(item: Item, _: Context) -> Item:
        raise Unsuitable("half a workbook", code="corrupt_archive")

    def taking(item: Item, _: Context) -> Item:
        seen.append((item.source, item.effective().error.type))
        return item

    seen: list[tuple[str, str]] = []
    stages = [
        Stage(name="fetch", queue="io", run=failing(Fatal("gone", code="http_404"))),
        Stage(name="refuse", queue="io", run=refusing),
        Stage(name="announce", queue="io", run=taking),
        Stage(name="index", queue="io", run=taking, wants=frozenset(Status)),
    ]
    items = Stage(name="items", queue="io", expand=lambda _: iter([Item(source="good"), Item(source="bad")]))
    job = Job(id="j", flow="f", created=time.time(), deadline=0)
    later = {"refuse", "announce", "index"}
    assert run_inline(stages, items, job, services, lambda: None, extra_stages=later) == Counts(job="j", ok=1, failed=1)
    assert sorted(seen) == [("bad", "http_404"), ("good", "corrupt_archive")]
    assert {one.stage: (one.ok, one.failed, one.passed) for one in services.jobs.progress()} == {
        "fetch": (1, 1, None),
        "refuse": (0, 1, 1),
        "announce": (0, 0, 2),
        "index": (2, 0, None),
    }
    assert {source: error.stage for source, error in services.jobs.failures().items()} == {
        "bad": None,
        "good": "refuse",
    }


def test_a_condition_sees_what_stopped_an_item(services):
    refusal = Unsuitable("a PDF", another_kind=True, code="not_tabular")
    stopped = Item(source="x").evolve(stopped=Stopped.by("analyse", refusal))
    told = Batch(job="j", flow="f", params={"when": {"toy": "error.type = 'not_tabular'"}}, items=(stopped,))
    taken = stage(lambda item, _: item.evolve(filename="taken"), wants=frozenset(Status))
    assert run(taken, told, services, is_extra=True)[0].filename == "taken"
