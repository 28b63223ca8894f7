"""Records in a JSON document, one after the other: never all of them as objects at once."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from datafab.errors import Fatal

_BLANK = re.compile(r"[ \t\n\r]*")
#: Characters of a record that is short.
_SHORT = 2**20
_COLLECTION = '"FeatureCollection"'
_VALUE = json.JSONDecoder().raw_decode


def rows(text: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a list, of a text with one after the other, or the features of a GeoJSON collection.

    Raises:
        Fatal: ``not_tabular``, it is none of these; ``bad_json``, it is no JSON, at its end at the latest.
    """
    try:
        yield from _rows(text)
    except (ValueError, RecursionError) as error:
        raise Fatal(f"is JSON that cannot be read ({error}): export it anew", code="bad_json") from error


def _rows(text: str) -> Iterator[dict[str, Any]]:
    at = _next(text, 0)
    if text[at : at + 1] == "[":
        end = yield from _records(text, at)
    elif _COLLECTION in text and not _small(text, at):
        end = yield from _features(text, at)
    else:
        end = yield from _lines(text, at)
    if (rest := _next(text, end)) < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _next(text: str, at: int) -> int:
    """Return where the next thing stands, or the length of the text."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _small(text: str, at: int) -> bool:
    """Tell whether a text begins with an object that is short and no collection: a record."""
    try:
        value, _ = _VALUE(text[at : at + _SHORT], 0)
    except ValueError:
        return False
    return not (isinstance(value, dict) and value.get("type") == "FeatureCollection")


def _behind(text: str, at: int, sign: str) -> int:
    """Return where the next thing behind a sign stands."""
    at = _next(text, at)
    if text[at : at + 1] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, at)
    return _next(text, at + 1)


def _array(text: str, at: int) -> Generator[Any, None, int]:
    """Yield what an array holds; return where it ends."""
    at = _next(text, at + 1)
    if text[at : at + 1] == "]":
        return at + 1
    while True:
        value, at = _VALUE(text, at)
        yield value
        at = _next(text, at)
        if text[at : at + 1] == "]":
            return at + 1
        at = _behind(text, at, ",")


def _records(text: str, at: int) -> Generator[dict[str, Any], None, int]:
    """Yield the objects of a list."""
    values = _array(text, at)
    while True:
        try:
            value = next(values)
        except StopIteration as end:
            return int(end.value)
        if not isinstance(value, dict):
            raise _no_table()
        yield value


def _lines(text: str, at: int) -> Generator[dict[str, Any], None, int]:
    """Yield objects that stand one after the other; one alone is no table."""
    first = at
    while at < len(text):
        value, end = _VALUE(text, at)
        end = _next(text, end)
        if not isinstance(value, dict) or (at == first and end == len(text)):
            raise _no_table()
        yield value
        at = end
    return at


def _features(text: str, at: int) -> Generator[dict[str, Any], None, int]:
    """Yield the features of a collection, wherever in it they stand."""
    kind, listed = None, False
    at = _next(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = _VALUE(text, at)
        at = _behind(text, at, ":")
        if listed and key == "features":
            raise json.JSONDecodeError("A second list of features", text, at)
        if key == "features" and text[at : at + 1] == "[":
            listed = True
            at = yield from _of_features(text, at)
        else:
            value, at = _VALUE(text, at)
            kind = value if key == "type" else kind
        at = _next(text, at)
        if text[at : at + 1] != "}":
            at = _behind(text, at, ",")
    if kind != "FeatureCollection" or not listed:
        raise _no_table()
    return at + 1


def _of_features(text: str, at: int) -> Generator[dict[str, Any], None, int]:
    values = _array(text, at)
    while True:
        try:
            value = next(values)
        except StopIteration as end:
            return int(end.value)
        if isinstance(value, dict):
            yield _feature(value)


def _feature(feature: Mapping[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    return (properties if isinstance(properties, dict) else {}) | {"geometry": feature.get("geometry")}


def _no_table() -> Fatal:
    msg = "is JSON, but neither a list of records nor a GeoJSON collection: publish a CSV beside it"
    return Fatal(msg, code="not_tabular")
