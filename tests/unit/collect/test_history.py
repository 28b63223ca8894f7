"""What is known of an endpoint between two looks."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from datafab.collect.fetchlog import FetchLog
from datafab.collect.history import History, next_history

AT = datetime.fromisoformat("2026-11-20T03:00:00")
A, B = "a" * 64, "b" * 64


def log(resource: str | None, *, status: int | None = 200, days: float = 0, plugin: str | None = None, **headers: str):
    at = AT + timedelta(days=days)
    return FetchLog(url="x", at=at, status=status, resource=resource, response_headers=headers, plugin=plugin)


def seen(*logs: FetchLog) -> History:
    history = None
    for each in logs:
        history = next_history(history, each)
    assert history is not None
    return history


def test_what_is_the_same_is_counted_until_it_changes():
    assert seen(log(A)).same == 0
    assert seen(log(A), log(A), log(A, status=304)).same == 2
    assert seen(log(A), log(A), log(B)).same == 0
    assert seen(log(A), log(A), log(A, plugin="wfs")).same == 0


def test_a_failure_forgets_nothing_but_is_looked_at_soon():
    history = seen(log(A, ETag='"1"'), log(A, ETag='"1"'), log(None, status=500, days=1))
    assert (history.resource, history.headers, history.same) == (A, {"etag": '"1"'}, 1)
    assert history.failed
    assert history.is_due(history.at + timedelta(hours=12), 12, 720)
    assert not seen(log(A), log(None), log(A)).failed


def test_an_answer_without_a_body_keeps_what_it_does_not_say():
    first = log(A, ETag='"1"', **{"Content-Type": "text/csv", "Last-Modified": "x", "Server": "y"})
    history = seen(first, log(A, status=304, ETag='"2"'))
    assert history.headers == {"etag": '"2"', "content-type": "text/csv", "last-modified": "x"}
    assert history.conditions() == {"If-None-Match": '"2"', "If-Modified-Since": "x"}
    assert seen(log(A)).conditions() == {}


@pytest.mark.parametrize(
    ("same", "least", "most", "hours"),
    [
        (0, 1, 9999, 12),
        (1, 1, 9999, 24),
        (2, 1, 9999, 168),
        (3, 1, 9999, 720),
        (99, 1, 9999, 720),
        (0, 48, 720, 48),
        (3, 1, 100, 100),
        (0, 50, 40, 50),  # bounds that cross: politeness wins
    ],
)
def test_the_next_look_is_later_the_longer_nothing_changes_within_bounds(same, least, most, hours):
    history = History(at=AT, resource=A, same=same)
    assert history.is_due(AT + timedelta(hours=hours - 0.4), least, most)  # a daily run is a minute early now and then
    assert not history.is_due(AT + timedelta(hours=hours - 0.6), least, most)


def test_it_can_be_kept():
    history = seen(log(A, ETag='"1"', plugin="wfs"), log(A, plugin="wfs"), log(None, plugin="wfs"))
    assert History.decoded(history.encoded()) == history


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"{",
        b"[]",
        b'{"at": 5}',
        b'{"at": "2026-11-20T03:00:00+00:00"}x',
        b'{"at": "2026-11-20T03:00:00", "resource": "../../etc/passwd"}',
        b'{"at": "2026-11-20T03:00:00", "resource": 5}',
        b'{"at": "2026-11-20T03:00:00", "headers": []}',
        b'{"at": "2026-11-20T03:00:00", "same": "x"}',
        b'{"at": "2026-11-20T03:00:00", "other": 1}',
    ],
)
def test_what_is_no_history_is_none(data):
    assert History.decoded(data) is None
