"""Analyse the columns of a table one by one, and assemble the part of the result that describes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis import declared_types, profile, table_schema
from datafab.analysis.csv_detective import FORMATS, LABEL_WEIGHT, MISSING_VALUES, choose_formats, label_scores
from datafab.analysis.day_order import NO_PREFERENCE, DateOrderPreference, apply_order
from datafab.analysis.distinct import ValueCounts
from datafab.analysis.format_scores import FormatScorer
from datafab.errors import Fatal

_MISSING = pa.array(MISSING_VALUES, pa.string())
#: csv-detective reads tables in chunks of this many rows; in a table with fewer rows it also tests the formats that a
#: column's name rules out.
CSV_DETECTIVE_CHUNK_ROWS = 10_000
#: Converts texts to what csv-detective's functions expect, for a column whose type the file declares.
_CONVERT: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "json": json.loads}


@dataclass(slots=True)
class Columns:
    """Collects the results of a table's columns, added one by one. Only the values that the result lists are kept.

    Attributes:
        whole: whether all rows of the table were read, and not a sample.
        rows: number of rows that were read.
        separator: of the cells, if the table is a text.
        use_filters: whether vectorised filters are used.
        limit: number of columns whose formats are detected.
        date_order: preferred order of day and month in ambiguous dates.
    """

    whole: bool
    rows: int
    separator: str | None
    use_filters: bool
    limit: int
    date_order: DateOrderPreference = NO_PREFERENCE
    #: for each column: whether it has a name or values
    _used: list[bool] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _scores: list[dict[str, float]] = field(default_factory=list)
    _labels: list[dict[str, float]] = field(default_factory=list)
    _date_formats: list[dict[str, str]] = field(default_factory=list)
    _counted: list[tuple[int, list[str] | None, dict[str, Any]]] = field(default_factory=list)
    _fields: list[table_schema.Field] = field(default_factory=list)
    _nul_columns: list[str] = field(default_factory=list)

    def add(self, name: str, parts: Sequence[ValueCounts], *, named: bool, declared_type: str | None = None) -> None:
        """Add the next column.

        Args:
            name: unique.
            parts: all its values.
            named: whether the name comes from the table's header.
            declared_type: the type that the file declares for the column.
        """
        texts = [part.select(_inverted(table_schema.is_blank(part.values))) for part in parts]
        self._used.append(named or any(len(part.values) for part in texts))
        if not self._used[-1]:
            return
        filled = [part.select(_inverted(pc.is_in(part.values, value_set=_MISSING))) for part in parts]
        self._names.append(name)
        if any(pc.any(pc.match_substring(part.values, "\0")).as_py() for part in texts):
            self._nul_columns.append(name)
        chosen: dict[str, Any] = {"format": "string", "python_type": "string"}
        if len(self._scores) < self.limit:
            chosen = self._detect_formats(name, filled, declared_type)
        chosen["blanks"] = table_schema.has_surrounding_blanks(filled)
        chosen["absent"] = any(len(one.values) > len(two.values) for one, two in zip(texts, filled, strict=True))
        if self.whole:
            self._count(filled, chosen["python_type"])
        self._fields.append(
            declared_types.declared_field(name, declared_type, texts)
            if declared_type
            else table_schema.infer_field(name, texts, chosen, self.separator)
        )

    def _detect_formats(self, name: str, filled: Sequence[ValueCounts], declared_type: str | None) -> dict[str, Any]:
        labels = label_scores(name)
        candidates = [
            each.name
            for each in FORMATS.values()
            if (declared_type is None or (each.python_type == declared_type and each.name != declared_type))
            and (
                not each.mandatory_label
                or labels[each.name]
                or (self.rows < CSV_DETECTIVE_CHUNK_ROWS and declared_type is None)
            )
        ]
        convert = _CONVERT.get(declared_type or "", str)
        scorer = (
            FormatScorer(candidates, convert)
            if self.use_filters
            else FormatScorer(candidates, convert, {}, use_date_shapes=False)
        )
        scores, date_formats = scorer.scores(filled)
        if declared_type in scores:
            scores[declared_type] = 1.0
        self._scores.append(scores)
        self._labels.append(labels)
        self._date_formats.append(date_formats)
        (chosen,) = choose_formats([name], [_weigh_by_label(scores, labels)]).values()
        chosen["named"] = labels.get(chosen["format"], 0.0) > 0
        chosen["labelled"] = {each for each, worth in labels.items() if worth}
        return chosen | ({"date_format": date_formats[chosen["format"]]} if chosen["format"] in date_formats else {})

    def _count(self, filled: Sequence[ValueCounts], python_type: str) -> None:
        distinct = sum(len(part.values) for part in filled)
        missing = self.rows - sum(part.rows for part in filled)
        figures = profile.number_statistics(filled, python_type) if python_type in {"int", "float"} else {}
        counted = {"tops": profile.top_values(filled), "nb_distinct": distinct, "nb_missing_values": missing}
        self._counted.append((distinct, profile.unique_values(filled), figures | counted))

    def used(self) -> list[int]:
        """Return the positions of the columns that have a name or values."""
        used = [at for at, each in enumerate(self._used) if each]
        if not used:
            raise Fatal("has separators only, neither names nor values", code="empty")
        return used

    def result(self) -> dict[str, Any]:
        """Return csv-detective's results for all columns, the counts and the schema."""
        names = self._names
        scored = min(len(names), len(self._scores))
        final = [_weigh_by_label(*pair) for pair in zip(self._scores[:scored], self._labels[:scored], strict=True)]
        columns = choose_formats(names[:scored], final)
        for name, date_formats in zip(names, self._date_formats, strict=False):
            if name in columns and columns[name]["format"] in date_formats:
                columns[name]["date_format"] = date_formats[columns[name]["format"]]
        formats: dict[str, list[str]] = {}
        for name, each in columns.items():
            formats.setdefault(each["format"], []).append(name)
        return {
            "columns_fields": choose_formats(names[:scored], self._scores[:scored]),
            "columns_labels": choose_formats(names[:scored], self._labels[:scored]),
            "columns": columns,
            "formats": formats,
            **(self._counts(names) if self.whole else {}),
            **({"nul": self._nul_columns} if self._nul_columns else {}),
            "schema": {"fields": apply_order(self._fields, self.date_order), "missingValues": [""]},
        }

    def _counts(self, names: Sequence[str]) -> dict[str, Any]:
        counted = dict(zip(names, self._counted, strict=False))
        return {
            "categorical": [name for name, each in counted.items() if profile.is_categorical(each[0], self.rows)],
            "unique_values": {name: each[1] for name, each in counted.items() if each[1] is not None},
            "profile": {name: each[2] for name, each in counted.items()},
        }


def _inverted(mask: pa.Array) -> Any:
    return ~mask.to_numpy(zero_copy_only=False)


def _weigh_by_label(scores: dict[str, float], labels: dict[str, float]) -> dict[str, float]:
    """Weigh the scores of a column's values by the scores of its name."""
    return {
        name: 0.0 if FORMATS[name].mandatory_label and not labels[name] else score * (1 + LABEL_WEIGHT * labels[name])
        for name, score in scores.items()
    }
