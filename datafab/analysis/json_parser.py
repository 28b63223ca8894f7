"""Parse the records of a JSON document one by one, without holding all of them as objects at once."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from datafab.errors import Fatal

_BLANK = re.compile(r"[ \t\n\r]*")
#: Maximum characters of a short record.
_SHORT_RECORD_CHARS = 2**20
_COLLECTION = '"FeatureCollection"'
_decode_value = json.JSONDecoder().raw_decode


def parse_records(text: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a list, of a sequence of objects, or of a GeoJSON feature collection.

    Raises:
        Fatal: ``not_tabular``, the text is none of these; ``bad_json``, it is not valid JSON, which may only show at
                its end.
    """
    try:
        yield from _parse_records(text)
    except (ValueError, RecursionError) as error:
        raise Fatal(f"is JSON that cannot be read ({error}): export it anew", code="bad_json") from error


def _parse_records(text: str) -> Iterator[dict[str, Any]]:
    at = _skip_blanks(text, 0)
    if text[at : at + 1] == "[":
        end = yield from _parse_list(text, at)
    elif _COLLECTION in text and not _starts_with_record(text, at):
        end = yield from _parse_collection(text, at)
    else:
        end = yield from _parse_sequence(text, at)
    if (rest := _skip_blanks(text, end)) < len(text):
        raise json.JSONDecodeError("Extra data", text, rest)


def _skip_blanks(text: str, at: int) -> int:
    """Return the position of the next character that is not blank, or the length of the text."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _starts_with_record(text: str, at: int) -> bool:
    """Tell whether a text begins with a short object that is no feature collection, and so with a record."""
    try:
        value, _ = _decode_value(text[at : at + _SHORT_RECORD_CHARS], 0)
    except ValueError:
        return False
    return not (isinstance(value, dict) and value.get("type") == "FeatureCollection")


def _skip_sign(text: str, at: int, sign: str) -> int:
    """Return the position of the next character after a sign and blanks."""
    at = _skip_blanks(text, at)
    if text[at : at + 1] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, at)
    return _skip_blanks(text, at + 1)


def _parse_array(text: str, at: int) -> Generator[Any, None, int]:
    """Yield the values of an array; return the position of its end."""
    at = _skip_blanks(text, at + 1)
    if text[at : at + 1] == "]":
        return at + 1
    while True:
        value, at = _decode_value(text, at)
        yield value
        at = _skip_blanks(text, at)
        if text[at : at + 1] == "]":
            return at + 1
        at = _skip_sign(text, at, ",")


def _parse_list(text: str, at: int) -> Generator[dict[str, Any], None, int]:
    """Yield the objects of a list; return the position of its end."""
    values = _parse_array(text, at)
    while True:
        try:
            value = next(values)
        except StopIteration as end:
            return int(end.value)
        if not isinstance(value, dict):
            raise _not_tabular()
        yield value


def _parse_sequence(text: str, at: int) -> Generator[dict[str, Any], None, int]:
    """Yield the objects of a sequence; a single object is no table."""
    first = at
    while at < len(text):
        value, end = _decode_value(text, at)
        end = _skip_blanks(text, end)
        if not isinstance(value, dict) or (at == first and end == len(text)):
            raise _not_tabular()
        yield value
        at = end
    return at


def _parse_collection(text: str, at: int) -> Generator[dict[str, Any], None, int]:
    """Yield the features of a collection, at any position among its members."""
    kind, listed = None, False
    at = _skip_blanks(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = _decode_value(text, at)
        at = _skip_sign(text, at, ":")
        if listed and key == "features":
            raise json.JSONDecodeError("A second list of features", text, at)
        if key == "features" and text[at : at + 1] == "[":
            listed = True
            at = yield from _parse_features(text, at)
        else:
            value, at = _decode_value(text, at)
            kind = value if key == "type" else kind
        at = _skip_blanks(text, at)
        if text[at : at + 1] != "}":
            at = _skip_sign(text, at, ",")
    if kind != "FeatureCollection" or not listed:
        raise _not_tabular()
    return at + 1


def _parse_features(text: str, at: int) -> Generator[dict[str, Any], None, int]:
    values = _parse_array(text, at)
    while True:
        try:
            value = next(values)
        except StopIteration as end:
            return int(end.value)
        if isinstance(value, dict):
            yield _flatten_feature(value)


def _flatten_feature(feature: Mapping[str, Any]) -> dict[str, Any]:
    properties = feature.get("properties")
    return (properties if isinstance(properties, dict) else {}) | {"geometry": feature.get("geometry")}


def _not_tabular() -> Fatal:
    msg = "is JSON, but neither a list of records nor a GeoJSON collection: publish a CSV beside it"
    return Fatal(msg, code="not_tabular")
