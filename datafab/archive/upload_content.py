"""What an upload is to hold, and what must be removed and sent for that.

An entrepôt tells only the size of a file. So the upload's tag names the content that its files belong to, and so does
the name of the list of md5 sums: beside another content's tag or list no file is trusted, whatever its size.
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
    def digest(self) -> str:
        """What names this content: it depends on the paths and the bytes of all files."""
        return hashlib.sha256("\n".join(sorted(self.lines)).encode()).hexdigest()[:16]

    @property
    def sums(self) -> str:
        """The name of the list of md5 sums."""
        return f"{OURS}{self.digest}.md5"

    def missing(self, tree: Mapping[str, int]) -> list[Part]:
        """Return the files that are not there, or not in their size."""
        return [part for part in self.parts if tree.get(part.path) != part.size]

    def held(self, tree: Mapping[str, int]) -> bool:
        """Say whether an upload has these files in their sizes, and no other file or list of md5 sums."""
        files, lists = _sorted(tree)
        return not (self.missing(tree) or lists - {self.sums} or files - {part.path for part in self.parts})

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


def foreign_lists(tree: Mapping[str, int]) -> list[str]:
    """Return the lists of md5 sums that datafab did not send."""
    return sorted(name for name in _sorted(tree)[1] if not name.startswith(OURS))


def filled(tree: Mapping[str, int]) -> bool:
    """Say whether datafab filled an upload: it has lists of md5 sums, and all of them are ours."""
    return bool(_sorted(tree)[1]) and not foreign_lists(tree)


def _sorted(tree: Mapping[str, int]) -> tuple[set[str], set[str]]:
    """Return an upload's files, and its lists of md5 sums."""
    files = {path for path in tree if "/" in path}
    return files, tree.keys() - files
