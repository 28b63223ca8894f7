"""Conditions: pure, by tables."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafab.core.condition import ANALYSIS_FIELDS, Condition, analysis_facts, parse
from datafab.core.document import document
from datafab.core.item import CollectFacts, Dataset, Item, Status
from datafab.errors import FlowError

ITEM = Item(
    source="endpoint:1",
    url="https://data.example.fr/été/communes.csv",
    media_type="text/csv",
    size=1200,
    dataset=Dataset(id="d1", title="Écoles d'Île-de-France"),
    collect=CollectFacts(endpoint="1", http_status=200),
)
KNOWN = {"formats": ("commune", "siret"), "columns": ("code postal", "siret"), "rows": 35}


def holds(text: str, item: Item = ITEM) -> bool:
    return parse(text).holds(item, lambda: KNOWN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("media_type = 'text/csv'", True),
        ("media_type = text/csv", True),
        ('media_type = "text/CSV"', False),
        ("media_type != text/csv", False),
        ("media_type has csv", True),
        ("url lacks '/été/'", False),
        ("size = 1200", True),
        ("size < 1200", False),
        ("size <= 1200", True),
        ("size>1e3", True),
        ("size >= 1200.5", False),
        ("status = ok", True),
        ('dataset.title = "Écoles d\'Île-de-France"', True),
        ("dataset.title has Île", True),
        ("collect.http_status = 200", True),
        ("formats has siret", True),
        ("formats lacks siren", True),
        ("columns has 'code postal'", True),
        ("rows > 34 and rows < 36", True),
        ("size > 1 and size < 1 or formats has siret", True),
        ("size < 1 or size > 1 and formats has siren", False),
        ("filename = 'and'", False),
    ],
)
def test_what_is_true_of_an_item(text: str, expected: bool):
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("filename = 'x'", False),
        ("filename != 'x'", True),
        ("filename has x", False),
        ("filename lacks x", True),
        ("size > 0", False),
        ("size <= 0", False),
        ("dataset.title = x", False),
        ("collect.plugin != wfs", True),
    ],
)
def test_what_an_item_does_not_have_is_nothing(text: str, expected: bool):
    assert holds(text, Item(source="s")) is expected


def test_the_analysis_is_read_only_where_it_is_asked_for():
    def unread() -> dict:
        raise AssertionError

    assert parse("size > 1").holds(ITEM, unread)
    assert parse("formats lacks siret").holds(ITEM, dict)
    assert parse("size > 1 and formats has siret").needs == {"size", "analysis"}
    assert parse("dataset.title = x or rows > 1").needs == {"dataset", "analysis"}


def test_the_facts_are_those_of_the_index():
    analysis = {"header": ["n° siret", "nom"], "columns": {"n° siret": {"format": "siret"}}, "total_lines": 3}
    facts = analysis_facts(document(ITEM, analysis, 0))
    assert facts == {"formats": ("siret",), "columns": ("n° siret", "nom"), "rows": 3}
    assert facts.keys() == ANALYSIS_FIELDS.keys()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'nothing' is not one"),
        ("size", "a comparison is `field operator value`, 'size' is not one"),
        ("size >", "'size >' is not one"),
        ("size > 1 and", "'nothing' is not one"),
        ("or size > 1", "items have no field 'or'"),
        ("colour = red", "items have no field 'colour' to compare; there are analysis, "),
        ("dataset = x", "items have no field 'dataset' to compare"),
        ("dataset.colour = x", "no field 'dataset.colour'"),
        ("source.x = x", "no field 'source.x'"),
        ("collect.parameters = x", "no field 'collect.parameters'"),
        ("v = 1", "no field 'v'"),
        ("size has 1", "'size' is a number, which 'has' does not compare; =, !=, <, <=, >, >= do"),
        ("formats = siret", "'formats' is a list, which '=' does not compare; has, lacks do"),
        ("media_type > a", "'media_type' is a text, which '>' does not compare"),
        ("media_type == a", "no value after 'media_type' =; quote it if '=' is meant"),
        ("media_type is a", "'is' does not compare"),
        ("size > many", "'size' is a number, and many is not"),
        ("size > '1,5'", "'size' is a number, and '1,5' is not"),
        ("dataset.title = code postal", "'postal' where `and`, `or` or the end should be; quote values"),
        ("filename = 'x", 'cannot be read from "\'x" on; is a quote missing'),
        ("filename = and size > 1", "no value after 'filename' =; quote it if 'and' is meant"),
        ("filename ! x", "cannot be read from '! x' on"),
    ],
)
def test_what_is_no_condition_says_why(text: str, says: str):
    with pytest.raises(FlowError, match=says) as raised:
        parse(text)
    assert repr(text) in raised.value.message
    assert raised.value.code == "condition"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("size > 1", "size > 1", True),
        ("size > 1 and status = ok", "size > 1", True),
        ("size > 1", "size > 1 and status = ok", False),
        ("size > 1", "size > 1 or status = ok", True),
        ("size > 1 or status = ok", "size > 1", False),
        ("size > 1 and status = ok or size > 1 and rows > 2", "size > 1", True),
        ("size > 2", "size > 1", False),  # only words are compared
    ],
)
def test_implies(one: str, other: str, expected: bool):
    assert parse(one).implies(parse(other)) is expected


comparisons = st.sampled_from(
    ["size > 1000", "size < 10", "media_type = text/csv", "media_type has xml", "formats has siret", "rows > 99"]
)


@given(st.lists(st.lists(comparisons, min_size=1, max_size=3), min_size=1, max_size=3))
def test_and_binds_closer_than_or(groups: list[list[str]]):
    text = " or ".join(" and ".join(group) for group in groups)
    assert holds(text) == any(all(holds(one) for one in group) for group in groups)


@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_a_clear_error(text: str):
    with suppress(FlowError):
        assert isinstance(parse(text), Condition)


@given(st.sampled_from(Status), st.none() | st.integers(0, 2**40))
def test_a_comparison_and_its_contrary_never_agree(status: Status, size: int | None):
    item = Item(source="s", status=status, size=size)
    assert holds("status = failed", item) != holds("status != failed", item)
    assert holds("size = 7", item) != holds("size != 7", item)
