"""What a whole test run shares: Hypothesis's patience, what coverage need not see, and how long each suite took."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import nullcontext
from functools import wraps
from itertools import chain
from typing import ParamSpec, TypeVar

import hypothesis
import pytest

from coverage_imports import measured, unmeasured
from tests.servers.nursery import unmeasured_children

P = ParamSpec("P")
T = TypeVar("T")

# The machine is busy with clusters: that drawing an example takes long says nothing.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")

#: How many examples of a test coverage looks at; the later ones tell it next to nothing.
EXAMPLES = 30
#: Seconds that a test of a folder takes, about. The other folders' wait for nobody: they fill up what is left.
SECONDS = {"benchmarks": 90, "integration": 4, "workers": 6, "docs": 1, "webhook": 1}
#: What a machine of the CI may lack: data that stand beside this tree, a wheel, a right.
MAY_LACK = ("corpus", "suites' data", "has wheels for", "no right to mount")


def pytest_configure(config: pytest.Config) -> None:
    """Leave the process unmeasured that only hands out the tests: none of our code runs there."""
    if config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.settrace(None)
        threading.settrace(None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test of the CI that is skipped because a part is missing."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(part in why for part in MAY_LACK):
            report.outcome, report.longrepr = "failed", f"{why}: with CI=true, a part that is missing is a failure"
    return report


def pytest_collection(session: pytest.Session) -> None:
    """Leave collecting itself unmeasured: each process collects all tests. What it imports of ours is measured."""
    session.perform_collect = unmeasured(kept(session.perform_collect))


def kept(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function so that what it makes is never looked through for garbage, as nearly all of it stays.

    Looking through what is collected and imported, again and again, takes a quarter of the time of collecting.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            gc.freeze()
            gc.enable()

    return call


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure what a test does with an example of Hypothesis's, not how that is made; begin with what takes long."""
    handles = [getattr(getattr(item, "obj", None), "hypothesis", None) for item in items]
    for handle in {id(handle): handle for handle in handles if handle}.values():
        handle.inner_test = measured(handle.inner_test, EXAMPLES)
    items[:] = dealt(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def dealt(items: list[pytest.Item], hands: int) -> list[pytest.Item]:
    """Return the tests so that each of as many processes, which get as many tests each, has as many slow ones.

    The tests of a file stay together, as they share servers, and so do the files of a folder. Each process begins with
    the slow ones, so that what is left to the others at the end is quick.
    """
    files: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        files[item.nodeid.partition("::")[0]].append(item)
    cost = {file: len(tests) * SECONDS.get(file.split("/")[1], 0) for file, tests in files.items()}
    slow: list[list[pytest.Item]] = [[] for _ in range(hands)]
    load = [0] * hands
    for file in sorted(files, key=lambda file: (-cost[file], file)):
        if cost[file]:
            least = load.index(min(load))
            load[least] += cost[file]
            slow[least] += files[file]
    quick = [item for file, tests in files.items() if not cost[file] for item in tests]
    for hand in slow:
        hand.sort(key=lambda item: item.nodeid.split("/")[1])
        missing = max(0, len(items) // hands - len(hand))
        hand.extend(quick[:missing])
        del quick[:missing]
    return [*chain.from_iterable(slow), *quick]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """See above. Neither a test with the mark ``unmeasured`` is measured nor a process that it starts."""
    marked = pyfuncitem.get_closest_marker("unmeasured")
    if marked or hasattr(pyfuncitem.obj, "hypothesis"):
        pyfuncitem.obj = unmeasured(pyfuncitem.obj)
    with unmeasured_children() if marked else nullcontext():
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each folder of tests: how many, and their seconds in all processes together."""
    names: dict[str, set[str]] = defaultdict(set)
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                suite = report.nodeid.split("/")[1]
                names[suite].add(report.nodeid)
                seconds[suite] += report.duration
    terminalreporter.section("time of each suite", bold=True)
    for suite in sorted(seconds, key=lambda suite: -seconds[suite]):
        terminalreporter.line(f"{suite:<12} {len(names[suite]):>5} tests {seconds[suite]:>7.0f} s")
