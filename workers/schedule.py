"""Flows on a schedule: an entry of beat for each, and the task that enqueues them.

Several beats may run: a job's key is its flow and the minute at which it was due, so that each minute is one job.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from datetime import time as clock
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from celery.beat import BeatLazyFunc
from celery.exceptions import Reject
from celery.schedules import ParseException, crontab

from datafab.core.jobs import AWAY
from datafab.errors import DatafabError
from datafab.flows.registry import FLOWS, find, flows, localise
from datafab.flows.toml import examine, refuse
from workers import canvas
from workers.app import app, services, settings

TASK = "datafab.schedule"
#: A crontab that names the 29th of February has been due within so many days.
HORIZON = 8 * 366 + 1

log = structlog.get_logger()


def cron(text: str) -> crontab:
    """Return what beat runs by.

    Raises:
        ValueError: Celery cannot read it.
    """
    try:
        return crontab.from_string(" ".join(text.split()))
    except ParseException as error:
        raise ValueError(str(error)) from error


def due(schedule: crontab, now: datetime) -> datetime:
    """Return the latest minute, not after ``now``, at which it was due: beat may be late, by days if it was down."""
    for back in range(HORIZON):
        day = (now - timedelta(days=back)).date()
        if not (
            day.day in schedule.day_of_month
            and day.month in schedule.month_of_year
            and day.isoweekday() % 7 in schedule.day_of_week
        ):
            continue
        minutes = (clock(hour, minute) for hour in schedule.hour for minute in schedule.minute)
        past = [at for at in (datetime.combine(day, one, now.tzinfo) for one in minutes) if at <= now]
        if past:
            return max(past)
    return now.replace(second=0, microsecond=0)


def entries() -> dict[str, dict[str, Any]]:
    """Return beat's entries, one for each flow on a schedule."""
    return {
        f"schedule:{flow.name}": {
            "task": TASK,
            "schedule": cron(flow.schedule),
            # Beat's own clock says which minute it is, however late the task runs. It does not expire for the same
            # reason: a late one is either the first of its minute, or finds the job of another.
            "args": (flow.name, BeatLazyFunc(time.time)),
            "options": {"queue": "control"},
        }
        for flow in flows().values()
        if flow.schedule
    }


def install() -> None:
    """Give beat the schedules of this process's flows.

    Raises:
        SettingError: something is wrong in ``datafab.toml``.
    """
    config = settings().config
    if config:
        refuse(examine(config, FLOWS, cron)[1])
    app.conf.beat_schedule = app.conf.beat_schedule | entries()


@app.task(name=TASK)
def schedule(flow: str, at: float) -> str | None:
    """Enqueue a flow that is due, once for its minute; return the job's id, or None where it cannot run.

    Args:
        flow: its name.
        at: when beat sent this, Unix time.
    """
    try:
        minute = due(cron(find(flow).schedule), datetime.fromtimestamp(at, ZoneInfo(settings().timezone)))
        key = f"schedule:{flow}:{minute:%Y-%m-%dT%H:%M}"
        job, created = canvas.start(flow, localise(flow, {}, services()), key)
    except AWAY as error:
        # Nothing was enqueued. The message stays: Redis hands it on when it is back.
        raise Reject(str(error), requeue=True) from error
    except DatafabError as error:
        log.error("a scheduled flow cannot run", flow=flow, error=error.message, field=error.field)  # noqa: TRY400
        return None
    log.info("scheduled", flow=flow, key=key, job=job.id, created=created)
    return job.id
