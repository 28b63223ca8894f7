"""docker-compose.yml, read as Compose reads it, for tests that have no engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Z_a-z][A-Z_a-z0-9]*)(?::(?P<how>[-?])(?P<text>[^}]*))?\})")


class Unset(ValueError):
    """A variable has to be set."""


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """Return a value of the file with ``${NAME}``, ``${NAME:-else}``, ``${NAME:?why}`` and ``$$`` replaced."""
    if isinstance(value, dict):
        return {name: interpolated(part, variables) for name, part in value.items()}
    if isinstance(value, list):
        return [interpolated(part, variables) for part in value]
    if not isinstance(value, str):
        return value
    # What is no variable is a mistake: Compose refuses the file.
    assert "$" not in _VARIABLE.sub("", value), value
    return _VARIABLE.sub(lambda found: _value(found, variables), value)


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    if value := variables.get(found["name"]):
        return value
    if found["how"] == "-":
        return found["text"]
    raise Unset(f"{found['name']}: {found['text']}")


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with these variables."""
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return interpolated({name: part for name, part in document.items() if not name.startswith("x-")}, variables)


def variables() -> dict[str, str]:
    """Return what the example of ``.env`` sets, with the passwords that it leaves to be chosen."""
    lines = (ROOT / "deploy" / "env.example").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return given | {"FLOWER_BASIC_AUTH": "operator:of the tests", "DATAFAB_INDEX_PASSWORD": "of the tests too"}
