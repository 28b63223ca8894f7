"""csv-detective's formats and the rules by which it chooses one. Only this module imports csv-detective.

Its functions and tables are used unchanged; ``format_scores.py`` decides for which values they are called.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any


class _NullWriter(io.TextIOBase):
    """A stream that discards what xlrd prints."""

    def write(self, text: str) -> int:
        return len(text)


# xlrd binds the standard output when it is imported and prints warnings there, which would corrupt JSON output.
with redirect_stdout(_NullWriter()):
    from xlrd import XLRDError  # type: ignore[import-untyped]
    from xlrd.compdoc import CompDocError  # type: ignore[import-untyped]

# On import csv-detective gives the root logger a handler and a level, and colours the names of two levels.
_root = logging.getLogger()
_level, _handlers = _root.level, [*_root.handlers]
if sys.platform == "linux":
    import pylibmagic  # noqa: F401 - brings the libmagic that csv-detective looks for
from csv_detective.format import FormatsManager, get_leaf_formats  # noqa: E402 - after libmagic
from csv_detective.formats.adresse import voies as STREET_TYPES  # noqa: E402, N812 - a constant
from csv_detective.formats.date import parse as parse_date  # noqa: E402
from csv_detective.output.utils import prepare_output_dict  # noqa: E402
from csv_detective.parsing.text import _process_text  # noqa: E402
from pandas import DataFrame  # type: ignore[import-untyped]  # noqa: E402
from pandas._libs.parsers import STR_NA_VALUES  # type: ignore[import-untyped]  # noqa: E402

_root.setLevel(_level)
_root.handlers[:] = _handlers
logging.addLevelName(logging.WARNING, "WARNING")
logging.addLevelName(logging.CRITICAL, "CRITICAL")

#: Cells that csv-detective, and so the analysis, treats as missing values.
MISSING_VALUES: tuple[str, ...] = tuple(sorted(STR_NA_VALUES))
#: The format of a column that no other format fits.
STRING_FORMAT = "string"
#: Bonus, as a share of the score, for a column whose name matches a label exactly.
LABEL_WEIGHT = 0.5

Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Format:
    """One of csv-detective's formats.

    Attributes:
        proportion: share of a column's filled rows that must pass.
        is_value: tells whether a value passes.
        infer: finds the one date format that reads all values of a column; None: the format has no such function.
        parent: a less specific format that every value of this one passes, too.
        mandatory_label: whether the column's name must match a label, too.
        labels: weight of each known column name, as normalised by csv-detective.
    """

    name: str
    python_type: str
    proportion: float
    is_value: Callable[[Any], bool]
    infer: Callable[[Iterable[Any]], str | None] | None
    parent: str | None
    mandatory_label: bool
    labels: Mapping[str, float]


def _read_formats() -> dict[str, Format]:
    return {
        name: Format(
            name=name,
            python_type=each.python_type,
            proportion=each.proportion,
            is_value=each.func,
            infer=each.infer if each.proportion == 1 else None,
            parent=each.parent,
            mandatory_label=each.mandatory_label,
            labels=each.labels,
        )
        for name, each in FormatsManager().formats.items()
    }


#: Formats by name, in csv-detective's order, which decides between equal scores.
FORMATS: Mapping[str, Format] = _read_formats()
#: Formats that are no parent of another: they are tested first.
LEAF_FORMATS: Sequence[str] = tuple(get_leaf_formats(FORMATS))


def label_scores(name: str) -> dict[str, float]:
    """Score a column's name against the labels of each format, 0 to 1.

    Computes the same as csv-detective's ``header_score``, but normalises the name only once.
    """
    label_text = _process_text(name)
    scores = {}
    for tested in FORMATS.values():
        exact = tested.labels.get(label_text, 0.0)
        contained = (
            worth
            for label, worth in tested.labels.items()
            if len(label) > 2 and label in label_text  # noqa: PLR2004 - csv-detective's
        )
        within = max(contained, default=0.0)
        scores[tested.name] = max(exact, 0.5 * within)
    return scores


def add_parent_scores(scores: dict[str, float], test: Callable[[str], float]) -> dict[str, float]:
    """Add the scores of the parent formats to those of the leaves, and sort all in csv-detective's order.

    Args:
        scores: of all leaf formats.
        test: scores a format by its own function; called only if no child's score is high enough.
    """
    for leaf, _ in reversed(sorted(scores.items(), key=lambda pair: pair[1])):  # noqa: C413 - the order of equals counts
        current, parent = leaf, FORMATS[leaf].parent
        while parent is not None and parent not in scores:
            passes = scores[current] >= FORMATS[parent].proportion
            scores[parent] = scores[current] if passes else test(parent)
            current, parent = parent, FORMATS[parent].parent
    return {name: scores[name] for name in FORMATS}


def choose_formats(names: Sequence[str], scores: Sequence[Scores]) -> dict[str, dict[str, Any]]:
    """Choose each column's format by csv-detective's rules.

    Args:
        names: of the columns.
        scores: of each column by format, all in csv-detective's order.

    Returns:
        ``python_type``, ``format`` and ``score`` by column.
    """
    # By position, as names can be anything.
    table = DataFrame({at: dict(each) for at, each in enumerate(scores)})
    chosen = prepare_output_dict(table, True)
    return {name: _with_python_type(chosen[at]) for at, name in enumerate(names)}


def _with_python_type(detection: Mapping[str, Any]) -> dict[str, Any]:
    tested = FORMATS.get(detection["format"])
    python_type = tested.python_type if tested else "string"
    return {"python_type": python_type, "format": detection["format"], "score": float(detection["score"])}


__all__ = [
    "FORMATS",
    "LABEL_WEIGHT",
    "LEAF_FORMATS",
    "MISSING_VALUES",
    "STREET_TYPES",
    "STRING_FORMAT",
    "CompDocError",
    "Format",
    "XLRDError",
    "add_parent_scores",
    "choose_formats",
    "label_scores",
    "parse_date",
]  # fmt: skip
