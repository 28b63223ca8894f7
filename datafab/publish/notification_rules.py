"""Rules for WIS2 notification messages, including those that WMO's test suite does not check.

They need no files and no network. ``check`` accepts any JSON, so that messages of unknown origin can be checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from datafab.publish.event import HASHLIB
from datafab.publish.finding import Finding
from datafab.publish.geometry import check_geometry
from datafab.publish.notification import (
    CONFORMS_TO,
    MAX_CONTENT_BYTES,
    MAX_MESSAGE_BYTES,
    about_metadata,
    encoded,
)
from datafab.publish.rfc3339 import moment
from datafab.publish.rules import Findings, Rule, check_members, links_of, properties_of, run_rules
from datafab.publish.topic import check_topic

MEMBERS = ("id", "type", "geometry", "properties", "links")
SCHEMES = ("http", "https", "ftp", "sftp")
STATES = ("canonical", "update", "deletion")
#: window size for zlib, with the header and the checksum of gzip
GZIP = 16 + zlib.MAX_WBITS
ENCODINGS = ("utf-8", "base64", "gzip")
TIMES = ("datetime", "start_datetime", "end_datetime")


def check(message: Any, *, topic: str | None = None, size: int | None = None) -> list[Finding]:
    """Return what is wrong with a message.

    Args:
        message: the decoded JSON.
        topic: topic on which it is published; checked as well.
        size: size of the message as sent, in bytes; None: as datafab would send it.
    """
    rules: tuple[Rule, ...] = (partial(_size, size=size), *RULES, partial(_about, topic=topic))
    found = run_rules(message, rules, rule="W2", fix="give a GeoJSON feature")
    return [*found, *(check_topic(topic) if topic and isinstance(message, dict) else ())]


def _size(message: dict[str, Any], size: int | None) -> Findings:
    try:
        size = len(encoded(message)) if size is None else size
    except ValueError as error:
        fix = "write JSON by RFC 8259, without NaN, Infinity and halves of surrogate pairs"
        yield Finding(rule="W2", field="", problem=f"it cannot be written as JSON: {error}", fix=fix)
        return
    if size > MAX_MESSAGE_BYTES:
        fix = f"send at most {MAX_MESSAGE_BYTES}: leave out properties.content or simplify the geometry"
        yield Finding(rule="W1", field="", problem=f"the message has {size} bytes", fix=fix)


def _members(message: dict[str, Any]) -> Findings:
    yield from check_members(message, MEMBERS, rule="W2")
    data_id = properties_of(message).get("data_id")
    if not isinstance(data_id, str) or not data_id.strip():
        fix = "name the file: topic without channel and version, and its path"
        yield Finding(rule="W11", field="properties.data_id", problem="there is none", fix=fix)


def _identity(message: dict[str, Any]) -> Findings:
    value = message.get("id")
    try:
        good = isinstance(value, str) and str(UUID(value)) == value.lower()
    except ValueError:
        good = False
    if "id" in message and not good:
        fix = "give each message a UUID of its own, and keep it when it is sent again"
        yield Finding(rule="W3", field="id", problem=f"{value!r} is not a UUID", fix=fix)


def _conformance(message: dict[str, Any]) -> Findings:
    conforms, version = message.get("conformsTo"), message.get("version")
    if version is not None:
        problem = "both conformsTo and version" if conforms is not None else "version, which is deprecated"
        fix = f"leave version out and write conformsTo: [{CONFORMS_TO!r}]"
        yield Finding(rule="W5", field="version", problem=f"it has {problem}", fix=fix)
    if not isinstance(conforms, list) or CONFORMS_TO not in conforms:
        problem = f"it does not name {CONFORMS_TO}"
        yield Finding(rule="W4", field="conformsTo", problem=problem, fix=f"add {CONFORMS_TO!r} to the list")


def _cache(message: dict[str, Any]) -> Findings:
    value = properties_of(message).get("cache", True)
    if not isinstance(value, bool):
        fix = "write true or false, or leave it out"
        yield Finding(rule="W16", field="properties.cache", problem=f"it is {value!r}", fix=fix)


def _pubtime(message: dict[str, Any]) -> Findings:
    value = properties_of(message).get("pubtime")
    field, fix = "properties.pubtime", "write the time of publication in UTC, as 2025-03-28T14:31:00Z"
    if value is None:
        yield Finding(rule="W8", field=field, problem="there is none", fix=fix)
    elif not _is_time(value):
        yield Finding(rule="W9", field=field, problem=f"{value!r} is not an RFC 3339 time in UTC", fix=fix)


def _times(message: dict[str, Any]) -> Findings:
    properties = properties_of(message)
    given = {name: properties[name] for name in TIMES if name in properties}
    if set(given) not in ({"datetime"}, {"start_datetime", "end_datetime"}):
        fix = "give datetime (null when unknown), or start_datetime and end_datetime"
        problem = f"it has {' and '.join(given) or 'no time of the data'}"
        yield Finding(rule="W14", field="properties.datetime", problem=problem, fix=fix)
    for name, value in given.items():
        if not (_is_time(value) or (name == "datetime" and value is None)):
            fix = "write UTC, as 2025-03-28T14:31:00Z" + (", or null when unknown" if name == "datetime" else "")
            problem = f"{value!r} is not an RFC 3339 time in UTC"
            yield Finding(rule="W15", field=f"properties.{name}", problem=problem, fix=fix)
    start, end = moment(given.get("start_datetime")), moment(given.get("end_datetime"))
    if start is not None and end is not None and start[:2] > end[:2]:
        problem = f"it begins at {given['start_datetime']} and ends at {given['end_datetime']}"
        yield Finding(rule="W14", field="properties.start_datetime", problem=problem, fix="swap the two")


def _integrity(message: dict[str, Any]) -> Findings:
    integrity = properties_of(message).get("integrity")
    if integrity is None:
        if "deletion" not in _states(message):
            fix = "give sha256 and the digest in base64, so that caches can check the file"
            yield Finding(rule="W17", field="properties.integrity", problem="there is none", fix=fix, level="advice")
        return
    method, value = (integrity.get("method"), integrity.get("value")) if isinstance(integrity, dict) else (None, None)
    if not isinstance(method, str) or method not in HASHLIB:
        fix = f"use one of {', '.join(HASHLIB)}"
        yield Finding(rule="W17", field="properties.integrity.method", problem=f"it is {method!r}", fix=fix)
        return
    problem = _digest(value, hashlib.new(HASHLIB[method]).digest_size)
    if problem:
        fix = f"encode the {method} digest's bytes in base64, not its hex digits"
        yield Finding(rule="W17", field="properties.integrity.value", problem=problem, fix=fix)


def _digest(value: Any, size: int) -> str | None:
    """Return what is wrong with a digest in base64 that must have ``size`` bytes."""
    raw = _decoded(value)
    if raw is None:
        return f"{value!r} is not base64"
    if len(raw) != size:
        kind = "hex digits" if re.fullmatch(rf"[0-9a-fA-F]{{{size * 2}}}", value) else f"{len(raw)} bytes"
        return f"it holds {kind}, not the {size} bytes of this method"
    return None


def _content(message: dict[str, Any]) -> Findings:
    inline = properties_of(message).get("content")
    if inline is None:
        return
    field = "properties.content"
    encoding, value = (inline.get("encoding"), inline.get("value")) if isinstance(inline, dict) else (None, None)
    if encoding not in ENCODINGS or not isinstance(value, str):
        fix = "give encoding (utf-8, base64 or gzip), value and size"
        yield Finding(rule="W18", field=field, problem=f"encoding {encoding!r} or no value", fix=fix)
        return
    if len(value.encode(errors="replace")) > MAX_CONTENT_BYTES:
        fix = f"inline only what has at most {MAX_CONTENT_BYTES} bytes when encoded; else leave it out"
        problem = f"it has {len(value.encode(errors='replace'))} bytes"
        yield Finding(rule="W18", field=f"{field}.value", problem=problem, fix=fix)
        return
    data = _inlined(encoding, value)
    if data is None:
        problem = f"it is not the base64 that {encoding} asks for, or not whole"
        fix = "encode the bytes in base64, those of gzip after compressing them"
        yield Finding(rule="W18", field=f"{field}.value", problem=problem, fix=fix)
    else:
        yield from _same_file(message, inline.get("size"), data)


def _inlined(encoding: str, value: str) -> bytes | None:
    """Decode the inlined file, up to one byte more than is allowed; return None if it cannot be decoded."""
    if encoding == "utf-8":
        return value.encode(errors="replace")
    raw = b"" if value == "" else _decoded(value)
    if raw is None or encoding == "base64":
        return raw
    return _unzipped(raw)


def _unzipped(raw: bytes) -> bytes | None:
    """Unpack a gzip file, which may have several members (RFC 1952, 2.2)."""
    data = b""
    while len(data) <= MAX_CONTENT_BYTES:
        stream = zlib.decompressobj(wbits=GZIP)
        try:
            data += stream.decompress(raw, MAX_CONTENT_BYTES + 1 - len(data))
        except zlib.error:
            return None
        if not stream.eof:
            return data if len(data) > MAX_CONTENT_BYTES else None
        raw = stream.unused_data
        if not raw:
            break
    return data


def _same_file(message: dict[str, Any], size: Any, data: bytes) -> Findings:
    """Check that size, integrity and link describe the inlined file."""
    field, count = "properties.content.size", "more than 4096" if len(data) > MAX_CONTENT_BYTES else str(len(data))
    if not _is_count(size) or str(size) != count:
        fix = f"give the bytes of the file as it is, {MAX_CONTENT_BYTES} at most"
        yield Finding(rule="W18", field=field, problem=f"it is {size!r}, the content has {count} bytes", fix=fix)
        return
    integrity = properties_of(message).get("integrity")
    method, value = (integrity.get("method"), integrity.get("value")) if isinstance(integrity, dict) else (None, None)
    if isinstance(method, str) and method in HASHLIB:
        digest = hashlib.new(HASHLIB[method], data).digest()
        stated = _decoded(value)
        if stated is not None and len(stated) == len(digest) and stated != digest:
            problem, fix = "it is the digest of other bytes than the content's", "make it from the same file"
            yield Finding(rule="W17", field="properties.integrity.value", problem=problem, fix=fix)
    for number, link in enumerate(message["links"] if isinstance(message.get("links"), list) else ()):
        length = link.get("length") if isinstance(link, dict) and link.get("rel") in ("canonical", "update") else None
        if _is_count(length) and length != len(data):
            problem, fix = f"it is {length}, the content has {len(data)} bytes", "link the file that is inlined"
            yield Finding(rule="W18", field=f"links[{number}].length", problem=problem, fix=fix)


def _hrefs(message: dict[str, Any]) -> Findings:
    links = message.get("links")
    if isinstance(links, list) and not links:
        yield Finding(rule="W19", field="links", problem="it is empty", fix="link the file, with href and rel")
    for number, link in enumerate(links if isinstance(links, list) else ()):
        field = f"links[{number}]"
        if not (isinstance(link, dict) and isinstance(link.get("href"), str) and isinstance(link.get("rel"), str)):
            yield Finding(rule="W19", field=field, problem="it lacks href or rel", fix="give both")
        elif not _downloadable(link["href"]):
            fix = f"give a whole URL with {', '.join(SCHEMES)}"
            problem = f"{link['href']!r} is not a URL to download from"
            yield Finding(rule="W20", field=f"{field}.href", problem=problem, fix=fix)
        if isinstance(link, dict) and not _is_count(link.get("length", 0)):
            problem, fix = f"{link['length']!r} is not a number of bytes", "give the size of the file, or leave it out"
            yield Finding(rule="W23", field=f"{field}.length", problem=problem, fix=fix)


def _state(message: dict[str, Any]) -> Findings:
    states = _states(message)
    if len(states) != 1:
        problem = f"it has {len(states)}: {', '.join(states) or 'none of ' + ', '.join(STATES)}"
        fix = f"keep exactly one link with a rel of {', '.join(STATES)} in the whole message"
        yield Finding(rule="W21", field="links", problem=problem, fix=fix)


def _about(message: dict[str, Any], topic: str | None) -> Findings:
    """Check the rules that depend on the topic: data or metadata, and the data policy."""
    metadata = about_metadata(message, topic)
    field, fix = "properties.metadata_id", "give the id of the dataset's WCMP2 record, urn:wmo:md:…"
    record = properties_of(message).get("metadata_id")
    if record and not isinstance(record, str):
        yield Finding(rule="W12", field=field, problem=f"{record!r} is not a text", fix=fix)
    if not record:
        if metadata and "deletion" in _states(message):
            problem = "a deletion of metadata must say which record"
            yield Finding(rule="W13", field=field, problem=problem, fix=fix)
        else:
            yield Finding(rule="W12", field=field, problem="there is none", fix=fix, level="advice")
    policy = (topic or "").split("/")[5:6]
    for number, link in enumerate(links_of(message)):
        if policy == ["core"] and link.get("rel") in ("canonical", "update") and link.get("security"):
            fix = "open it to everybody, or publish it as recommended data"
            problem = "core data must be downloadable without further action"
            yield Finding(rule="W20", field=f"links[{number}].security", problem=problem, fix=fix)


def _states(message: Mapping[str, Any]) -> list[str]:
    return [link["rel"] for link in links_of(message) if link.get("rel") in STATES]


def _is_time(value: Any) -> bool:
    read = moment(value)
    return read is not None and read.zulu


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _decoded(value: Any) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) and value else None
    except (binascii.Error, ValueError):
        return None


def _downloadable(href: str) -> bool:
    try:
        parts = urlsplit(href)
        return parts.scheme in SCHEMES and bool(parts.hostname) and not re.search(r"\s", href)
    except ValueError:
        return False


#: The rules that need the message only.
RULES: tuple[Rule, ...] = (
    _members,
    _identity,
    _conformance,
    check_geometry,
    _cache,
    _pubtime,
    _times,
    _integrity,
    _content,
    _hrefs,
    _state,
)
