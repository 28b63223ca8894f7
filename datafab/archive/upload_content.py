"""The intended content of an upload, and the steps to get there.

An entrepôt only gives the sizes of files. So a tag of the upload names the content to which its files belong, and so
does the name of the list of md5 sums. With the tag or list of another content no file is trusted, whatever its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

#: Folder of the files in an upload; lists of md5 sums are at its root.
FOLDER = "data"
#: Prefix of the names of our lists of md5 sums.
LIST_NAME_PREFIX = "datafab-"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of an upload."""

    name: str
    size: int
    md5: str

    @property
    def path(self) -> str:
        """The path of the file in the upload."""
        return f"{FOLDER}/{self.name}"


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps, in an order in which an interrupted upload shows what is still to be done."""

    remove: list[str]
    remove_sums: list[str]
    push: list[Part]
    push_sums: bool


@dataclass(frozen=True, slots=True)
class Content:
    """The intended content of an upload."""

    parts: tuple[Part, ...]

    @property
    def lines(self) -> list[str]:
        """The lines of the list of md5 sums."""
        return [f"{part.md5}  {part.path}" for part in self.parts]

    @property
    def digest(self) -> str:
        """The identifier of this content: a digest of the paths and the bytes of all files."""
        return hashlib.sha256("\n".join(sorted(self.lines)).encode()).hexdigest()[:16]

    @property
    def sums(self) -> str:
        """The name of the list of md5 sums."""
        return f"{LIST_NAME_PREFIX}{self.digest}.md5"

    def missing(self, tree: Mapping[str, int]) -> list[Part]:
        """Return the files that the upload lacks, or has in another size."""
        return [part for part in self.parts if tree.get(part.path) != part.size]

    def held(self, tree: Mapping[str, int]) -> bool:
        """Tell whether an upload has exactly these files in their sizes, and no other list of md5 sums."""
        files, lists = _split(tree)
        return not (self.missing(tree) or lists - {self.sums} or files - {part.path for part in self.parts})

    def steps(self, tree: Mapping[str, int]) -> Steps:
        """Return the steps that lead from the current files to this content."""
        files, lists = _split(tree)
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
    return sorted(name for name in _split(tree)[1] if not name.startswith(LIST_NAME_PREFIX))


def was_filled(tree: Mapping[str, int]) -> bool:
    """Tell whether datafab has filled an upload: it has lists of md5 sums, and all of them are ours."""
    return bool(_split(tree)[1]) and not foreign_lists(tree)


def _split(tree: Mapping[str, int]) -> tuple[set[str], set[str]]:
    """Return the files of an upload, and its lists of md5 sums."""
    files = {path for path in tree if "/" in path}
    return files, tree.keys() - files
