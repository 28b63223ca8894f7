"""What an upload is to hold, and what must be removed and sent for that.

An entrepôt tells of a file its size only. So the list of md5 sums has a name that says of which content it is: beside
another content's list no file is trusted, whatever its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

#: Where files lie in an upload; lists of md5 sums lie at its root.
FOLDER = "data"
#: Our lists of md5 sums begin with this.
OURS = "datafab-"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of an upload."""

    name: str
    size: int
    md5: str

    @property
    def path(self) -> str:
        """Where it lies."""
        return f"{FOLDER}/{self.name}"


@dataclass(frozen=True, slots=True)
class Steps:
    """What is to be done, in this order: should it be broken off, what is left shows what is to be done still."""

    remove: list[str]
    remove_sums: list[str]
    push: list[Part]
    push_sums: bool


@dataclass(frozen=True, slots=True)
class Content:
    """All that an upload is to hold."""

    parts: tuple[Part, ...]

    @property
    def lines(self) -> list[str]:
        """The lines of the list of md5 sums."""
        return [f"{part.md5}  {part.path}" for part in self.parts]

    @property
    def sums(self) -> str:
        """The name of the list of md5 sums."""
        digest = hashlib.sha256("\n".join(sorted(self.lines)).encode()).hexdigest()
        return f"{OURS}{digest[:16]}.md5"

    def missing(self, tree: Mapping[str, int]) -> list[Part]:
        """Return the files that are not there, or not in their size."""
        return [part for part in self.parts if tree.get(part.path) != part.size]

    def held(self, tree: Mapping[str, int]) -> bool:
        """Say whether this is what an upload holds, as far as it tells."""
        files, lists = _sorted(tree)
        others = [name for name in lists if name.startswith(OURS) and name != self.sums]
        return not (self.missing(tree) or others or files - {part.path for part in self.parts})

    def steps(self, tree: Mapping[str, int]) -> Steps:
        """Return what is to be done."""
        files, lists = _sorted(tree)
        stale = lists - {self.sums}
        push = list(self.parts) if stale else self.missing(tree)
        kept = {part.path for part in self.parts} - {part.path for part in push}
        return Steps(
            remove=sorted(files - kept),
            remove_sums=sorted(stale),
            push=push,
            push_sums=self.sums not in lists,
        )


def _sorted(tree: Mapping[str, int]) -> tuple[set[str], set[str]]:
    """Return an upload's files, and its lists of md5 sums."""
    files = {path for path in tree if "/" in path}
    return files, tree.keys() - files
