"""What workers do at their start and end, on Celery's signals."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from celery import signals

from datafab import log
from datafab.store.files import one_day_ago
from datafab.store.scratch import remove_process_folder, sweep_work_folders, use_for_all
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
@signals.worker_process_init.connect
def _prepare_work_folder(**_: Any) -> None:
    """Give this process a work folder, and remove those of killed ones: a child may take the place of one."""
    use_for_all()
    sweep_work_folders(one_day_ago())


@signals.worker_process_shutdown.connect
def _remove_work_folder(**_: Any) -> None:
    """Remove the folder of a child, which ends without the functions that are registered for that."""
    remove_process_folder()


@signals.worker_shutdown.connect
def _close(**_: Any) -> None:
    services().close()
