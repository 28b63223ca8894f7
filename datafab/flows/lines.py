"""Find the lines of the keys of a TOML text, which Python's parser does not report. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

#: Strings of several lines and comments, in group 1; strings of one line are matched so that nothing inside them is.
_HIDDEN = re.compile(
    r'("""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|#[^\n]*)|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'',
    re.DOTALL,
)
_NAME = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
_PATH = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_PATH})\s*\]")
_KEY = re.compile(rf"\s*({_PATH})\s*=")

#: A key's path from the top: names, and numbers for the tables of a list.
KeyPath = tuple[str | int, ...]


@dataclass(slots=True)
class KeyLines:
    """The lines of the keys of a valid TOML text, from 1, by path: ``("flow", 0, "with", "endpoints")``."""

    _lines: dict[KeyPath, int] = field(default_factory=dict)

    @classmethod
    def scan(cls, text: str) -> KeyLines:
        """Find every header and every key that begins a line."""
        found: dict[KeyPath, int] = {}
        lists: Counter[str] = Counter()
        table: KeyPath = ()
        visible = _HIDDEN.sub(lambda part: re.sub(r"[^\n]", " ", part[0]) if part[1] else part[0], text)
        for number, line in enumerate(visible.split("\n"), 1):
            if header := _HEADER.match(line):
                names = _names(header[2])
                if header[1] == "[[" and len(names) == 1:
                    lists[names[0]] += 1
                table = _table_path(names, lists)
                found.setdefault(table, number)
                found.setdefault((names[0],), number)
            elif key := _KEY.match(line):
                names = _names(key[1])
                for end in range(1, len(names) + 1):
                    found.setdefault((*table, *names[:end]), number)
        return cls(found)

    def of(self, *path: str | int) -> int:
        """Return the line of a key, else that of its nearest parent that has one, else 1."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


def _table_path(names: list[str], lists: Counter[str]) -> KeyPath:
    first, *rest = names
    return (first, lists[first] - 1, *rest) if first in lists else (first, *rest)


def _names(path: str) -> list[str]:
    return [name.strip("\"'") for name in re.findall(_NAME, path)]
