"""Read the flows of ``datafab.toml``, which have the form of the built-in ones. Every error names its line.

::

    [[flow]]
    name = "communes"
    source = "endpoints"                         # a source stage, or a flow to build on
    stages = ["collect", "analyse", "index"]     # if `source` is a flow: replaces its `then`
    schedule = "0 6 * * 1-5"                     # a crontab, in the time zone of DATAFAB_TIMEZONE
    with = { endpoints = "endpoint.csv", collection = "collection" }
    when = { analyse = "media_type = 'text/csv'" }
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datafab.core.flow import Flow
from datafab.errors import SettingError
from datafab.flows.crontab import Cron
from datafab.flows.lines import KeyLines
from datafab.flows.table import FlowBuilder
from datafab.store.regularfile import read_regular


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """An error in the file."""

    path: str
    #: counted from 1; 0: the file as a whole
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" if self.line else f"{self.path}: {self.message}"


def read(path: Path, known: Mapping[str, Flow]) -> dict[str, Flow]:
    """Return the flows of a file by name.

    Args:
        path: the file.
        known: the built-in flows, which flows of the file can build on, and whose names are taken.

    Raises:
        SettingError: the file has errors; the message has one line for each.
    """
    found, problems = examine(path, known)
    refuse(problems)
    return found


def refuse(problems: Iterable[Problem]) -> None:
    """Raise SettingError if there are problems; its message lists them."""
    text = "\n".join(map(str, problems))
    if text:
        raise SettingError(text, code="config", field="DATAFAB_CONFIG")


def examine(path: Path, known: Mapping[str, Flow], cron: Cron = str) -> tuple[dict[str, Flow], list[Problem]]:
    """Return the valid flows of a file, and its problems, sorted by line.

    Args:
        path: the file.
        known: the built-in flows.
        cron: reads a crontab and raises ValueError; passed in because only Celery's own reader knows which values are
            valid, and this package does not import Celery.
    """
    try:
        text = _read_text(path)
        parsed = tomllib.loads(text)
    except OSError as error:
        reason = f"{error.strerror}; DATAFAB_CONFIG names the file that has the [[flow]] tables"
        return {}, [Problem(str(path), 0, reason)]
    except UnicodeDecodeError as error:
        reason = f"the byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        return {}, [Problem(str(path), error.object.count(b"\n", 0, error.start) + 1, reason)]
    except tomllib.TOMLDecodeError as error:
        return {}, [Problem(str(path), _error_line(error, text), f"not valid TOML: {error}")]
    return _build_flows(path, parsed, KeyLines.scan(text), known, cron)


def _read_text(path: Path) -> str:
    return read_regular(path).decode("utf-8-sig")


def _error_line(error: tomllib.TOMLDecodeError, text: str) -> int:
    at = re.search(r"\(at line (\d+)", str(error))
    return int(at[1]) if at else text.rstrip().count("\n") + 1


def _build_flows(
    path: Path, parsed: dict[str, Any], lines: KeyLines, known: Mapping[str, Flow], cron: Cron
) -> tuple[dict[str, Flow], list[Problem]]:
    """Build the flows table by table: an invalid one does not keep the others out."""
    flows: dict[str, Flow] = {}
    problems = [
        Problem(
            str(path), lines.of(key), f"{key}: only [[flow]] tables are allowed; settings are DATAFAB_... variables"
        )
        for key in parsed.keys() - {"flow"}
    ]
    tables = parsed.get("flow", [])
    if not isinstance(tables, list):
        problems.append(Problem(str(path), lines.of("flow"), "flow: write [[flow]] with double brackets"))
        tables = []
    for number, table in enumerate(tables):
        where = f"{path}:{lines.of('flow', number)}"
        builder = FlowBuilder(table, {**known, **flows}, path.absolute().parent, where, cron)
        flow = builder.build()
        if flow:
            flows[flow.name] = flow
        name = f"flow {table['name']!r}" if isinstance(table, dict) and "name" in table else f"flow number {number + 1}"
        for keys, message in builder.faults:
            text = f"{', '.join(filter(None, (name, '.'.join(keys))))}: {message}"
            problems.append(Problem(str(path), lines.of("flow", number, *keys), text))
    return flows, sorted(problems)
