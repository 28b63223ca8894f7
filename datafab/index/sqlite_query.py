"""Translate queries to FTS5 expressions, with SQL conditions for what FTS5 cannot express. Pure.

Whole values are stored in the full-text table, too, as one word each (``value_token``), so that they are as quick to
find as words. Only numbers need a condition; if one is next to words in an ``OR``, the words become conditions as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datafab.index.query import And, Everything, Exact, Node, Not, Or, Range, Sort, Words, positive_terms

#: A character of Unicode's private use area: the tokenizer treats it as a letter, and no folded word contains it.
PRIVATE_MARK = "\ue000"
#: A word that every document has, as FTS5 has no unary NOT.
EVERY_DOCUMENT = f"all{PRIVATE_MARK}"
#: Columns of the full-text table, with the weight of a word in each.
COLUMN_WEIGHTS = {"title": 4, "dataset": 2, "organisation": 2, "column": 2, "formats": 1, "exact": 0}
NUMBER_COLUMNS = {"rows": "total_lines", "columns": "nb_columns", "size": "filesize", "modified": "modified"}
_BM25 = f"bm25(words, {', '.join(map(str, COLUMN_WEIGHTS.values()))})"
SORT_ORDERS = {
    Sort.RELEVANCE: f"{_BM25}, ",
    Sort.NEWEST: "",
    Sort.ROWS: "total_lines DESC, ",
    Sort.SIZE: "filesize DESC, ",
    Sort.TITLE: "title_key, ",
}


@dataclass(frozen=True, slots=True)
class _Match:
    """An FTS5 expression."""

    text: str


@dataclass(frozen=True, slots=True)
class _Condition:
    """An SQL condition, true or false but never NULL."""

    text: str
    values: tuple[str | int, ...]


_Clause = _Match | _Condition


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """The part of an SQL statement that selects the documents of a query."""

    match: str | None
    conditions: tuple[str, ...]
    values: tuple[str | int, ...]
    #: whether documents can match better or worse
    scored: bool

    @property
    def documents(self) -> str:
        """The SQL after ``SELECT`` and the columns of ``documents``."""
        where = (*(["words MATCH ?"] if self.match else []), *self.conditions)
        tables = "words JOIN documents ON number = words.rowid" if self.match else "documents"
        return f"FROM {tables} WHERE {' AND '.join(where) or 'TRUE'}"

    @property
    def count(self) -> str:
        """The tables and conditions of a statement that only counts documents."""
        return "FROM words WHERE words MATCH ?" if self.match and not self.conditions else self.documents

    def order(self, sort: Sort) -> str:
        """Return the terms of the SQL clause ``ORDER BY`` for an order of results."""
        first = "" if sort is Sort.RELEVANCE and not self.scored else SORT_ORDERS[sort]
        return f"{first}version DESC, id"


def value_token(field: str, value: str) -> str:
    """Return the word that represents a whole value of a field."""
    return f"{field}{PRIVATE_MARK}{re.sub('[^a-z0-9]', _escape, value)}"


def translate_query(query: Node) -> DocumentFilter:
    """Translate a query to an SQL filter."""
    parts = query.nodes if isinstance(query, And) else (query,)
    matches: list[_Match] = []
    conditions: list[_Condition] = []
    words = [leaf for leaf in positive_terms(query) if isinstance(leaf, Words)]
    for part in parts:
        translated = _translate(part)
        if isinstance(translated, _Condition):
            conditions.append(translated)
            if unscored := [leaf for leaf in positive_terms(part) if isinstance(leaf, Words)]:
                # Words within a condition only select documents; this expression scores them.
                matches.append(
                    _join_matches(Or((Everything(), *unscored)), [_MATCH_ALL, *map(_phrase_match, unscored)])
                )
        elif part != Everything():
            matches.append(translated)
    match = _join_matches(And(()), matches).text if matches else None
    values = [value for condition in conditions for value in condition.values]
    return DocumentFilter(
        match=match,
        conditions=tuple(condition.text for condition in conditions),
        values=tuple(values if match is None else [match, *values]),
        scored=bool(words),
    )


def _translate(node: Node) -> _Clause:
    match node:
        case And(nodes) | Or(nodes):
            return _combine(node, [_translate(each) for each in nodes])
        case Not(inner):
            return _negate(_translate(inner))
        case Range():
            return _range_condition(node)
        case Words():
            return _phrase_match(node)
        case Exact(field, value):
            return _Match(f'exact : "{value_token(field, value)}"')
    return _MATCH_ALL


def _negate(part: _Clause) -> _Clause:
    if isinstance(part, _Match):
        return _Match(f"({_MATCH_ALL.text} NOT {part.text})")
    return _Condition(f"NOT {part.text}", part.values)


def _combine(node: And | Or, parts: Sequence[_Clause]) -> _Clause:
    matches = [part for part in parts if isinstance(part, _Match)]
    conditions = [part for part in parts if isinstance(part, _Condition)]
    if not conditions:
        return _join_matches(node, matches)
    if matches:
        within = _join_matches(node, matches).text
        conditions.append(_Condition("number IN (SELECT rowid FROM words WHERE words MATCH ?)", (within,)))
    text = _operator(node).join(condition.text for condition in conditions)
    return _Condition(f"({text})", tuple(value for condition in conditions for value in condition.values))


def _join_matches(node: And | Or, matches: Sequence[_Match]) -> _Match:
    return matches[0] if len(matches) == 1 else _Match(f"({_operator(node).join(match.text for match in matches)})")


def _operator(node: And | Or) -> str:
    return " AND " if isinstance(node, And) else " OR "


def _phrase_match(node: Words) -> _Match:
    # Folded words consist of letters and digits only, and so need no escaping.
    phrase = f'"{" ".join(node.words)}"'
    return _Match(f"{node.field} : {phrase}" if node.field else phrase)


def _range_condition(node: Range) -> _Condition:
    column = NUMBER_COLUMNS[node.field]
    bounds = {">=": node.low, "<=": node.high}
    comparisons = {f"{column} {sign} ?": bound for sign, bound in bounds.items() if bound is not None}
    return _Condition(f"({' AND '.join([f'{column} IS NOT NULL', *comparisons])})", tuple(comparisons.values()))


def _escape(found: re.Match[str]) -> str:
    return f"{PRIVATE_MARK}{ord(found[0]):x}{PRIVATE_MARK}"


_MATCH_ALL = _Match(f'exact : "{EVERY_DOCUMENT}"')
