"""Logging: a JSON object per line in services, readable text on a terminal. It includes the standard library's logs."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from datafab.urls import hide_all_secrets


def _hide_secrets(_logger: Any, _name: str, event: EventDict) -> EventDict:
    """Hide the secrets of URLs in a line, tracebacks included (a structlog processor)."""
    return {name: value if name.startswith("_") else _shown(value) for name, value in event.items()}


def _shown(value: Any) -> Any:
    """Return a value as it is rendered: an exception or path by its ``repr``, which may hold a URL, too."""
    plain = value is None or isinstance(value, str | int | float | dict | list | tuple)
    return hide_all_secrets(value if plain else repr(value))


def configure(level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging for this process."""
    out = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if out.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=number, force=True)
