"""The actions of the sandbox's CKAN, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: (the Sandbox, what was sent) -> ``result``
Action = Callable[[Any, dict[str, Any]], Any]

ACTIONS: dict[str, tuple[Action, bool]] = {}


def action(*, writes: bool) -> Callable[[Action], Action]:
    """Make a function an action; ``writes``: it needs the token, and POST."""

    def added(function: Action) -> Action:
        ACTIONS[function.__name__] = (function, writes)
        return function

    return added
