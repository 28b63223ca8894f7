"""A query as SQLite finds it: an expression for FTS5, and conditions on columns where it cannot be one. Pure.

Whole values stand in the full-text table too, as one word each (``token``), so that they cost what a word costs. Only
numbers need a condition; where one stands beside words in an ``OR`` the words become conditions as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datafab.index.query import And, Everything, Exact, Node, Not, Or, Range, Sort, Words, wanted

#: For the private use of whoever; the tokenizer takes it for a letter, and no folded word has it.
MARK = "\ue000"
#: A word that every document has: FTS5 knows no "all but".
ALL = f"all{MARK}"
#: Columns of the full-text table, and how much a word counts there.
WEIGHTS = {"title": 4, "dataset": 2, "organisation": 2, "column": 2, "formats": 1, "exact": 0}
NUMBERS = {"rows": "total_lines", "columns": "nb_columns", "size": "filesize", "modified": "modified"}
_BM25 = f"bm25(words, {', '.join(map(str, WEIGHTS.values()))})"
ORDERS = {
    Sort.RELEVANCE: f"{_BM25}, ",
    Sort.NEWEST: "",
    Sort.ROWS: "total_lines DESC, ",
    Sort.SIZE: "filesize DESC, ",
    Sort.TITLE: "title_key, ",
}


@dataclass(frozen=True, slots=True)
class _Match:
    """An expression of FTS5."""

    text: str


@dataclass(frozen=True, slots=True)
class _Condition:
    """A condition of SQL, true or false but never unknown."""

    text: str
    values: tuple[str | int, ...]


_Part = _Match | _Condition


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a statement that says which documents."""

    match: str | None
    conditions: tuple[str, ...]
    values: tuple[str | int, ...]
    #: whether one document can be a better match than another
    scored: bool

    @property
    def documents(self) -> str:
        """What follows ``SELECT`` and names of columns of ``documents``."""
        where = (*(["words MATCH ?"] if self.match else []), *self.conditions)
        tables = "words JOIN documents ON number = words.rowid" if self.match else "documents"
        return f"FROM {tables} WHERE {' AND '.join(where) or 'TRUE'}"

    @property
    def count(self) -> str:
        """What follows the counting of its documents."""
        return "FROM words WHERE words MATCH ?" if self.match and not self.conditions else self.documents

    def order(self, sort: Sort) -> str:
        """What follows ``ORDER BY``."""
        first = "" if sort is Sort.RELEVANCE and not self.scored else ORDERS[sort]
        return f"{first}version DESC, id"


def token(field: str, value: str) -> str:
    """Return the word that stands for a whole value."""
    return f"{field}{MARK}{re.sub('[^a-z0-9]', _spelled, value)}"


def select(query: Node) -> Selection:
    """Translate a query."""
    parts = query.nodes if isinstance(query, And) else (query,)
    matches: list[_Match] = []
    conditions: list[_Condition] = []
    words = [leaf for leaf in wanted(query) if isinstance(leaf, Words)]
    for part in parts:
        translated = _translated(part)
        if isinstance(translated, _Condition):
            conditions.append(translated)
            if lost := [leaf for leaf in wanted(part) if isinstance(leaf, Words)]:
                # In a condition words only choose; here they weigh.
                matches.append(_joined(Or((Everything(), *lost)), [_ALL, *map(_phrase, lost)]))
        elif part != Everything():
            matches.append(translated)
    match = _joined(And(()), matches).text if matches else None
    values = [value for condition in conditions for value in condition.values]
    return Selection(
        match=match,
        conditions=tuple(condition.text for condition in conditions),
        values=tuple(values if match is None else [match, *values]),
        scored=bool(words),
    )


def _translated(node: Node) -> _Part:
    match node:
        case And(nodes) | Or(nodes):
            return _combined(node, [_translated(each) for each in nodes])
        case Not(inner):
            return _negated(_translated(inner))
        case Range():
            return _range(node)
        case Words():
            return _phrase(node)
        case Exact(field, value):
            return _Match(f'exact : "{token(field, value)}"')
    return _ALL


def _negated(part: _Part) -> _Part:
    if isinstance(part, _Match):
        return _Match(f"({_ALL.text} NOT {part.text})")
    return _Condition(f"NOT {part.text}", part.values)


def _combined(node: And | Or, parts: Sequence[_Part]) -> _Part:
    matches = [part for part in parts if isinstance(part, _Match)]
    conditions = [part for part in parts if isinstance(part, _Condition)]
    if not conditions:
        return _joined(node, matches)
    if matches:
        within = _joined(node, matches).text
        conditions.append(_Condition("number IN (SELECT rowid FROM words WHERE words MATCH ?)", (within,)))
    text = _joint(node).join(condition.text for condition in conditions)
    return _Condition(f"({text})", tuple(value for condition in conditions for value in condition.values))


def _joined(node: And | Or, matches: Sequence[_Match]) -> _Match:
    return matches[0] if len(matches) == 1 else _Match(f"({_joint(node).join(match.text for match in matches)})")


def _joint(node: And | Or) -> str:
    return " AND " if isinstance(node, And) else " OR "


def _phrase(node: Words) -> _Match:
    # Folded words have nothing but letters and digits.
    phrase = f'"{" ".join(node.words)}"'
    return _Match(f"{node.field} : {phrase}" if node.field else phrase)


def _range(node: Range) -> _Condition:
    column = NUMBERS[node.field]
    bounds = {">=": node.low, "<=": node.high}
    given = {f"{column} {sign} ?": bound for sign, bound in bounds.items() if bound is not None}
    return _Condition(f"({' AND '.join([f'{column} IS NOT NULL', *given])})", tuple(given.values()))


def _spelled(found: re.Match[str]) -> str:
    return f"{MARK}{ord(found[0]):x}{MARK}"


_ALL = _Match(f'exact : "{ALL}"')
