"""Celery glue: the app, the ledger, the task base, one task per stage, canvas and schedule.

``celery -A workers worker`` finds the app here.
"""

from workers.cluster import app

__all__ = ["app"]
