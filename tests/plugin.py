"""What a whole test run shares: Hypothesis's patience, and how long each suite took."""

from __future__ import annotations

from collections import defaultdict

import hypothesis
import pytest

# The machine is busy with clusters: that drawing an example takes long says nothing.
hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")


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
