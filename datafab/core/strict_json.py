"""A strict parser of JSON (RFC 8259): it refuses extensions of Python's parser, which others parse differently."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

#: Levels of brackets within brackets. Pydantic reads no more either; writers of JSON give up somewhat later.
MAX_DEPTH = 200
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(data: bytes) -> Any:
    """Decode a JSON text.

    Raises:
        ValueError: it is not UTF-8 or not JSON, has a member twice in an object, NaN, Infinity, a number beyond the
            range of a double or half of a surrogate pair, or is nested too deeply.
    """
    text = data.decode()
    try:
        document = json.loads(text, parse_constant=_no_number, parse_float=_float, object_pairs_hook=_object)
        if _SURROGATE.search(text):
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        msg = f"half of a surrogate pair, {error.object[error.start]!a}, is not a character"
        raise ValueError(msg) from error
    except RecursionError as error:
        raise _too_deep() from error
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(document)
    return document


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [inner for one in level for inner in _members(one) if isinstance(inner, dict | list)]
    if level:
        raise _too_deep()


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep() -> ValueError:
    return ValueError(f"its brackets are nested too deeply: more than {MAX_DEPTH} levels")


def _no_number(name: str) -> NoReturn:
    msg = f"{name} is not a number in JSON"
    raise ValueError(msg)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        msg = f"the number {text[:40]} is beyond the range of a double"
        raise ValueError(msg)
    return number


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"an object has the member {twice!r} twice"
        raise ValueError(msg)
    return made
