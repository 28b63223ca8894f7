"""WIS2 notification messages (WNM 1): made here, checked in ``notification_rules``."""

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

__all__ = ["Frozen", "Rel", "Subject", "about_metadata", "content", "data_id", "encoded", "message", "pubtime"]

CONFORMS_TO = "http://wis.wmo.int/spec/wnm/1/conf/core"
#: bytes of a whole message, as sent
MAX_MESSAGE_BYTES = 8192
#: bytes of a file that may stand in its message, as it is and as it is encoded
MAX_CONTENT = 4096

Rel = Literal["canonical", "update", "deletion"]


class Frozen(Value):
    """What is decided once per publication and never again, whoever sends it how often.

    Attributes:
        id: of the message, a UUID.
        pubtime: RFC 3339, UTC.
        rel: what the message says of its file.
    """

    id: str
    pubtime: str
    rel: Rel = "canonical"


class Subject(Value):
    """What a message is about.

    Attributes:
        sha256: of the file, hex.
        size: bytes.
        times: ``datetime``, or ``start_datetime`` and ``end_datetime``; empty when unknown.
        security: an OpenAPI security scheme, where the file is not open.
    """

    data_id: str
    href: str
    metadata_id: str | None = None
    sha256: str | None = None
    size: int | None = None
    media_type: str | None = None
    geometry: dict[str, Any] | None = None
    times: dict[str, str | None] = Field(default_factory=dict)
    security: dict[str, Any] | None = None


def pubtime(now: float) -> str:
    """Return a Unix time as the message has it, to the millisecond."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message(frozen: Frozen, subject: Subject, data: bytes | None = None) -> dict[str, Any]:
    """Make a message.

    Args:
        frozen: its identity: the same for each time it is sent.
        subject: its file.
        data: the file's bytes, if it may stand in the message; left out when it does not fit.
    """
    properties: dict[str, Any] = {"data_id": subject.data_id}
    if subject.metadata_id:
        properties["metadata_id"] = subject.metadata_id
    properties["pubtime"] = frozen.pubtime
    if frozen.rel != "deletion" and subject.sha256:
        properties["integrity"] = {"method": "sha256", "value": _base64(bytes.fromhex(subject.sha256))}
    properties |= subject.times or {"datetime": None}
    made = {
        "id": frozen.id,
        "conformsTo": [CONFORMS_TO],
        "type": "Feature",
        "geometry": subject.geometry,
        "properties": properties,
        "links": [_link(frozen.rel, subject)],
    }
    return _with_content(made, data) if data is not None and frozen.rel != "deletion" else made


def encoded(made: Mapping[str, Any]) -> bytes:
    """Return a message as it is sent."""
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def content(data: bytes) -> dict[str, Any] | None:
    """Return a file as it stands in a message; None when it is too large for that."""
    if len(data) > MAX_CONTENT:  # the schema holds the original's size to it too
        return None
    encoding, value = _value(data)
    if len(value.encode()) > MAX_CONTENT:
        encoding, value = "gzip", _base64(gzip.compress(data, mtime=0))
    if len(value) > MAX_CONTENT:
        return None
    return {"encoding": encoding, "value": value, "size": len(data)}


def about_metadata(made: Mapping[str, Any], topic: str | None) -> bool:
    """Tell whether a message is about a metadata record: by its topic, else by the topic in its data_id."""
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
