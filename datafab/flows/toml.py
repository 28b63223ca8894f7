"""Reads ``datafab.toml``: flows of one's own, in the shape of the built-in ones. Every error names its line.

::

    [[flow]]
    name = "communes"
    source = "endpoints"                         # a source stage, or a flow to build on
    stages = ["collect", "analyse", "index"]     # on a flow: what replaces its `then`
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
from datafab.flows.lines import Lines
from datafab.flows.table import Composer
from datafab.store.regularfile import read_regular


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """Something wrong in the file."""

    path: str
    #: from 1; 0: the file as a whole
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}" if self.line else f"{self.path}: {self.message}"


def read(path: Path, known: Mapping[str, Flow]) -> dict[str, Flow]:
    """Return the flows of a file by name.

    Args:
        path: the file.
        known: the built-in flows, whose names are taken and which can be built on.

    Raises:
        SettingError: something is wrong; the text has one line for each fault.
    """
    found, problems = examine(path, known)
    refuse(problems)
    return found


def refuse(problems: Iterable[Problem]) -> None:
    """Raise SettingError with these problems, if there are any."""
    text = "\n".join(map(str, problems))
    if text:
        raise SettingError(text, code="config", field="DATAFAB_CONFIG")


def examine(path: Path, known: Mapping[str, Flow], cron: Cron = str) -> tuple[dict[str, Flow], list[Problem]]:
    """Return the flows of a file that are in order, and everything that is wrong with it, by line.

    Args:
        path: the file.
        known: the built-in flows.
        cron: judges the values of a crontab (Celery does that, and is not known here).
    """
    try:
        text = _text(path)
        parsed = tomllib.loads(text)
    except OSError as error:
        why = f"{error.strerror}; DATAFAB_CONFIG names the file that has the [[flow]] tables"
        return {}, [Problem(str(path), 0, why)]
    except UnicodeDecodeError as error:
        why = f"the byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        return {}, [Problem(str(path), error.object.count(b"\n", 0, error.start) + 1, why)]
    except tomllib.TOMLDecodeError as error:
        return {}, [Problem(str(path), _line(error, text), f"no TOML: {error}")]
    return _examined(path, parsed, Lines.scan(text), known, cron)


def _text(path: Path) -> str:
    return read_regular(path).decode("utf-8-sig")


def _line(error: tomllib.TOMLDecodeError, text: str) -> int:
    at = re.search(r"\(at line (\d+)", str(error))
    return int(at[1]) if at else text.rstrip().count("\n") + 1


def _examined(
    path: Path, parsed: dict[str, Any], lines: Lines, known: Mapping[str, Flow], cron: Cron
) -> tuple[dict[str, Flow], list[Problem]]:
    """Make the flows, table by table: one that is wrong does not stop the others."""
    flows: dict[str, Flow] = {}
    problems = [
        Problem(str(path), lines.of(key), f"{key}: there are [[flow]] tables only; settings are DATAFAB_... variables")
        for key in parsed.keys() - {"flow"}
    ]
    tables = parsed.get("flow", [])
    if not isinstance(tables, list):
        problems.append(Problem(str(path), lines.of("flow"), "flow: write [[flow]], in double brackets"))
        tables = []
    for number, table in enumerate(tables):
        where = f"{path}:{lines.of('flow', number)}"
        composer = Composer(table, {**known, **flows}, path.absolute().parent, where, cron)
        flow = composer.composed()
        if flow:
            flows[flow.name] = flow
        name = f"flow {table['name']!r}" if isinstance(table, dict) and "name" in table else f"flow number {number + 1}"
        for keys, message in composer.faults:
            text = f"{', '.join(filter(None, (name, '.'.join(keys))))}: {message}"
            problems.append(Problem(str(path), lines.of("flow", number, *keys), text))
    return flows, sorted(problems)
