"""Coverage looks away where no code of ours runs: its tracer takes as long for each line of a library as for ours.

That is while a library is imported, else the start of each measured process costs half as much again; and where the
tests ask for it, see ``tests/plugin.py``. This module is loaded before a process has its path, so it stands beside
``celeryconfig.py``, under a name that nobody else has.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable
from functools import wraps
from importlib.machinery import SourceFileLoader
from itertools import count
from math import inf
from threading import local
from types import ModuleType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
#: what `source` in pyproject.toml names
OURS = {"datafab", "workers", "webhook", "celeryconfig"}


class Away(local):
    """Attribute ``tracer``: that of coverage in this thread, while it looks away because a test asked for it."""

    tracer = None


AWAY = Away()


def unmeasured(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function so that coverage looks away while it runs, but for what is ``measured``."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if (tracer := sys.gettrace()) is None:
            return function(*args, **kwargs)
        AWAY.tracer = tracer
        sys.settrace(None)
        try:
            return function(*args, **kwargs)
        finally:
            AWAY.tracer = None
            sys.settrace(tracer)

    return call


def measured(function: Callable[P, T], times: float = inf) -> Callable[P, T]:
    """Return the function so that coverage looks at its first calls though it looks away from what calls it."""
    calls = count()

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if (tracer := AWAY.tracer) is None or next(calls) >= times:
            return function(*args, **kwargs)
        AWAY.tracer, other = None, sys.gettrace()
        sys.settrace(tracer)
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(other)
            AWAY.tracer = tracer

    return call


def coverage_init(_registry: object, _options: object) -> None:
    """Be a plugin of coverage, which loads it wherever it measures. No library imports code of ours as it begins."""
    whole = SourceFileLoader.exec_module

    def exec_module(loader: SourceFileLoader, module: ModuleType) -> None:
        if module.__name__.partition(".")[0] in OURS:
            measured(whole)(loader, module)
            return
        tracer = sys.gettrace()
        if tracer is None or not loader.path.startswith(LIBRARIES):
            whole(loader, module)
            return
        sys.settrace(None)
        try:
            whole(loader, module)
        finally:
            sys.settrace(tracer)

    SourceFileLoader.exec_module = exec_module
