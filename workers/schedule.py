"""Scheduled flows: an entry of beat for each, and the task that enqueues them.

Several beats may run: the dedupe key of a job is its flow and the minute at which it was due.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from datetime import time as clock
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from celery.beat import BeatLazyFunc
from celery.exceptions import Reject
from celery.schedules import ParseException, crontab

from datafab.core.redis import CONNECTION_ERRORS
from datafab.errors import DatafabError
from datafab.flows.registry import FLOWS, find, flows, localise
from datafab.flows.toml import examine, refuse
from workers import canvas
from workers.app import app, cluster_time, services, settings

TASK = "datafab.schedule"
#: The longest time between two due days: a crontab may name the 29th of February.
HORIZON_DAYS = 8 * 366 + 1

log = structlog.get_logger()


def cron(text: str) -> crontab:
    """Return a crontab's schedule for beat.

    Raises:
        ValueError: Celery cannot parse it.
    """
    try:
        found = crontab.from_string(" ".join(text.split()))
    except ParseException as error:
        raise ValueError(str(error)) from error
    found.nowfun = _now
    return found


def _now() -> datetime:
    """Return the time on which all beats agree."""
    return datetime.fromtimestamp(cluster_time(), app.timezone)


def latest_due(schedule: crontab, now: datetime) -> datetime:
    """Return the last minute, up to ``now``, at which a schedule was due: beat may be late, by days if it was down."""
    for back in range(HORIZON_DAYS):
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
    """Return beat's entries, one for each scheduled flow."""
    return {
        f"schedule:{flow.name}": {
            "task": TASK,
            "schedule": cron(flow.schedule),
            # The time of sending decides which minute it is, however late the task runs. So a late task need not
            # expire: it is the first for its minute, or finds the job of another.
            "args": (flow.name, BeatLazyFunc(cluster_time)),
            "options": {"queue": "control"},
        }
        for flow in flows().values()
        if flow.schedule
    }


def install() -> None:
    """Give beat the schedules of this process's flows.

    Raises:
        SettingError: ``datafab.toml`` has a mistake.
    """
    config = settings().config
    if config:
        refuse(examine(config, FLOWS, cron)[1])
    app.conf.beat_schedule = app.conf.beat_schedule | entries()


@app.task(name=TASK)
def schedule(flow: str, at: float) -> str | None:
    """Enqueue a flow that is due, once for each minute; return the job's id, or None if it cannot run.

    Args:
        flow: its name.
        at: Unix time at which beat sent this task.
    """
    try:
        minute = latest_due(cron(find(flow).schedule), datetime.fromtimestamp(at, ZoneInfo(settings().timezone)))
        key = f"schedule:{flow}:{minute:%Y-%m-%dT%H:%M}"
        job, created = canvas.start(flow, localise(flow, {}, services()), key)
    except CONNECTION_ERRORS as error:
        # Nothing was enqueued. The message stays, and is delivered again when Redis is back.
        raise Reject(str(error), requeue=True) from error
    except DatafabError as error:
        log.error("a scheduled flow cannot run", flow=flow, error=error.message, field=error.field)  # noqa: TRY400
        return None
    log.info("scheduled", flow=flow, key=key, job=job.id, created=created)
    return job.id
