"""What a whole test run shares: Hypothesis's patience, what coverage need not see, and how long each suite took."""

from __future__ import annotations

from collections import defaultdict

import hypothesis
import pytest

from coverage_imports import measured, unmeasured

# The machine is busy with clusters: that drawing an example takes long says nothing.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")


def pytest_collection(session: pytest.Session) -> None:
    """Leave collecting itself unmeasured: each process collects all tests. What it imports of ours is measured."""
    session.perform_collect = unmeasured(session.perform_collect)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure what a test does with an example of Hypothesis's, not how that is made."""
    handles = [getattr(getattr(item, "obj", None), "hypothesis", None) for item in items]
    for handle in {id(handle): handle for handle in handles if handle}.values():
        handle.inner_test = measured(handle.inner_test)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """See above."""
    if hasattr(pyfuncitem.obj, "hypothesis"):
        pyfuncitem.obj = unmeasured(pyfuncitem.obj)


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
