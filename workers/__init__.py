"""The Celery side: the app, leases, the base of tasks, one task per stage, canvases and schedules.

``celery -A workers worker`` finds the app under the name ``celery`` here, as ``workers.app`` is a module.
"""

from workers import lifecycle
from workers.app import app as celery

__all__ = ["celery", "lifecycle"]
