"""The runner's notes on an item that waits. The stage's own notes on it are another record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

#: The names of these notes in earlier versions, which kept them among a stage's own.
_FORMER = {"_since": "since", "_due": "due", "_why": "why", "_failures": "failures"}


@dataclass(slots=True)
class Waiting:
    """The state of an item, or of a whole batch, that waits.

    Attributes:
        since: Unix time of its first wait or failure in this stage.
        due: Unix time of its next look.
        why: the reason.
        failures: the number of failures in a row.
        reached: the furthest progress, by unit: an attempt that comes further ends the row of failures.
        at: of a batch, the index of the current item.
    """

    since: float | None = None
    due: float = 0.0
    why: str = ""
    failures: int = 0
    reached: dict[str, int] = field(default_factory=dict)
    at: int | None = None

    def advance(self, done: int, unit: str) -> bool:
        """Note progress; return whether the item has come further than ever."""
        further = done > self.reached.get(unit, 0)
        if further:
            self.reached[unit] = done
        return further

    def dump(self) -> dict[str, Any]:
        """Return the JSON form, without default values."""
        empty = asdict(type(self)())
        return {key: value for key, value in asdict(self).items() if value != empty[key]}

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> Self:
        """Read the JSON form; fields that another version has added are ignored."""
        return cls(**{key: value for key, value in kept.items() if key in cls.__slots__})

    @classmethod
    def split(cls, memo: dict[str, Any], *, whole: bool) -> Self:
        """Move these notes out of a stage's own, where earlier versions kept them."""
        names = _FORMER | ({"at": "at"} if whole else {})
        return cls.load({name: memo.pop(former) for former, name in names.items() if former in memo})
