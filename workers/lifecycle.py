"""What workers do at their start and end, on Celery's signals."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from celery import signals

from datafab import log
from datafab.store.files import one_day_ago
from datafab.store.scratch import sweep_work_folders
from workers.app import services, settings


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    log.configure(settings().log_level)


@signals.import_modules.connect
def _add_schedules(**_: Any) -> None:
    """Read ``datafab.toml`` when workers and beat start, so that they end at once if it is wrong."""
    import_module("workers.schedule").install()


@signals.worker_init.connect
def _import_before_fork(sender: Any = None, **_: Any) -> None:
    """Import csv-detective once, so that children share it: it takes a second and 150 MB."""
    if "cpu" in sender.app.amqp.queues.consume_from:
        import_module("datafab.analysis.detective")


@signals.worker_init.connect
def _sweep_work_folders(**_: Any) -> None:
    """Remove the work folders of killed workers: the next collection may run on another host."""
    sweep_work_folders(one_day_ago())


@signals.worker_shutdown.connect
def _close(**_: Any) -> None:
    services().close()
