"""The statements of docs/search.md are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datafab.index.query import FIELDS, MAX_RESULT_POSITION, Facet, Sort
from datafab.index.query_parser import MAX_DEPTH, MAX_QUERY_CHARS, MAX_TERMS, QueryError, parse_query

TEXT = (Path(__file__).parents[3] / "docs" / "search.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| (.*) \| (.*) \|$", TEXT, re.MULTILINE)[2:]


def test_every_example_can_be_read():
    examples = [example for row in TABLE for cell in row for example in re.findall(r"`([^`]+)`", cell)]
    read = [example for example in examples if not re.fullmatch(r"[a-z]+:|AND|Mo|MiB", example)]
    assert len(read) > 25
    for example in [*read, *re.findall(r"q=([^&]+)&", TEXT), *re.findall(r"search\('([^']+)'", TEXT)]:
        parse_query(example)


def test_every_name_is_told():
    for name in FIELDS:
        assert f"`{name}:`" in TEXT
    for name in [*Sort, *Facet]:
        assert re.search(rf"\b{name}\b", TEXT)
    for number in (MAX_QUERY_CHARS, MAX_TERMS, MAX_DEPTH, MAX_RESULT_POSITION):
        assert f"{number:,}" in TEXT


def test_the_error_is_the_one_that_comes():
    found = re.search(r"search '([^']+)'\n    error: (.*?)\n\n", TEXT, re.DOTALL)
    with pytest.raises(QueryError) as caught:
        parse_query(found[1])
    assert caught.value.message == found[2].replace("\n    ", "\n")
    assert f'"position": {caught.value.position}' in TEXT
