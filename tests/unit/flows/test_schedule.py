"""Which minute of a schedule it is, by any clock and after any delay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from datafab.flows import crontab
from workers.schedule import cron, latest_due

PARIS = ZoneInfo("Europe/Paris")


def at(text: str, zone: ZoneInfo = PARIS) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("* * * * *", "2026-03-01 12:34:56", "2026-03-01 12:34"),
        ("0 6 * * *", "2026-03-01 06:00:00", "2026-03-01 06:00"),
        ("0 6 * * *", "2026-03-01 05:59:59", "2026-02-28 06:00"),
        ("*/15 8-17 * * 1-5", "2026-03-01 12:00:00", "2026-02-27 17:45"),  # a Sunday
        ("0 0 * * sun", "2026-03-03 12:00:00", "2026-03-01 00:00"),
        ("30 2 * * *", "2026-03-29 04:00:00", "2026-03-29 02:30"),  # an hour that this day does not have
        ("0 0 29 feb *", "2026-03-01 00:00:00", "2024-02-29 00:00"),
        ("0 0 1 1 *", "2026-12-31 23:59:59", "2026-01-01 00:00"),
    ],
)
def test_the_latest_minute_that_was_due(text: str, now: str, expected: str):
    assert latest_due(cron(text), at(now)) == at(expected)


def test_a_message_belongs_to_one_minute_however_late_it_was_sent():
    daily = cron("0 6 * * *")
    sent = [at("2026-03-01 06:00:00") + timedelta(seconds=late) for late in (0, 0.2, 59, 61, 3600, 86_000)]
    assert {latest_due(daily, one) for one in sent} == {at("2026-03-01 06:00")}


@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "5,35 */3 * * *", "0 6 * * 1-5", "10 4 1,15 * *", "0 0 * jan-mar *"]),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1)),  # noqa: DTZ001 - made aware below
)
def test_beat_sees_nothing_due_between_that_minute_and_now(text: str, now: datetime):
    """Celery's own reckoning is the judge: just before that minute it is due, just after it is not."""
    moment = now.replace(tzinfo=UTC)
    schedule = cron(text)
    schedule.app = Celery("judge", set_as_current=False)
    schedule.nowfun = lambda: moment
    minute = latest_due(schedule, moment)
    assert minute <= moment
    assert schedule.is_due(minute - timedelta(seconds=1)).is_due
    assert not schedule.is_due(minute).is_due


@pytest.mark.parametrize("text", ["* * * * *", "0,30 8-17/2 * * mon-fri", "*/5 * 1 jan,feb *", " 0  6 * * * "])
def test_sound_crontabs(text: str):
    assert not list(crontab.faults(text, cron))


FIELD = st.sampled_from(["*", "*/5", "3", "0-4", "1,2", "mon", "mon-fri", "99", "x", "-1", "1-", "/2", "1-2-3"])


@given(st.lists(FIELD, min_size=4, max_size=6))
def test_what_has_no_fault_can_be_run(fields: list[str]):
    text = " ".join(fields)
    if not list(crontab.faults(text, cron)):
        assert latest_due(cron(text), at("2026-03-01 12:00")) <= at("2026-03-01 12:00")
