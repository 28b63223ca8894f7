"""The masks of flask-restx, with which a client of udata selects fields: ``data{id,title},total``.

Source: python-restx/flask-restx, ``flask_restx/mask.py``.
"""

from __future__ import annotations

import re
from typing import Any

#: Tokens of a mask; everything else is ignored.
_TOKEN = re.compile(r"[\w:*-]+|[{},]")

#: Masks by name of a field; an empty mask selects everything.
Mask = dict[str, Any]


class Malformed(ValueError):
    """The mask is malformed."""


def masked(value: Any, text: str | None) -> Any:
    """Return the selected fields of a value; missing fields are left out."""
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
    text = text.strip()
    if text.startswith("{"):
        if not text.endswith("}"):
            raise Malformed("Missing closing bracket")
        text = text[1:-1]
    mask: Mask = {}
    open_ones, before = [mask], ""
    for each in _TOKEN.findall(text):
        _take(each, before, open_ones)
        before = each
    if len(open_ones) > 1:
        raise Malformed("Missing closing bracket")
    return mask


def _take(each: str, before: str, open_ones: list[Mask]) -> None:
    """Process the next token in the innermost open bracket."""
    if each == "{":
        if before not in open_ones[-1]:
            raise Malformed("Unexpected opening bracket")
        open_ones.append(open_ones[-1][before])
    elif each == "}":
        if len(open_ones) == 1:
            raise Malformed("Unexpected closing bracket")
        open_ones.pop()
    elif each == ",":
        if before in {",", "{", ""}:
            raise Malformed("Unexpected comma")
    else:
        open_ones[-1][each] = {}
