"""Parse and write the query language described in ``docs/search.md``. Pure.

lark takes a tenth of a second to import, so this module is imported with the first query.
"""

from __future__ import annotations

import difflib
import re
from functools import lru_cache
from typing import NoReturn

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedToken

from datafab.core.item import Status
from datafab.errors import FlowError
from datafab.index import query_values
from datafab.index.folding import fold_value, fold_words
from datafab.index.query import (
    FIELDS,
    And,
    Everything,
    Exact,
    FieldKind,
    Leaf,
    Node,
    Not,
    Or,
    Range,
    Words,
    depth,
    join_and,
    join_or,
    leaves,
    negate,
)
from datafab.index.query_values import QueryPartError

#: Maximum characters, terms and depth of a query.
MAX_QUERY_CHARS, MAX_TERMS, MAX_DEPTH = 1000, 50, 20
#: Characters of the query that an error shows before and after the position.
ERROR_CONTEXT_CHARS = 40
_WILDCARD_ERROR = "`*` must stand alone, and matches everything; words are matched as a whole"
FIELD_ALIASES = {"organization": "organisation"}

# Punctuation that stands alone or before a word is ignored, as within a text, unless it has a meaning.
_GRAMMAR = r"""
start: disjunction?
disjunction: conjunction (_OR conjunction)*
conjunction: _term (_AND? _term)*
_term: negation | everything | words | field | "(" disjunction ")"
negation: (_NOT | _MINUS) _term
everything: STAR
words: WORD | QUOTED
field: FIELD OPERATOR? (VALUE | QUOTED)

_AND.3: /AND(?=[\s()"]|$)/
_OR.3: /OR(?=[\s()"]|$)/
_NOT.3: /NOT(?=[\s()"]|$)/
_MINUS.3: /-(?=["(\w])/
STAR.3: /(?<![^\s(])\*(?![^\s)])/
FIELD.2: /[^\W_][\w.-]*:/
VALUE.4: /[^\s"()<>=]+/
OPERATOR.5: />=|<=|>|<|=/
QUOTED.5: /"[^"]*"/
WORD: /(?!(?:AND|OR|NOT)(?:[\s()"]|$))[^\W_][^\s"()<>=*:]*/
NOISE: /[^\w\s"()<>=*:-]+|_+|-(?!["(\w])|(?<!\S):(?!\S)/
%ignore /\s+/
%ignore NOISE
"""


class QueryError(FlowError):
    """A query is invalid."""

    def __init__(self, text: str, position: int, why: str) -> None:
        begin = max(0, position - ERROR_CONTEXT_CHARS)
        shown = re.sub(r"[\W_]", _printable, text[begin : position + ERROR_CONTEXT_CHARS])
        message = f"the query cannot be read at character {position + 1}: {why}\n"
        super().__init__(f"{message}  {shown}\n  {' ' * (position - begin)}^", code="query", field="q")
        self.position = position


@lru_cache(maxsize=512)
def parse_query(text: str) -> Node:
    """Parse a query into a tree (``query.py``). An empty query matches all documents.

    Raises:
        QueryError: the query is invalid; the error shows the position and what is expected there.
    """
    if len(text) > MAX_QUERY_CHARS:
        raise QueryError(
            text, MAX_QUERY_CHARS, f"a query has {MAX_QUERY_CHARS:,} characters at most, this one {len(text):,}"
        )
    try:
        node: Node | None = _PARSER.parse(text)  # type: ignore[assignment]  # the result of its transformer
    except (UnexpectedCharacters, UnexpectedToken) as error:
        # At the end of the text, the error is reported at the last token.
        ends = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        position = len(text) if ends else error.pos_in_stream or 0
        if not text[position:].strip():
            position = len(text.rstrip())
        raise QueryError(text, position, _describe_unexpected(text[position:].strip(), _expected_term(error))) from None
    except QueryPartError as error:
        raise QueryError(text, error.position, error.why) from None
    if node is None and text.strip():
        raise QueryError(text, 0, "there is no word to look for: a word has letters or digits")
    return node or Everything()


def write_query(node: Node) -> str:
    """Write a query as text that is parsed to the same tree."""
    match node:
        case And(nodes):
            return " ".join(_write_in_brackets(part, Or) for part in nodes)
        case Or(nodes):
            return " OR ".join(write_query(part) for part in nodes)
        case Not(inner):
            return f"NOT {_write_in_brackets(inner, And | Or)}"
        case _:
            return _write_leaf(node)


def _write_leaf(leaf: Leaf) -> str:
    match leaf:
        case Words(found, field):
            return _write_field(field, found[0] if len(found) == 1 else f'"{" ".join(found)}"')
        case Exact(field, value):
            return _write_field(field, value if re.fullmatch(r"[\w./+-]+", value) else f'"{value}"')
        case Range(field, low, high):
            return _write_field(field, query_values.write_bounds(FIELDS[field], low, high))
        case _:
            return "*"


def _write_field(field: str | None, value: str) -> str:
    return value if field is None else f"{field}:{value}"


def _write_in_brackets(node: Node, kinds: object) -> str:
    return f"({write_query(node)})" if isinstance(node, kinds) else write_query(node)  # type: ignore[arg-type]  # a union of types


class _Builder(Transformer[Token, Node | None]):
    """Builds the tree while the text is parsed, so that nested brackets need no recursion."""

    def start(self, found: list[Node]) -> Node | None:
        return found[0] if found else None

    def disjunction(self, found: list[Node]) -> Node:
        return _check_limits(join_or(found))

    def conjunction(self, found: list[Node]) -> Node:
        return _check_limits(join_and(found))

    def negation(self, found: list[Node]) -> Node:
        return _check_limits(negate(found[0]))

    def everything(self, _found: list[Token]) -> Node:
        return Everything()

    def words(self, found: list[Token]) -> Node:
        return Words(_read_words(found[0]))

    def field(self, found: list[Token]) -> Node:
        name, value = found[0], found[-1]
        operator = str(found[1]) if len(found) > 2 else None  # noqa: PLR2004 - name, operator, value
        known = _read_field(name)
        kind = FIELDS[known]
        if kind not in {FieldKind.TEXT, FieldKind.EXACT}:
            low, high = query_values.read_bounds(kind, operator, _unquoted(value), _position(value))
            return Range(known, low, high)
        if operator:
            why = f"`{operator}` compares numbers and dates; {known} holds {kind.value}"
            raise QueryPartError(_position(found[1]), why)
        if kind is FieldKind.TEXT:
            return Words(_read_words(value), known)
        return Exact(known, _read_value(known, value))


def _check_limits(node: Node) -> Node:
    # Checked for each node, so that a deep or long tree is refused while it is still small enough to traverse.
    if depth(node) > MAX_DEPTH:
        raise QueryPartError(0, f"brackets are nested too deeply: {MAX_DEPTH} levels are allowed")
    if sum(1 for _ in leaves(node)) > MAX_TERMS:
        raise QueryPartError(0, f"there are more than {MAX_TERMS} words and fields: ask for less at once")
    return node


def _position(token: Token) -> int:
    return token.start_pos or 0


def _unquoted(token: Token) -> str:
    return token[1:-1] if token.type == "QUOTED" else str(token)


def _read_words(token: Token) -> tuple[str, ...]:
    text = _unquoted(token)
    if token.type == "VALUE" and "*" in text:
        _refuse_wildcard(_position(token) + text.index("*"))
    found = tuple(fold_words(text))
    if not found:
        raise QueryPartError(_position(token), f"no word in {token}: a word has letters or digits")
    if len(found) > MAX_TERMS:
        raise QueryPartError(_position(token), f"there are more than {MAX_TERMS} words in it: ask for less at once")
    return found


def _read_value(field: str, token: Token) -> str:
    if token.type == "VALUE" and "*" in token:
        _refuse_wildcard(_position(token) + token.index("*"))
    value = fold_value(_unquoted(token))
    if not fold_words(value):
        raise QueryPartError(_position(token), f"no value in {token}: a value has letters or digits")
    if field == "status" and value not in list(Status):
        raise QueryPartError(_position(token), f"status is one of {', '.join(Status)}")
    return value


def _read_field(token: Token) -> str:
    name = token[:-1].lower()
    name = FIELD_ALIASES.get(name, name)
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f"is {near[0]} meant?" if near else f"quote words with a colon; the fields are {', '.join(FIELDS)}"
        raise QueryPartError(_position(token), f"there is no field {token[:-1]}; {hint}")
    return name


def _refuse_wildcard(position: int) -> NoReturn:
    raise QueryPartError(position, _WILDCARD_ERROR)


def _expected_term(error: UnexpectedCharacters | UnexpectedToken) -> str:
    terminals = (error.allowed if isinstance(error, UnexpectedCharacters) else error.expected) or ()
    if "VALUE" in terminals:
        return "a value"
    if "WORD" in terminals:
        return "a word or a field"
    return "`)`" if "RPAR" in terminals else "the end"


def _describe_unexpected(rest: str, expected: str) -> str:
    """Describe the error of a query that continues with this text."""
    sign = rest[:1]
    if sign == '"':
        return "this quote is not closed"
    if sign == "*":
        return _WILDCARD_ERROR
    if sign == ":":
        return f"`:` comes after the name of a field ({', '.join(FIELDS)}); quote words that have one"
    if sign and sign in "<>=":
        return f"`{sign}` comes after a field and a colon, such as rows:>1000"
    if found := re.match(r"[A-Z]+", rest):
        return f"`{found[0]}` where {expected} should be; quote it if the word is meant"
    return f"{f'`{sign}`' if sign else 'the end'} where {expected} should be"


def _printable(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else " "


_PARSER = Lark(_GRAMMAR, parser="lalr", transformer=_Builder())
