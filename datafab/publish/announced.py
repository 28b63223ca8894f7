"""What an event says for the message about a file: properties of the message, and the access control of its link.

They are given in ``properties`` of the STAC item, or in an asset, for this asset alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from datafab.errors import FlowError

#: series, issuer, issue number and local identifier (Manual on the WIGOS, attachment 2.1)
_STATION = re.compile(r"\d-\d{1,5}-\d{1,5}-[0-9A-Za-z]{1,16}", re.ASCII)
_HEADING = {"ttaaii": re.compile("[A-Z]{4}[0-9]{2}"), "cccc": re.compile("[A-Z]{4}")}
#: types of security schemes in OpenAPI 3.1
_SCHEMES = ("apiKey", "http", "mutualTLS", "oauth2", "openIdConnect")
MAX_PRODUCER_CHARS = 256


class _Member(NamedTuple):
    """A member of an event that is copied: its test, and the form that is expected."""

    valid: Callable[[Any], bool]
    form: str


def _is_producer(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_PRODUCER_CHARS and value.isprintable()


def _is_station(value: Any) -> bool:
    return isinstance(value, str) and _STATION.fullmatch(value) is not None


def _is_heading(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == _HEADING.keys()
        and all(isinstance(value[name], str) and form.fullmatch(value[name]) for name, form in _HEADING.items())
    )


def _is_security(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(_is_scheme, value.values()))


def _is_scheme(value: Any) -> bool:
    return isinstance(value, dict) and (value.get("type") in _SCHEMES or isinstance(value.get("$ref"), str))


_PROPERTIES = {
    "cache": _Member(lambda value: isinstance(value, bool), "true or false"),
    "producer": _Member(_is_producer, "a name, e.g. the centre-id of the centre that made the data"),
    "wigos_station_identifier": _Member(_is_station, "a WIGOS identifier, e.g. 0-20000-0-07510"),
    "gts": _Member(_is_heading, 'the abbreviated heading, e.g. {"ttaaii": "SMFR01", "cccc": "LFPW"}'),
}
_SECURITY = {
    "security": _Member(_is_security, 'OpenAPI security schemes, e.g. {"default": {"type": "http", "scheme": "basic"}}')
}


def announced_properties(facts: Any, field: str) -> dict[str, Any]:
    """Return the properties of a message that an event gives: cache, producer, wigos_station_identifier and gts.

    Args:
        facts: the properties of the item, or an asset.
        field: path of these facts in the event.

    Raises:
        FlowError: one is not in its form.
    """
    return _members(facts, field, _PROPERTIES)


def announced_security(facts: Any, field: str) -> dict[str, Any] | None:
    """Return the access control of a file that an event gives; None if the file is open.

    Raises:
        FlowError: it holds something else than security schemes.
    """
    found: dict[str, Any] | None = _members(facts, field, _SECURITY).get("security")
    return found


def _members(facts: Any, field: str, members: Mapping[str, _Member]) -> dict[str, Any]:
    given = facts if isinstance(facts, dict) else {}
    found = {name: given[name] for name in members if given.get(name) is not None}
    for name, value in found.items():
        if not members[name].valid(value):
            msg = f"{name} is {value!r}: give {members[name].form}"
            raise FlowError(msg, code="bad_event", field=f"{field}.{name}")
    return found
