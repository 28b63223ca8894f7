"""The roles of callers over HTTP: each may do what the one before it may, and more."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a caller may do, the least first."""

    #: read jobs, sources, the index and metrics
    VIEWER = "viewer"
    #: also enqueue, retry and cancel jobs, and check URLs
    OPERATOR = "operator"
    #: also manage tokens, and withdraw documents from the index
    ADMIN = "admin"

    def includes(self, needed: Role) -> bool:
        """Return whether this role may do what ``needed`` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)
