"""Celery settings, each with its reason. The values come from ``datafab.settings``."""

from __future__ import annotations

import math
from typing import Any

from datafab.core.redis_address import RedisAddress
from datafab.settings import Settings, load


def configuration(settings: Settings) -> dict[str, Any]:
    """Return Celery's configuration for these settings."""
    address = RedisAddress(settings) if settings.redis_url else None
    found = {"global_keyprefix": settings.redis_prefix} | (address.transport_options() if address else {})
    keep_results = int(settings.job_deadline) + 3600
    return {
        **(address.celery_options() if address else {}),
        # A task is acknowledged when it has ended, so a dead worker's task is still in Redis.
        "task_acks_late": True,
        # The ledger sends a lost task again; without this Celery would fail its chain as well.
        "task_reject_on_worker_lost": True,
        # Late acks hold what is prefetched back from other workers; no-ops are not slower with one.
        "worker_prefetch_multiplier": 1,
        "broker_transport_options": {
            # Short, although tasks may take hours: the ledger drops the copies that this makes.
            "visibility_timeout": settings.visibility_timeout,
            # Look for such messages each second: the defaults add up to 100 s.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            # A worker that is killed while it looks keeps all others from it for so long: by default five minutes.
            "unacked_mutex_expire": math.ceil(settings.visibility_timeout),
            "socket_keepalive": True,
            # Above the one second of BRPOP.
            "socket_timeout": 10,
            # A half-open connection is noticed.
            "health_check_interval": 25,
            **found,
        },
        "result_backend_transport_options": found,
        "redis_socket_timeout": 10.0,
        "redis_socket_keepalive": True,
        "redis_retry_on_timeout": True,
        # Workers wait for Redis, at the start and after a restart, for ever.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Results only join chords; the job's hash is the truth. They outlive the job's deadline.
        "task_ignore_result": True,
        "result_expires": keep_results,
        "result_chord_expires": keep_results,
        # STARTED is written before the ledger drops a stale copy, and would overwrite FAILURE.
        "task_track_started": False,
        # Data only: nothing that comes out of Redis is executed.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # Flower watches.
        "worker_send_task_events": True,
        "worker_hijack_root_logger": False,
        # A child that analysed many files gives its memory back.
        "worker_max_tasks_per_child": 200,
        "task_default_queue": "control",
        "timezone": settings.timezone,
        "enable_utc": True,
        "beat_schedule": {
            "tick": {
                # No expiry: it would be judged by the worker's clock, and one that is ahead would drop every tick.
                "task": "datafab.tick",
                "schedule": settings.tick,
                "options": {"queue": "control"},
            },
            "sweep": {"task": "datafab.sweep", "schedule": 10.0, "options": {"queue": "control"}},
            "prune": {"task": "datafab.prune", "schedule": 3600.0, "options": {"queue": "control"}},
        },
        "beat_scheduler": "workers.scheduler:Scheduler",
        "beat_schedule_filename": str(settings.home / "beat-schedule"),
        # Beat looks at its heap at least this often; the default of five minutes would miss a fast tick.
        "beat_max_loop_interval": settings.tick,
    }


globals().update(configuration(load()))
