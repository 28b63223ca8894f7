"""Celery glue: the app, the ledger's leases, the task base, one task per stage, canvas and schedule.

``celery -A workers worker`` finds the app here, under the name that Celery looks for: ``workers.app`` is the module.
"""

from workers import lifecycle
from workers.app import app as celery

__all__ = ["celery", "lifecycle"]
