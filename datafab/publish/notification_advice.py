"""Advice on WIS2 notification messages: what the standards recommend, or what subscribers will stumble over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from datafab.publish.finding import Finding
from datafab.publish.rfc3339 import moment
from datafab.publish.rules import links_of, properties_of

#: how far the clock of a sender may be ahead
CLOCK_TOLERANCE = timedelta(seconds=60)
CHANNELS = ("origin", "cache", "monitor")
#: endings of host names that no public name server knows (RFC 6761, RFC 8375, RFC 9476, and ICANN's .internal)
PRIVATE_NAMES = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home.arpa", "test", "invalid")
_SAFE = ("https", "sftp")
_CENTRE_LEVEL, _RECORD_PARTS = 3, 4


def advise(message: Any, *, topic: str | None = None, now: datetime | None = None) -> list[Finding]:
    """Return advice on a message of any content; none of it prevents its publication.

    Args:
        message: the decoded JSON.
        topic: topic on which it is published.
        now: the present time; None: the time of publication is not compared with it.
    """
    if not isinstance(message, dict):
        return []
    return [*_links(message), *_data_id(message), *_record(message, topic), *_pubtime(message, now)]


def _links(message: Mapping[str, Any]) -> Iterator[Finding]:
    for number, link in enumerate(links_of(message)):
        href, field = link.get("href"), f"links[{number}]"
        try:
            parts = urlsplit(href) if isinstance(href, str) else None
        except ValueError:  # the rules report it
            parts = None
        host = parts.hostname if parts else None
        if parts and host:
            if _is_private(host):
                fix = "give an address that everybody can reach"
                yield _advice("W20", f"{field}.href", f"{host} is an address of a private network", fix)
            if parts.scheme in {"http", "ftp"}:
                fix = "serve files over https, so that they cannot be changed on their way"
                yield _advice("W23", f"{field}.href", f"it is {parts.scheme}", fix)
        if link.get("rel") in ("canonical", "update") and "length" not in link:
            fix = "give the size of the file, so that subscribers know before they download it"
            yield _advice("W23", f"{field}.length", "there is none", fix)


def _is_private(host: str) -> bool:
    try:
        return not ip_address(host.split("%", maxsplit=1)[0]).is_global
    except ValueError:
        name = host.rstrip(".").lower()
        return "." not in name or name.endswith(tuple(f".{ending}" for ending in PRIVATE_NAMES))


def _data_id(message: Mapping[str, Any]) -> Iterator[Finding]:
    value = properties_of(message).get("data_id")
    if isinstance(value, str) and value.split("/")[0] in CHANNELS and value.split("/")[2:3] == ["wis2"]:
        fix = f"leave out the channel and the version: {'/'.join(value.split('/')[2:])}"
        yield _advice("W11", "properties.data_id", f"it begins with {'/'.join(value.split('/')[:2])}", fix)


def _record(message: Mapping[str, Any], topic: str | None) -> Iterator[Finding]:
    """Compare the centre of the metadata record with that of the topic, else with that in the data_id."""
    properties = properties_of(message)
    record, name = properties.get("metadata_id"), properties.get("data_id")
    if not isinstance(record, str):
        return
    parts = record.split(":")
    centre = parts[3] if parts[:3] == ["urn", "wmo", "md"] and len(parts) > _RECORD_PARTS else ""
    levels = topic.split("/") if topic else ["", "", *(name.split("/") if isinstance(name, str) else [])]
    expected = levels[_CENTRE_LEVEL] if len(levels) > _CENTRE_LEVEL and levels[2] == "wis2" else ""
    if not centre:
        fix = "give the id of a WCMP2 record, urn:wmo:md:<centre-id>:<name>"
        yield _advice("W12", "properties.metadata_id", f"{record!r} is not the id of a record", fix)
    elif expected and centre != expected:
        fix = f"give a record of the centre {expected}"
        yield _advice("W12", "properties.metadata_id", f"it is a record of the centre {centre}", fix)


def _pubtime(message: Mapping[str, Any], now: datetime | None) -> Iterator[Finding]:
    value = properties_of(message).get("pubtime")
    read = moment(value)
    if read is not None and now is not None and read.second > now + CLOCK_TOLERANCE:
        fix = "set the clock of this host: caches drop later messages that look older"
        yield _advice("W10", "properties.pubtime", f"{value} is ahead of the present time", fix)


def _advice(rule: str, field: str, problem: str, fix: str) -> Finding:
    return Finding(rule=rule, field=field, problem=problem, fix=fix, level="advice")
