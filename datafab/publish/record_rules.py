"""Rules for WCMP2 discovery metadata records (wmo-im/wcmp2) that need none of WMO's tables.

``check_record`` accepts any JSON, so that files of unknown origin can be checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from datafab.publish.finding import Finding
from datafab.publish.geometry import LATITUDE, LONGITUDE
from datafab.publish.rules import Findings, Rule, check_members, links_of, properties_of, run_rules
from datafab.publish.topic import CHANNEL, POLICIES, centre_of, check_topic, is_centre

CONFORMS_TO = "http://wis.wmo.int/spec/wcmp/2/conf/core"
MEMBERS = ("id", "conformsTo", "type", "time", "geometry", "properties", "links")
#: of WMO's code list ``resource-type``
TYPES = ("dataset", "service", "process")
GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")
PUBSUB = ("mqtt:", "mqtts:", "ws:", "wss:")

_ID = re.compile(r"urn:wmo:md:([^:]+):([!-9<-~:]*[!-9<-~])")
_TIMES = re.compile(
    r"\.\.|\d{4}(-\d\d(-\d\d)?)?|(\d{4}-\d\d-\d\d)?T\d\d(:\d\d(:\d\d(\.\d+)?)?)?Z",
)
_CREATED = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_DURATION = re.compile(r"-?P(?=\d|T\d)(\d+Y)?(\d+M)?(\d+[DW])?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")


def check_record(record: Any, *, topic: str | None = None) -> list[Finding]:
    """Return what is wrong with a record.

    Args:
        record: the decoded JSON.
        topic: topic on which it is announced; its centre must be the record's.
    """
    rules: tuple[Rule, ...] = (*RULES, partial(_centre, topic=topic))
    return run_rules(record, rules, rule="C3", fix="give a WCMP2 record")


def is_record(document: Any) -> bool:
    """Tell whether a JSON document is a WCMP2 record, by its ``conformsTo`` and its id."""
    if not isinstance(document, dict):
        return False
    conforms = document.get("conformsTo")
    named = isinstance(conforms, list) and any("/spec/wcmp/" in str(one) for one in conforms)
    return named or str(document.get("id")).startswith("urn:wmo:md:")


def centre_of_record(record: Mapping[str, Any]) -> str | None:
    """Return the centre-id in a record's id."""
    matched = _ID.fullmatch(record["id"]) if isinstance(record.get("id"), str) else None
    return matched[1] if matched else None


def _members(record: dict[str, Any]) -> Findings:
    yield from check_members(record, MEMBERS, rule="C3")


def _identity(record: dict[str, Any]) -> Findings:
    value, centre = record.get("id"), centre_of_record(record)
    if "id" in record and (centre is None or not is_centre(centre)):
        fix = "write urn:wmo:md:<centre-id>:<name>, in ASCII without blanks and semicolons"
        yield Finding(rule="C1", field="id", problem=f"{value!r} is not the id of a record", fix=fix)
    conforms = record.get("conformsTo")
    if "conformsTo" in record and not (isinstance(conforms, list) and CONFORMS_TO in conforms):
        fix = f"add {CONFORMS_TO!r} to the list"
        yield Finding(rule="C2", field="conformsTo", problem=f"it does not name {CONFORMS_TO}", fix=fix)


def _centre(record: dict[str, Any], topic: str | None) -> Findings:
    """Check that the centre of a record is the one of its topic."""
    centre = centre_of_record(record)
    if topic is not None and centre is not None and centre != centre_of(topic):
        fix = f"announce it on {CHANNEL}/a/wis2/{centre}/metadata, or correct its id"
        problem = f"its centre {centre!r} is not that of the topic {topic}"
        yield Finding(rule="C1", field="id", problem=problem, fix=fix)


def _geometry(record: dict[str, Any]) -> Findings:
    geometry = record.get("geometry")
    if geometry is None:
        return
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind not in GEOMETRIES:
        fix = f"give one of {', '.join(GEOMETRIES)}, or null"
        yield Finding(rule="C3", field="geometry.type", problem=f"it is {kind!r}", fix=fix)
        return
    parts = geometry.get("geometries") if kind == "GeometryCollection" else [geometry]
    parts = parts if isinstance(parts, list) else []
    problem = next(filter(None, (_outside(part) for part in parts)), None)
    if problem or not parts:
        fix = "write longitude (-180 to 180), then latitude (-90 to 90), in WGS 84"
        yield Finding(rule="C3", field="geometry.coordinates", problem=problem or "there are none", fix=fix)


def _outside(geometry: Any) -> str | None:
    """Return what is wrong with the positions of a geometry, which must be on Earth."""
    todo = [geometry.get("coordinates") if isinstance(geometry, dict) else None]
    while todo:
        one = todo.pop()
        if not isinstance(one, list) or not one:
            return f"{one!r} is not a list of positions"
        if isinstance(one[0], list):
            todo += one
        elif not _is_position(one):
            return f"{one!r} is not a position on Earth"
    return None


def _is_position(position: list[Any]) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in position)
    return numbers and len(position) in {2, 3} and abs(position[0]) <= LONGITUDE and abs(position[1]) <= LATITUDE


def _time(record: dict[str, Any]) -> Findings:
    time = record.get("time")
    if time is None:
        return
    fix = "give date, timestamp or interval, e.g. {'interval': ['2010-01-01', '..']}, or null"
    if not isinstance(time, dict) or not {"date", "timestamp", "interval", "resolution"} & time.keys():
        yield Finding(rule="C3", field="time", problem=f"it is {time!r}", fix=fix)
        return
    interval = time.get("interval", [".."] * 2)
    values = [time[name] for name in ("date", "timestamp") if name in time]
    values += interval if isinstance(interval, list) and len(interval) == 2 else [interval]  # noqa: PLR2004 - the ends
    for value in values:
        if not (isinstance(value, str) and _TIMES.fullmatch(value)):
            yield Finding(rule="C3", field="time", problem=f"{value!r} is not an ISO 8601 time in UTC", fix=fix)
    resolution = time.get("resolution", "P1D")
    if not (isinstance(resolution, str) and _DURATION.fullmatch(resolution)):
        problem = f"{resolution!r} is not an ISO 8601 duration"
        yield Finding(rule="C3", field="time.resolution", problem=problem, fix="write a duration as P1D or PT6H")


def _texts(record: dict[str, Any]) -> Findings:
    properties = properties_of(record)
    if properties.get("type") not in TYPES:
        problem = f"it is {properties.get('type')!r}"
        yield Finding(rule="C4", field="properties.type", problem=problem, fix=f"use one of {', '.join(TYPES)}")
    for name in ("title", "description"):
        if not _is_text(properties.get(name)):
            yield Finding(rule="C4", field=f"properties.{name}", problem="there is none", fix=f"give a {name}")
    created = properties.get("created")
    if not _is_moment(created):
        fix = "write when the record was made, as 2024-03-28T14:31:00Z"
        yield Finding(rule="C4", field="properties.created", problem=f"{created!r} is not an RFC 3339 time", fix=fix)


def _contacts(record: dict[str, Any]) -> Findings:
    field, fix = "properties.contacts", "give a contact with its organization and roles"
    contacts = properties_of(record).get("contacts")
    if not isinstance(contacts, list) or not contacts:
        yield Finding(rule="C5", field=field, problem="there is none", fix=fix)
        return
    for number, contact in enumerate(contacts):
        known = contact if isinstance(contact, dict) else {}
        if not _is_text(known.get("organization")):
            yield Finding(rule="C5", field=f"{field}[{number}].organization", problem="there is none", fix=fix)
        roles = known.get("roles")
        if not (isinstance(roles, list) and roles and all(_is_text(role) for role in roles)):
            yield Finding(rule="C5", field=f"{field}[{number}].roles", problem="there is none", fix=fix)


def _themes(record: dict[str, Any]) -> Findings:
    field, fix = "properties.themes", "give a theme with its scheme, and concepts with ids"
    themes = properties_of(record).get("themes")
    if not isinstance(themes, list) or not themes:
        yield Finding(rule="C6", field=field, problem="there is none", fix=fix)
        return
    schemes = [str(theme.get("scheme")) for theme in themes if isinstance(theme, dict)]
    for number, theme in enumerate(themes):
        if not _is_theme(theme):
            yield Finding(rule="C6", field=f"{field}[{number}]", problem="it lacks scheme or concepts", fix=fix)
    if properties_of(record).get("type") == "dataset" and not any("earth-system-discipline" in one for one in schemes):
        fix = "add one whose scheme is https://codes.wmo.int/wis/topic-hierarchy/earth-system-discipline"
        yield Finding(rule="C6", field=field, problem="none names an Earth system discipline", fix=fix)


def _is_theme(theme: Any) -> bool:
    concepts = theme.get("concepts") if isinstance(theme, dict) else None
    if not isinstance(concepts, list) or not concepts or not _is_text(theme.get("scheme")):
        return False
    return all(isinstance(concept, dict) and _is_text(concept.get("id")) for concept in concepts)


def _policy(record: dict[str, Any]) -> Findings:
    policy = properties_of(record).get("wmo:dataPolicy")
    if properties_of(record).get("type") == "dataset" and policy not in POLICIES:
        fix = f"write one of {', '.join(POLICIES)}"
        yield Finding(rule="C7", field="properties.wmo:dataPolicy", problem=f"it is {policy!r}", fix=fix)
    if policy == "recommended" and not any(link.get("rel") == "license" for link in links_of(record)):
        problem = "recommended data must say under which conditions they may be used"
        yield Finding(rule="C7", field="links", problem=problem, fix="add a link with the rel 'license'")


def _link_list(record: dict[str, Any]) -> Findings:
    links = record.get("links")
    if isinstance(links, list) and not links:
        yield Finding(rule="C8", field="links", problem="it is empty", fix="link the data, with href and rel")
    for number, link in enumerate(links if isinstance(links, list) else ()):
        field = f"links[{number}]"
        if not (isinstance(link, dict) and _is_text(link.get("href")) and _is_text(link.get("rel"))):
            yield Finding(rule="C8", field=field, problem="it lacks href or rel", fix="give both")
        elif link["href"].startswith(PUBSUB):
            needed = link["href"].startswith("mqtt")
            yield from _channel(link.get("channel"), record, f"{field}.channel", needed=needed)


def _channel(channel: Any, record: dict[str, Any], field: str, *, needed: bool) -> Findings:
    """Check the topic on which the data of a record are announced."""
    if channel is None and not needed:
        return
    if not _is_text(channel):
        yield Finding(rule="C8", field=field, problem="there is none", fix="name the topic of the data")
        return
    levels = channel.split("/")
    if levels[0] not in {CHANNEL, "cache"}:
        return
    for finding in check_topic("/".join([CHANNEL, *levels[1:]]), published=False):
        yield finding.evolve(rule="C8", field=field, problem=f"{channel}: {finding.problem}")
    centre, policy = centre_of_record(record), properties_of(record).get("wmo:dataPolicy")
    if centre is not None and centre_of(channel) != centre:
        problem = f"its centre {centre_of(channel)!r} is not that of the record's id"
        yield Finding(rule="C8", field=field, problem=problem, fix=f"name a topic of {centre}")
    if levels[4:5] == ["data"] and levels[5:6] != [policy]:
        problem = f"its data policy {''.join(levels[5:6])!r} is not the record's, {policy!r}"
        yield Finding(rule="C8", field=field, problem=problem, fix="make wmo:dataPolicy and the channel agree")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_moment(value: Any) -> bool:
    if not isinstance(value, str) or not _CREATED.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value.upper())
    except ValueError:
        return False
    return True


#: The rules that need the record only.
RULES: tuple[Rule, ...] = (
    _members,
    _identity,
    _geometry,
    _time,
    _texts,
    _contacts,
    _themes,
    _policy,
    _link_list,
)
