"""Events that announce files: CloudEvents 1.0 with a STAC item and its assets."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import Field

from datafab.core.item import Value
from datafab.errors import Fatal, FlowError
from datafab.publish.announced import announced_properties, announced_security
from datafab.publish.rfc3339 import moment

#: Codes of multihash -> names in WNM, of the digests that WNM allows.
MULTIHASH = {
    0x12: "sha256",
    0x13: "sha512",
    0x14: "sha3-512",
    0x15: "sha3-384",
    0x16: "sha3-256",
    0x20: "sha384",
}
#: Names in WNM -> names in hashlib.
HASHLIB = {
    "sha256": "sha256",
    "sha384": "sha384",
    "sha512": "sha512",
    "sha3-256": "sha3_256",
    "sha3-384": "sha3_384",
    "sha3-512": "sha3_512",
}
TIMES = ("datetime", "start_datetime", "end_datetime")
#: roles of assets that are not data
ILLUSTRATIONS = frozenset({"thumbnail", "overview", "graphic"})
#: longest data_id of a sender, in characters
MAX_DATA_ID_CHARS = 1024


class Checksum(NamedTuple):
    """A digest and its method, under its name in WNM."""

    method: str
    digest: bytes


class Asset(Value):
    """One file of an event, as the sender describes it."""

    name: str
    href: str
    media_type: str | None = None
    #: bytes
    size: int | None = None
    #: multihash, hex
    checksum: str | None = None
    #: the sender's name of the file, equal for all of its versions
    data_id: str | None = None
    #: purposes of the file, as STAC names them
    roles: tuple[str, ...] = ()
    #: properties of its message
    properties: dict[str, Any] = Field(default_factory=dict)
    #: OpenAPI security schemes; None if the file is open
    security: dict[str, Any] | None = None

    @property
    def illustrates(self) -> bool:
        """Whether it only shows the data of another asset."""
        return bool(ILLUSTRATIONS.intersection(self.roles)) and "data" not in self.roles

    @property
    def describes(self) -> bool:
        """Whether it is metadata of another asset, or a record to publish."""
        return "metadata" in self.roles and "data" not in self.roles


class Envelope(Value):
    """The attributes that identify an event. Its data are checked later."""

    id: str
    source: str
    #: sha256 of the whole event, independent of the order of its members
    digest: str

    @property
    def key(self) -> str:
        """Dedupe key, equal for each delivery of this event, and different for another event with the same id."""
        return f"event:{self.source}:{self.id}:{self.digest[:16]}"


def envelope(event: Any) -> Envelope:
    """Return the envelope of an event.

    Raises:
        FlowError: it is not a CloudEvent 1.0 with data; names the member.
    """
    if not isinstance(event, dict):
        raise _malformed("", "the event is not a JSON object")
    for name in ("id", "source"):
        if not isinstance(event.get(name), str) or not event[name]:
            raise _malformed(name, f"the event has no {name}")
    if event.get("specversion") != "1.0":
        raise _malformed("specversion", f"specversion is {event.get('specversion')!r}, not '1.0'")
    if not isinstance(event.get("data"), dict):
        raise _malformed("data", f"the event {event['id']} has no data: it must carry a STAC item")
    try:
        text = json.dumps(event, sort_keys=True, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        msg = f"the event holds half of a surrogate pair, {error.object[error.start]!a}, which is not a character"
        raise _malformed("", msg) from error
    return Envelope(id=event["id"], source=event["source"], digest=hashlib.sha256(text).hexdigest())


def announcement(url: str) -> dict[str, Any]:
    """Return an event that announces the file at a URL, without a description."""
    data = {"type": "Feature", "geometry": None, "properties": {}, "assets": {"file": {"href": url}}}
    head = {"id": str(uuid.uuid4()), "source": "datafab", "specversion": "1.0", "type": "file"}
    return head | {"data": data}


def assets(event: Mapping[str, Any]) -> list[Asset]:
    """Return the files of an event to announce: without illustrations, and without metadata beside data.

    Raises:
        FlowError: there are none, one has no address, or two have the same data_id.
    """
    found = event["data"].get("assets")
    if not isinstance(found, dict) or not found:
        raise _malformed("data.assets", f"the event {event['id']} announces no file")
    shared = event["data"].get("properties")
    properties = announced_properties(shared, "data.properties")
    security = announced_security(shared, "data.properties")
    made = _announced([_asset(name, facts, properties, security) for name, facts in found.items()], event)
    if len(made) == 1 and made[0].data_id is None:
        made = [made[0].evolve(data_id=_data_id(shared, "data.properties"))]
    named = Counter(asset.data_id for asset in made)
    twice = next((asset for asset in made if asset.data_id and named[asset.data_id] > 1), None)
    if twice is not None:
        raise _malformed(f"data.assets.{twice.name}.data_id", f"two assets have the data_id {twice.data_id!r}")
    return made


def _announced(made: list[Asset], event: Mapping[str, Any]) -> list[Asset]:
    """Return the assets that are data; those that are metadata if there are no others."""
    shown = [asset for asset in made if not asset.illustrates]
    if not shown:
        roles = ", ".join(sorted({role for asset in made for role in asset.roles}))
        msg = f"the event {event['id']} announces no data: its assets have only the roles {roles}"
        raise _malformed("data.assets", msg)
    return [asset for asset in shown if not asset.describes] or shown


def _data_id(facts: Any, field: str) -> str | None:
    """Return the data_id that the sender gives; None if there is none."""
    value = facts.get("data_id") if isinstance(facts, dict) else None
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= MAX_DATA_ID_CHARS or not value.isprintable() or " " in value:
        msg = f"data_id is {value!r}: give a text of at most {MAX_DATA_ID_CHARS} characters without blanks"
        raise _malformed(f"{field}.data_id", msg)
    return value


def _asset(name: str, facts: Any, properties: dict[str, Any], security: dict[str, Any] | None) -> Asset:
    """Return an asset; ``properties`` and ``security`` are those of the item."""
    href = facts.get("href") if isinstance(facts, dict) else None
    if not isinstance(href, str) or not href:
        raise _malformed(f"data.assets.{name}.href", f"the asset {name!r} has no address")
    field = f"data.assets.{name}"
    kinds: dict[str, type] = {"type": str, "file:size": int, "file:checksum": str}
    for member, kind in kinds.items():
        value = facts.get(member)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise _malformed(f"{field}.{member}", f"the asset {name!r} has {member} {value!r}")
    return Asset(
        name=name,
        href=href,
        media_type=facts.get("type"),
        size=facts.get("file:size"),
        checksum=facts.get("file:checksum"),
        data_id=_data_id(facts, field),
        roles=_roles(facts, field),
        properties=properties | announced_properties(facts, field),
        security=announced_security(facts, field) or security,
    )


def _roles(facts: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """Return the roles of an asset."""
    roles = facts.get("roles") or []
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise _malformed(f"{field}.roles", f"roles is {roles!r}: give a list of texts, e.g. ['data']")
    return tuple(role.lower() for role in roles)


def geometry(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the location of the data, as GeoJSON; None if the event has none."""
    found = event["data"].get("geometry")
    if found is not None and not isinstance(found, dict):
        raise _malformed("data.geometry", f"the geometry is {found!r}, neither an object nor null")
    return found


def times(event: Mapping[str, Any]) -> dict[str, str]:
    """Return the time of the data: ``datetime``, or ``start_datetime`` and ``end_datetime``; empty if unknown.

    Raises:
        FlowError: a time is not in the format of RFC 3339.
    """
    properties = event["data"].get("properties") or {}
    found = {name: _utc(properties[name], f"data.properties.{name}") for name in TIMES if properties.get(name)}
    if {"start_datetime", "end_datetime"} <= found.keys():
        return {name: found[name] for name in ("start_datetime", "end_datetime")}
    return {"datetime": found["datetime"]} if "datetime" in found else {}


def _utc(value: Any, field: str) -> str:
    """Convert a time to UTC."""
    read = moment(value)
    if read is None:
        raise _malformed(field, f"{value!r} is not an RFC 3339 time with its zone: write 2024-11-09T21:08:00Z")
    return str(read)


def multihash(text: str) -> Checksum:
    """Parse a hex multihash: code of the method, length, digest.

    Raises:
        Fatal: it is malformed, or WNM does not allow its method.
    """
    try:
        raw = bytes.fromhex(text)
        code, length = raw[0], raw[1]
    except (ValueError, IndexError):
        raise _checksum(f"file:checksum {text!r} is not a hex multihash") from None
    method = MULTIHASH.get(code)
    if method is None:
        raise _checksum(f"file:checksum has the method 0x{code:02x}, which is not one of {', '.join(sorted(HASHLIB))}")
    if len(raw) != length + 2 or length != hashlib.new(HASHLIB[method]).digest_size:
        raise _checksum(f"file:checksum announces {method} with {length} bytes, and has {len(raw) - 2}")
    return Checksum(method, raw[2:])


def _checksum(message: str) -> Fatal:
    return Fatal(f"{message}: correct it in the event", code="bad_checksum", field="file:checksum")


def _malformed(field: str, message: str) -> FlowError:
    return FlowError(message, code="bad_event", field=field or None)
