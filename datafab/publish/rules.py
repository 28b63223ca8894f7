"""Runner of rules over JSON documents, and the checks that the rules of messages and of records share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from datafab.publish.finding import Finding

Findings = Iterator[Finding]
#: Yields what is wrong with a document, which is a JSON object of any content.
Rule = Callable[[dict[str, Any]], Findings]


def run_rules(document: Any, rules: Iterable[Rule], *, rule: str, fix: str) -> list[Finding]:
    """Return what rules find in a document of any type.

    Args:
        document: the decoded JSON.
        rules: the rules to run.
        rule: id of the rule that a document breaks which is not a JSON object.
        fix: what to do about that.
    """
    if not isinstance(document, dict):
        return [Finding(rule=rule, field="", problem="it is not a JSON object", fix=fix)]
    return list(chain.from_iterable(check(document) for check in rules))


def check_members(document: Mapping[str, Any], members: Sequence[str], *, rule: str) -> Findings:
    """Check that a GeoJSON feature has its members, and that they have the right JSON types."""
    for name in members:
        if name not in document:
            yield Finding(rule=rule, field=name, problem="it is missing", fix=f"give {', '.join(members)}")
    if document.get("type", "Feature") != "Feature":
        yield Finding(rule=rule, field="type", problem=f"it is {document['type']!r}", fix="write 'Feature'")
    for name, kind, word in (("properties", dict, "an object"), ("links", list, "a list")):
        if name in document and not isinstance(document[name], kind):
            yield Finding(rule=rule, field=name, problem=f"it is not {word}", fix=f"make it {word}")


def properties_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the properties of a document; empty if they are not an object."""
    found = document.get("properties")
    return found if isinstance(found, dict) else {}


def links_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the links of a document that are objects."""
    found = document.get("links")
    return [link for link in found if isinstance(link, dict)] if isinstance(found, list) else []
