"""The language of searches, read and written; ``docs/search.md`` describes it. Pure.

lark costs a tenth of a second, so this module is imported when the first query comes.
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
from datafab.index.folding import key, words
from datafab.index.query import (
    FIELDS,
    And,
    Everything,
    Exact,
    Kind,
    Leaf,
    Node,
    Not,
    Or,
    Range,
    Words,
    both,
    depth,
    either,
    leaves,
    negated,
)
from datafab.index.query_values import Misread

#: Characters of a query, terms in it, nodes in each other.
MAX_LENGTH, MAX_TERMS, MAX_DEPTH = 1000, 50, 20
#: Characters that an error shows on each side.
AROUND = 40
_WHOLE = "`*` stands alone, for everything; words are found whole"
ALIASES = {"organization": "organisation"}

# A sign that stands alone or before a word is passed over, as it is within a text; one with a meaning is not.
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
    """A query cannot be read."""

    def __init__(self, text: str, position: int, why: str) -> None:
        begin = max(0, position - AROUND)
        shown = re.sub(r"[\W_]", _plain, text[begin : position + AROUND])
        message = f"the query cannot be read at character {position + 1}: {why}\n"
        super().__init__(f"{message}  {shown}\n  {' ' * (position - begin)}^", code="query", field="q")
        self.position = position


@lru_cache(maxsize=512)
def parse(text: str) -> Node:
    """Read a query (``query.py``). An empty one asks for everything.

    Raises:
        QueryError: it is none; the error says where, and what could stand there.
    """
    if len(text) > MAX_LENGTH:
        raise QueryError(text, MAX_LENGTH, f"a query has {MAX_LENGTH:,} characters at most, this one {len(text):,}")
    try:
        node: Node | None = _PARSER.parse(text)  # type: ignore[assignment]  # what its transformer makes
    except (UnexpectedCharacters, UnexpectedToken) as error:
        # At the end the last token is what is told of.
        ends = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        position = len(text) if ends else error.pos_in_stream or 0
        if not text[position:].strip():
            position = len(text.rstrip())
        raise QueryError(text, position, _unexpected(text[position:].strip(), _expected(error))) from None
    except Misread as error:
        raise QueryError(text, error.position, error.why) from None
    if node is None and text.strip():
        raise QueryError(text, 0, "there is no word to look for: a word has letters or digits")
    return node or Everything()


def write(node: Node) -> str:
    """Write a query so that it is read as the same."""
    match node:
        case And(nodes):
            return " ".join(_bracketed(part, Or) for part in nodes)
        case Or(nodes):
            return " OR ".join(write(part) for part in nodes)
        case Not(inner):
            return f"NOT {_bracketed(inner, And | Or)}"
        case _:
            return _leaf(node)


def _leaf(leaf: Leaf) -> str:
    match leaf:
        case Words(found, field):
            return _named(field, found[0] if len(found) == 1 else f'"{" ".join(found)}"')
        case Exact(field, value):
            return _named(field, value if re.fullmatch(r"[\w./+-]+", value) else f'"{value}"')
        case Range(field, low, high):
            return _named(field, query_values.write(FIELDS[field], low, high))
        case _:
            return "*"


def _named(field: str | None, value: str) -> str:
    return value if field is None else f"{field}:{value}"


def _bracketed(node: Node, kinds: object) -> str:
    return f"({write(node)})" if isinstance(node, kinds) else write(node)  # type: ignore[arg-type]  # a union of types


class _Builder(Transformer[Token, Node | None]):
    """Makes the tree while the text is read, so that no depth of brackets needs recursion."""

    def start(self, found: list[Node]) -> Node | None:
        return found[0] if found else None

    def disjunction(self, found: list[Node]) -> Node:
        return _bounded(either(found))

    def conjunction(self, found: list[Node]) -> Node:
        return _bounded(both(found))

    def negation(self, found: list[Node]) -> Node:
        return _bounded(negated(found[0]))

    def everything(self, _found: list[Token]) -> Node:
        return Everything()

    def words(self, found: list[Token]) -> Node:
        return Words(_words(found[0]))

    def field(self, found: list[Token]) -> Node:
        name, value = found[0], found[-1]
        operator = str(found[1]) if len(found) > 2 else None  # noqa: PLR2004 - name, operator, value
        known = _field(name)
        kind = FIELDS[known]
        if kind not in {Kind.TEXT, Kind.EXACT}:
            low, high = query_values.bounds(kind, operator, _unquoted(value), _start(value))
            return Range(known, low, high)
        if operator:
            why = f"`{operator}` compares numbers and dates; {known} holds {kind.value}"
            raise Misread(_start(found[1]), why)
        if kind is Kind.TEXT:
            return Words(_words(value), known)
        return Exact(known, _exact(known, value))


def _bounded(node: Node) -> Node:
    # What is deep or long is refused while it is small enough to be looked through.
    if depth(node) > MAX_DEPTH:
        raise Misread(0, f"brackets stand in each other too deep: {MAX_DEPTH} are read")
    if sum(1 for _ in leaves(node)) > MAX_TERMS:
        raise Misread(0, f"there are more than {MAX_TERMS} words and fields: ask for less at once")
    return node


def _start(token: Token) -> int:
    return token.start_pos or 0


def _unquoted(token: Token) -> str:
    return token[1:-1] if token.type == "QUOTED" else str(token)


def _words(token: Token) -> tuple[str, ...]:
    text = _unquoted(token)
    if token.type == "VALUE" and "*" in text:
        _no_parts(_start(token) + text.index("*"))
    found = tuple(words(text))
    if not found:
        raise Misread(_start(token), f"no word in {token}: a word has letters or digits")
    if len(found) > MAX_TERMS:
        raise Misread(_start(token), f"there are more than {MAX_TERMS} words in it: ask for less at once")
    return found


def _exact(field: str, token: Token) -> str:
    if token.type == "VALUE" and "*" in token:
        _no_parts(_start(token) + token.index("*"))
    value = key(_unquoted(token))
    if not words(value):
        raise Misread(_start(token), f"no value in {token}: a value has letters or digits")
    if field == "status" and value not in list(Status):
        raise Misread(_start(token), f"status is one of {', '.join(Status)}")
    return value


def _field(token: Token) -> str:
    name = token[:-1].lower()
    name = ALIASES.get(name, name)
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f"is {near[0]} meant?" if near else f"quote words with a colon; the fields are {', '.join(FIELDS)}"
        raise Misread(_start(token), f"there is no field {token[:-1]}; {hint}")
    return name


def _no_parts(position: int) -> NoReturn:
    raise Misread(position, _WHOLE)


def _expected(error: UnexpectedCharacters | UnexpectedToken) -> str:
    terminals = (error.allowed if isinstance(error, UnexpectedCharacters) else error.expected) or ()
    if "VALUE" in terminals:
        return "a value"
    if "WORD" in terminals:
        return "a word or a field"
    return "`)`" if "RPAR" in terminals else "the end"


def _unexpected(rest: str, expected: str) -> str:
    """Say what is wrong with a text that goes on like this."""
    sign = rest[:1]
    if sign == '"':
        return "this quote is not closed"
    if sign == "*":
        return _WHOLE
    if sign == ":":
        return f"`:` comes after the name of a field ({', '.join(FIELDS)}); quote words that have one"
    if sign and sign in "<>=":
        return f"`{sign}` comes after a field and a colon, such as rows:>1000"
    if found := re.match(r"[A-Z]+", rest):
        return f"`{found[0]}` where {expected} should be; quote it if the word is meant"
    return f"{f'`{sign}`' if sign else 'the end'} where {expected} should be"


def _plain(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else " "


_PARSER = Lark(_GRAMMAR, parser="lalr", transformer=_Builder())
