"""What the runner notes of an item that has to wait; the notes that a stage keeps of it are another record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

#: Names under which versions before kept these among a stage's own notes.
_FORMER = {"_since": "since", "_due": "due", "_why": "why", "_failures": "failures"}


@dataclass(slots=True)
class Waiting:
    """How an item, or a whole batch, waits.

    Attributes:
        since: Unix time of its first wait or failure in this stage.
        due: Unix time of its next look.
        why: what it waits for.
        failures: how often it has failed in a row.
        reached: how far it has come, by unit: an attempt that comes further ends the row of failures.
        at: of a batch, the item in hand.
    """

    since: float | None = None
    due: float = 0.0
    why: str = ""
    failures: int = 0
    reached: dict[str, int] = field(default_factory=dict)
    at: int | None = None

    def advance(self, done: int, unit: str) -> bool:
        """Note how far it has come; say whether that is further than ever."""
        further = done > self.reached.get(unit, 0)
        if further:
            self.reached[unit] = done
        return further

    def dump(self) -> dict[str, Any]:
        """Return the JSON form, without what says nothing."""
        empty = asdict(type(self)())
        return {key: value for key, value in asdict(self).items() if value != empty[key]}

    @classmethod
    def load(cls, kept: Mapping[str, Any]) -> Self:
        """Read the JSON form; what another version has added is passed over."""
        return cls(**{key: value for key, value in kept.items() if key in cls.__slots__})

    @classmethod
    def split(cls, memo: dict[str, Any], *, whole: bool) -> Self:
        """Take these notes out of a stage's own, where versions before kept them."""
        names = _FORMER | ({"at": "at"} if whole else {})
        return cls.load({name: memo.pop(former) for former, name in names.items() if former in memo})
