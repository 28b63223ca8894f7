"""datafab: collect, analyse, index, push, archive and publish open data on one Celery cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datafab.version import __version__

if TYPE_CHECKING:
    from datafab.api import JobFailed, JobHandle, enqueue, search

__all__ = ["JobFailed", "JobHandle", "__version__", "enqueue", "search"]


def __getattr__(name: str) -> Any:
    # Imported lazily because it imports Celery, which programs that only use the library do not need.
    if name in __all__:
        from datafab import api  # noqa: PLC0415 - see above

        return getattr(api, name)
    msg = f"module 'datafab' has no attribute {name!r}"
    raise AttributeError(msg)
