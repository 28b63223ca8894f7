"""The actions of the sandbox's CKAN, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: A function of the Sandbox and the request's parameters that returns ``result``.
Action = Callable[[Any, dict[str, Any]], Any]

ACTIONS: dict[str, tuple[Action, bool]] = {}


def action(*, writes: bool) -> Callable[[Action], Action]:
    """Register a function as an action; if it ``writes``, it needs the token and POST."""

    def register(function: Action) -> Action:
        ACTIONS[function.__name__] = (function, writes)
        return function

    return register
