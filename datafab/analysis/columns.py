"""What is found of each column, and the part of the result that comes of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis import declared_types as told
from datafab.analysis import profile
from datafab.analysis import table_schema as types
from datafab.analysis.csv_detective import FORMATS, LABEL_WEIGHT, MISSING, choose, label_scores
from datafab.analysis.day_order import FREE, Wish, settled
from datafab.analysis.distinct import Part
from datafab.analysis.format_scores import Judge
from datafab.errors import Fatal

_MISSING = pa.array(MISSING, pa.string())
#: csv-detective asks formats that a column's name rules out too, in tables below so many rows.
CHUNK = 10_000
#: What csv-detective's functions get of a column whose type the file tells.
_CONVERT: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "json": json.loads}


@dataclass(slots=True)
class Columns:
    """Takes the columns of a table one by one; none of their values is kept but the few that are named.

    Attributes:
        whole: whether the rows are all those of the table.
        separator: between the cells of a text.
        quick: whether filters are used.
        limit: columns whose formats are looked for.
        order: of day and month, for dates that do not say.
    """

    whole: bool
    rows: int
    separator: str | None
    quick: bool
    limit: int
    order: Wish = FREE
    #: of each column: whether it has a name or values
    _used: list[bool] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _scores: list[dict[str, float]] = field(default_factory=list)
    _labels: list[dict[str, float]] = field(default_factory=list)
    _ways: list[dict[str, str]] = field(default_factory=list)
    _counted: list[tuple[int, list[str] | None, dict[str, Any]]] = field(default_factory=list)
    _fields: list[types.Field] = field(default_factory=list)
    _nul: list[str] = field(default_factory=list)

    def add(self, name: str, parts: Sequence[Part], *, named: bool, known: str | None = None) -> None:
        """Take the next column.

        Args:
            name: unique.
            parts: all its values.
            named: whether the name is that of the table.
            known: the format that the file itself tells.
        """
        texts = [part.only(_not(types.blank(part.values))) for part in parts]
        self._used.append(named or any(len(part.values) for part in texts))
        if not self._used[-1]:
            return
        filled = [part.only(_not(pc.is_in(part.values, value_set=_MISSING))) for part in parts]
        self._names.append(name)
        if any(pc.any(pc.match_substring(part.values, "\0")).as_py() for part in texts):
            self._nul.append(name)
        chosen: dict[str, Any] = {"format": "string", "python_type": "string"}
        if len(self._scores) < self.limit:
            chosen = self._judged(name, filled, known)
        chosen["blanks"] = types.spaced(filled)
        chosen["absent"] = any(len(one.values) > len(two.values) for one, two in zip(texts, filled, strict=True))
        if self.whole:
            self._count(filled, chosen["python_type"])
        self._fields.append(
            told.field(name, known, texts) if known else types.field(name, texts, chosen, self.separator)
        )

    def _judged(self, name: str, filled: Sequence[Part], known: str | None) -> dict[str, Any]:
        labels = label_scores(name)
        wanted = [
            each.name
            for each in FORMATS.values()
            if (known is None or (each.python_type == known and each.name != known))
            and (not each.mandatory_label or labels[each.name] or (self.rows < CHUNK and known is None))
        ]
        convert = _CONVERT.get(known or "", str)
        judge = Judge(wanted, convert) if self.quick else Judge(wanted, convert, {}, quick_dates=False)
        scores, ways = judge.scores(filled)
        if known in scores:
            scores[known] = 1.0
        self._scores.append(scores)
        self._labels.append(labels)
        self._ways.append(ways)
        (chosen,) = choose([name], [_both(scores, labels)]).values()
        chosen["named"] = labels.get(chosen["format"], 0.0) > 0
        chosen["labelled"] = {each for each, worth in labels.items() if worth}
        return chosen | ({"date_format": ways[chosen["format"]]} if chosen["format"] in ways else {})

    def _count(self, filled: Sequence[Part], python_type: str) -> None:
        distinct = sum(len(part.values) for part in filled)
        missing = self.rows - sum(part.rows for part in filled)
        figures = profile.figures(filled, python_type) if python_type in {"int", "float"} else {}
        counted = {"tops": profile.tops(filled), "nb_distinct": distinct, "nb_missing_values": missing}
        self._counted.append((distinct, profile.few(filled), figures | counted))

    def used(self) -> list[int]:
        """Return the positions of the columns that have a name or values."""
        used = [at for at, each in enumerate(self._used) if each]
        if not used:
            raise Fatal("has separators only, neither names nor values", code="empty")
        return used

    def result(self) -> dict[str, Any]:
        """Return what csv-detective says of columns, our counts and the schema."""
        names = self._names
        judged = min(len(names), len(self._scores))
        final = [_both(*pair) for pair in zip(self._scores[:judged], self._labels[:judged], strict=True)]
        columns = choose(names[:judged], final)
        for name, ways in zip(names, self._ways, strict=False):
            if name in columns and columns[name]["format"] in ways:
                columns[name]["date_format"] = ways[columns[name]["format"]]
        formats: dict[str, list[str]] = {}
        for name, each in columns.items():
            formats.setdefault(each["format"], []).append(name)
        return {
            "columns_fields": choose(names[:judged], self._scores[:judged]),
            "columns_labels": choose(names[:judged], self._labels[:judged]),
            "columns": columns,
            "formats": formats,
            **(self._counts(names) if self.whole else {}),
            **({"nul": self._nul} if self._nul else {}),
            "schema": {"fields": settled(self._fields, self.order), "missingValues": [""]},
        }

    def _counts(self, names: Sequence[str]) -> dict[str, Any]:
        counted = dict(zip(names, self._counted, strict=False))
        return {
            "categorical": [name for name, each in counted.items() if profile.categorical(each[0], self.rows)],
            "unique_values": {name: each[1] for name, each in counted.items() if each[1] is not None},
            "profile": {name: each[2] for name, each in counted.items()},
        }


def _not(mask: pa.Array) -> Any:
    return ~mask.to_numpy(zero_copy_only=False)


def _both(scores: dict[str, float], labels: dict[str, float]) -> dict[str, float]:
    """Weigh what the values say by what the name says."""
    return {
        name: 0.0 if FORMATS[name].mandatory_label and not labels[name] else score * (1 + LABEL_WEIGHT * labels[name])
        for name, score in scores.items()
    }
