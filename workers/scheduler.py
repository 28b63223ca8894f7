"""Beat's scheduler, which sends what was due while Redis did not take it as soon as Redis does."""

from __future__ import annotations

from typing import Any

import structlog
from celery.beat import PersistentScheduler, ScheduleEntry, SchedulingError

from workers.schedule import TASK

log = structlog.get_logger()


class Scheduler(PersistentScheduler):
    """Celery's scheduler. It would give up an entry that cannot be sent, with a traceback each time."""

    def __init__(self, *args: Any, **options: Any) -> None:
        #: scheduled flows that were due and could not be sent, by entry
        self._unsent: dict[str, ScheduleEntry] = {}
        self._failing = False
        super().__init__(*args, **options)

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due; return the seconds until the next entry."""
        for name, entry in list(self._unsent.items()):
            if self._send(entry):
                del self._unsent[name]
        return float(super().tick(*args, **options))

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:  # noqa: ARG002 - Celery's own signature
        """Send an entry. The cluster's own tasks are due again soon; a flow's next time may be next month."""
        if not self._send(entry) and entry.task == TASK:
            self._unsent[entry.name] = entry

    def _send(self, entry: ScheduleEntry) -> bool:
        try:
            self.apply_async(entry, producer=self.producer, advance=False)
        except SchedulingError as error:
            if not self._failing:
                log.warning("beat waits for Redis", entry=entry.name, error=str(error))
            self._failing = True
            return False
        if self._failing:
            log.warning("beat goes on")
        self._failing = False
        return True
