"""Coverage looks away while a library is imported: else the start of each measured process costs half as much again.

It is loaded before a process has its path, so it stands beside ``celeryconfig.py``, under a name that nobody else has.
"""

from __future__ import annotations

import sys
import sysconfig
from importlib.machinery import SourceFileLoader
from types import ModuleType

LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def coverage_init(_registry: object, _options: object) -> None:
    """Be a plugin of coverage, which loads it wherever it measures. No library imports code of ours as it begins."""
    whole = SourceFileLoader.exec_module

    def exec_module(loader: SourceFileLoader, module: ModuleType) -> None:
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
