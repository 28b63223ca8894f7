"""Where the keys of a TOML text stand: its parser tells what it says, not on which line. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

#: Strings of several lines and comments; strings of one line only to step over what is inside.
_HIDDEN = re.compile(
    r'("""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|#[^\n]*)|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'',
    re.DOTALL,
)
_NAME = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_PATH = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_PATH})\s*\]")
_KEY = re.compile(rf"\s*({_PATH})\s*=")

#: A key's way from the top: names, and numbers for the tables of a list.
Way = tuple[str | int, ...]


@dataclass(slots=True)
class Lines:
    """The lines of a valid TOML text, from 1, by way: ``("flow", 0, "with", "endpoints")``."""

    _lines: dict[Way, int] = field(default_factory=dict)

    @classmethod
    def scan(cls, text: str) -> Lines:
        """Find every header and every key that begins a line."""
        found: dict[Way, int] = {}
        lists: Counter[str] = Counter()
        table: Way = ()
        shown = _HIDDEN.sub(lambda part: re.sub(r"[^\n]", " ", part[0]) if part[1] else part[0], text)
        for number, line in enumerate(shown.split("\n"), 1):
            if header := _HEADER.match(line):
                names = _names(header[2])
                if header[1] == "[[" and len(names) == 1:
                    lists[names[0]] += 1
                table = _way(names, lists)
                found.setdefault(table, number)
                found.setdefault((names[0],), number)
            elif key := _KEY.match(line):
                names = _names(key[1])
                for end in range(1, len(names) + 1):
                    found.setdefault((*table, *names[:end]), number)
        return cls(found)

    def of(self, *way: str | int) -> int:
        """Return the line of a key, else of the nearest above it that has one; 1 when none has."""
        while way and way not in self._lines:
            way = way[:-1]
        return self._lines.get(way, 1)


def _way(names: list[str], lists: Counter[str]) -> Way:
    first, *rest = names
    return (first, lists[first] - 1, *rest) if first in lists else (first, *rest)


def _names(path: str) -> list[str]:
    return [name.strip("\"'") for name in re.findall(_NAME, path)]
