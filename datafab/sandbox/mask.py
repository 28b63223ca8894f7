"""The masks of flask-restx, by which a client of udata says which fields it wants: ``data{id,title},total``."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(r"\s*([A-Za-z0-9_*-]+|[{},])")

#: Name of a field -> what is wanted of it; an empty one: all.
Mask = dict[str, Any]


class Malformed(ValueError):
    """The mask cannot be read."""


def masked(value: Any, text: str | None) -> Any:
    """Return of a value what a mask asks for; fields that there are not are left out."""
    return value if not text else _apply(value, _parse(text))


def _apply(value: Any, mask: Mask) -> Any:
    if not mask or value is None:
        return value
    if isinstance(value, list):
        return [_apply(each, mask) for each in value]
    if not isinstance(value, dict):
        return value
    rest = value if "*" in mask else {}
    return rest | {name: _apply(value[name], inner) for name, inner in mask.items() if name in value}


def _parse(text: str) -> Mask:
    tokens = _tokens(text)
    if tokens[:1] == ["{"]:
        tokens = tokens[1:-1] if tokens[-1] == "}" else tokens
    mask, rest = _fields(tokens)
    if rest:
        msg = f"Unexpected {rest[0]!r} in the mask"
        raise Malformed(msg)
    return mask


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            msg = f"Unexpected {text[at:]!r} in the mask"
            raise Malformed(msg)
        found.append(match[1])
        at = match.end()
    return found


def _fields(tokens: list[str]) -> tuple[Mask, list[str]]:
    """Read fields separated by commas; return them, and what follows."""
    mask: Mask = {}
    while tokens and tokens[0] not in "{},":
        name, tokens = tokens[0], tokens[1:]
        mask[name] = {}
        if tokens[:1] == ["{"]:
            mask[name], tokens = _fields(tokens[1:])
            if tokens[:1] != ["}"]:
                msg = f"Missing closing bracket after {name}"
                raise Malformed(msg)
            tokens = tokens[1:]
        if tokens[:1] == [","]:
            tokens = tokens[1:]
    return mask, tokens
