"""The caller for whom a job is enqueued: the holder of a token, or a program of this host."""

from __future__ import annotations

from dataclasses import dataclass

from datafab.core.roles import Role

#: Name of the programs of this host where there are no tokens.
LOCALHOST = "localhost"
#: Name of callers without a token, who may read if ``DATAFAB_ANONYMOUS`` lets them.
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: the token's, ``LOCALHOST`` or ``ANONYMOUS``.
        role: its permissions.
        limit: the largest number of its jobs that run at the same time; None: no limit.
    """

    name: str
    role: Role
    limit: int | None = None
