"""WIS2 topics: channel/version/system/centre/notification type/data policy/discipline/…, in this order.

Only WMO's tables say which levels below the discipline exist (``wis2_suite.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from datafab.publish.finding import Finding

CHANNEL, VERSION, SYSTEM = "origin", "a", "wis2"
TYPES = ("data", "metadata")
POLICIES = ("core", "recommended")
DISCIPLINES = ("atmospheric-composition", "climate", "cryosphere", "hydrology", "ocean", "space-weather", "weather")
SHAPE = "origin/a/wis2/<centre-id>/data/<core|recommended>/<discipline>/…"
#: Fewest levels of a topic for data.
MIN_DATA_LEVELS = 8

_LEVEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_CENTRE = re.compile(r"[a-z]{2,}-[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def is_metadata(topic: str) -> bool:
    """Tell whether a topic is one for metadata."""
    return topic.split("/")[4:5] == ["metadata"]


def centre_of(topic: str) -> str:
    """Return the centre-id of a topic; empty if it has none."""
    return "".join(topic.split("/")[3:4])


def is_centre(name: str) -> bool:
    """Tell whether a centre-id is well-formed; only WMO's tables say whether it is registered."""
    return _CENTRE.fullmatch(name) is not None


def check_topic(topic: str, *, published: bool = True) -> list[Finding]:
    """Return what is wrong with a topic for publication: rules T1, T2, T3 and T5.

    With ``published=False`` it is a topic for subscription, which may end at the discipline.
    """
    levels = topic.split("/")
    found = [*_spelling(levels), *_fixed(levels)]
    kind = levels[4] if len(levels) > 4 else ""  # noqa: PLR2004 - the fifth level
    if kind == "metadata":
        found += _metadata(levels)
    elif kind == "data":
        found += _data(levels, MIN_DATA_LEVELS if published else MIN_DATA_LEVELS - 1)
    elif kind in POLICIES:
        fix = f"swap levels 5 and 6: {_swapped(levels)}"
        found.append(_finding("T1", f"level 5 is the data policy {kind!r}, but the notification type comes first", fix))
    else:
        found.append(_finding("T1", f"level 5 is {kind!r}, not a notification type", f"use data or metadata: {SHAPE}"))
    return found


def _spelling(levels: Sequence[str]) -> Iterator[Finding]:
    for number, level in enumerate(levels, 1):
        if not _LEVEL.fullmatch(level):
            fix = "use lower-case letters, digits and dashes, nothing else"
            yield _finding("T5", f"level {number} is {level!r}", fix)


def _fixed(levels: Sequence[str]) -> Iterator[Finding]:
    for number, (level, allowed) in enumerate(zip(levels, (CHANNEL, VERSION, SYSTEM), strict=False), 1):
        if level != allowed:
            yield _finding("T1", f"level {number} is {level!r}", f"a publisher's topic has {allowed!r} there: {SHAPE}")
    if len(levels) > 3 and not _CENTRE.fullmatch(levels[3]):  # noqa: PLR2004 - the fourth level
        yield _finding("T1", f"{levels[3]!r} is not a centre-id", "give the registered one, e.g. fr-ifremer-argo")


def _metadata(levels: Sequence[str]) -> Iterator[Finding]:
    if len(levels) > 5:  # noqa: PLR2004 - the fifth level is the last
        fix = f"publish on {'/'.join(levels[:5])}"
        yield _finding("T3", "a metadata topic goes on after 'metadata'", fix)


def _data(levels: Sequence[str], least: int) -> Iterator[Finding]:
    policy, discipline = (*levels[5:7], "", "")[:2]
    if policy not in POLICIES:
        yield _finding("T1", f"level 6 is {policy!r}, not a data policy", f"use core or recommended: {SHAPE}")
    if discipline not in DISCIPLINES:
        yield _finding("T2", f"level 7 is {discipline!r}, not a discipline", f"use one of {', '.join(DISCIPLINES)}")
    if len(levels) < least:
        fix = f"data needs at least {least}: name the category below the discipline"
        yield _finding("T2", f"it has {len(levels)} levels", fix)


def _swapped(levels: Sequence[str]) -> str:
    return "/".join([*levels[:4], *levels[5:6], levels[4], *levels[6:]])


def _finding(rule: str, problem: str, fix: str) -> Finding:
    return Finding(rule=rule, field="topic", problem=problem, fix=fix)
