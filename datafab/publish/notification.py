"""WIS2 notification messages (WNM 1). ``notification_rules`` checks them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from datafab.core.item import Value
from datafab.publish.data_id import data_id
from datafab.publish.topic import is_metadata

__all__ = ["MessageIdentity", "Rel", "Subject", "about_metadata", "content", "data_id", "encoded", "message", "pubtime"]

CONFORMS_TO = "http://wis.wmo.int/spec/wnm/1/conf/core"
#: largest message
MAX_MESSAGE_BYTES = 8192
#: largest file that may be inlined into its message, before and after encoding
MAX_CONTENT_BYTES = 4096

Rel = Literal["canonical", "update", "deletion"]


class MessageIdentity(Value):
    """The identity of a message: decided once, and equal each time that the message is sent.

    Attributes:
        id: id of the message, a UUID.
        pubtime: time of publication, RFC 3339 in UTC.
        rel: whether the message announces a new, an updated or a deleted file.
    """

    id: str
    pubtime: str
    rel: Rel = "canonical"


class Subject(Value):
    """The file that a message announces.

    Attributes:
        sha256: digest of the file, hex.
        size: size of the file in bytes.
        times: ``datetime``, or ``start_datetime`` and ``end_datetime``; empty if unknown.
        properties: further properties of the message: cache, producer, wigos_station_identifier, gts.
        security: OpenAPI security schemes, if the file is not open.
    """

    data_id: str
    href: str
    metadata_id: str | None = None
    sha256: str | None = None
    size: int | None = None
    media_type: str | None = None
    geometry: dict[str, Any] | None = None
    times: dict[str, str | None] = Field(default_factory=dict)
    properties: dict[str, Any] = Field(default_factory=dict)
    security: dict[str, Any] | None = None


def pubtime(now: float) -> str:
    """Format a Unix time for a message, with milliseconds."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message(identity: MessageIdentity, subject: Subject, data: bytes | None = None) -> dict[str, Any]:
    """Return a message.

    Args:
        identity: identity of the message.
        subject: the file that it announces.
        data: content of the file, if it may be inlined; left out if it does not fit.
    """
    properties: dict[str, Any] = {"data_id": subject.data_id}
    if subject.metadata_id:
        properties["metadata_id"] = subject.metadata_id
    properties["pubtime"] = identity.pubtime
    if identity.rel != "deletion" and subject.sha256:
        properties["integrity"] = {"method": "sha256", "value": _base64(bytes.fromhex(subject.sha256))}
    properties |= subject.times or {"datetime": None}
    properties |= subject.properties
    made = {
        "id": identity.id,
        "conformsTo": [CONFORMS_TO],
        "type": "Feature",
        "geometry": subject.geometry,
        "properties": properties,
        "links": [_link(identity.rel, subject)],
    }
    return _with_content(made, data) if data is not None and identity.rel != "deletion" else made


def encoded(made: Mapping[str, Any]) -> bytes:
    """Encode a message for sending."""
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def content(data: bytes) -> dict[str, Any] | None:
    """Return the member ``content`` for a file; None if the file is too large."""
    if len(data) > MAX_CONTENT_BYTES:  # the schema limits the size of the file as well
        return None
    encoding, value = _value(data)
    if len(value.encode()) > MAX_CONTENT_BYTES:
        encoding, value = "gzip", _base64(gzip.compress(data, mtime=0))
    if len(value) > MAX_CONTENT_BYTES:
        return None
    return {"encoding": encoding, "value": value, "size": len(data)}


def about_metadata(made: Mapping[str, Any], topic: str | None) -> bool:
    """Tell whether a message announces a metadata record, by its topic, else by the topic in its data_id."""
    if topic:
        return is_metadata(topic)
    properties = made.get("properties")
    name = properties.get("data_id") if isinstance(properties, dict) else None
    return isinstance(name, str) and name.split("/")[2:3] == ["metadata"]


def _value(data: bytes) -> tuple[str, str]:
    try:
        return "utf-8", data.decode()
    except UnicodeDecodeError:
        return "base64", _base64(data)


def _with_content(made: dict[str, Any], data: bytes) -> dict[str, Any]:
    inline = content(data)
    if inline is None:
        return made
    larger = made | {"properties": made["properties"] | {"content": inline}}
    return larger if len(encoded(larger)) <= MAX_MESSAGE_BYTES else made


def _link(rel: Rel, subject: Subject) -> dict[str, Any]:
    link: dict[str, Any] = {"href": subject.href, "rel": rel}
    if subject.media_type:
        link["type"] = subject.media_type
    if subject.size is not None and rel != "deletion":
        link["length"] = subject.size
    if subject.security:
        link["security"] = subject.security
    return link


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
