"""csv-detective's formats: what it tests a column for, and how it chooses. Only this module knows csv-detective.

Its functions and tables are used as they are; what is ours is only when they are asked (``judge.py``).
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any


class _Nowhere(io.TextIOBase):
    """Where xlrd complains to."""

    def write(self, text: str) -> int:
        return len(text)


# xlrd prints to what is the standard output when it is imported, which may be somebody's JSON.
with redirect_stdout(_Nowhere()):
    from xlrd import XLRDError  # type: ignore[import-untyped]
    from xlrd.compdoc import CompDocError  # type: ignore[import-untyped]

# On import csv-detective gives the root logger a handler and a level, and paints the names of two levels.
_root = logging.getLogger()
_level, _handlers = _root.level, [*_root.handlers]
if sys.platform == "linux":
    import pylibmagic  # noqa: F401 - brings the libmagic that csv-detective looks for
from csv_detective.format import FormatsManager, get_leaf_formats  # noqa: E402 - after libmagic
from csv_detective.formats.adresse import voies as WAYS  # noqa: E402, N812 - a constant
from csv_detective.formats.date import parse as parse_date  # noqa: E402
from csv_detective.output.utils import prepare_output_dict  # noqa: E402
from csv_detective.parsing.text import _process_text  # noqa: E402
from pandas import DataFrame  # type: ignore[import-untyped]  # noqa: E402
from pandas._libs.parsers import STR_NA_VALUES  # type: ignore[import-untyped]  # noqa: E402

_root.setLevel(_level)
_root.handlers[:] = _handlers
logging.addLevelName(logging.WARNING, "WARNING")
logging.addLevelName(logging.CRITICAL, "CRITICAL")

#: Cells that are missing values for csv-detective, and so for us.
MISSING: tuple[str, ...] = tuple(sorted(STR_NA_VALUES))
#: The format of a column that has no other, and its score.
STRING = "string"
#: What a column with the perfect label counts more.
LABEL_WEIGHT = 0.5

Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Format:
    """One of csv-detective's formats.

    Attributes:
        proportion: share of a column's filled rows that must pass.
        is_value: tells whether a value passes.
        infer: finds the one way to read all values of a column; None: no such way exists.
        parent: a less specific format that passes where this one does.
        mandatory_label: whether the column's name must look like it too.
        labels: names of columns and how much they say, as csv-detective processes them.
    """

    name: str
    python_type: str
    proportion: float
    is_value: Callable[[Any], bool]
    infer: Callable[[Iterable[Any]], str | None] | None
    parent: str | None
    mandatory_label: bool
    labels: Mapping[str, float]


def _formats() -> dict[str, Format]:
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


#: By name, in csv-detective's order, which decides between equals.
FORMATS: Mapping[str, Format] = _formats()
#: Those that are nobody's parent: they are tested first.
LEAVES: Sequence[str] = tuple(get_leaf_formats(FORMATS))


def label_scores(name: str) -> dict[str, float]:
    """Return how much a column's name says for each format, 0 to 1.

    As csv-detective's ``header_score``, but the name is processed once and not once a format.
    """
    said = _process_text(name)
    scores = {}
    for known in FORMATS.values():
        exact = known.labels.get(said, 0.0)
        within = max((worth for label, worth in known.labels.items() if len(label) > 2 and label in said), default=0.0)  # noqa: PLR2004 - csv-detective's
        scores[known.name] = max(exact, 0.5 * within)
    return scores


def parents(scores: dict[str, float], test: Callable[[str], float]) -> dict[str, float]:
    """Complete the scores of the leaves by those of their parents, in csv-detective's order.

    Args:
        scores: of every leaf.
        test: scores a format by its own function; asked only where no child's score will do.
    """
    for leaf, _ in reversed(sorted(scores.items(), key=lambda pair: pair[1])):  # noqa: C413 - the order of equals counts
        current, parent = leaf, FORMATS[leaf].parent
        while parent is not None and parent not in scores:
            passes = scores[current] >= FORMATS[parent].proportion
            scores[parent] = scores[current] if passes else test(parent)
            current, parent = parent, FORMATS[parent].parent
    return {name: scores[name] for name in FORMATS}


def choose(names: Sequence[str], scores: Sequence[Scores]) -> dict[str, dict[str, Any]]:
    """Choose each column's format by csv-detective's rules.

    Args:
        names: of the columns.
        scores: of each column, by format; all in csv-detective's order.

    Returns:
        For each column ``python_type, format, score``.
    """
    # By position: names may be anything.
    table = DataFrame({at: dict(each) for at, each in enumerate(scores)})
    chosen = prepare_output_dict(table, True)
    return {name: _typed(chosen[at]) for at, name in enumerate(names)}


def _typed(detection: Mapping[str, Any]) -> dict[str, Any]:
    known = FORMATS.get(detection["format"])
    python_type = known.python_type if known else "string"
    return {"python_type": python_type, "format": detection["format"], "score": float(detection["score"])}


__all__ = [
    "FORMATS", "LABEL_WEIGHT", "LEAVES", "MISSING", "STRING", "WAYS", "CompDocError", "Format", "XLRDError",
    "choose", "label_scores", "parents", "parse_date",
]  # fmt: skip
