"""Compare each vectorised filter with the function of the installed csv-detective."""

from __future__ import annotations

import random
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest
from csv_detective.format import FormatsManager
from hypothesis import given, settings
from hypothesis import strategies as st

from datafab.analysis import dates
from datafab.analysis.csv_detective import FORMATS, label_scores
from datafab.analysis.filters import FILTERS

TABLES = Path(__file__).resolve().parents[3].parent / "shared" / "corpus" / "tables"
THEIRS = FormatsManager().formats
EXAMPLES = sorted({str(value) for each in THEIRS.values() for values in each._test_values.values() for value in values})
SPELLED = [
    *("552100554", "73282932000074", "35600000000048", "732829320", "200000172", "243700754"),
    *("12 rue de la Paix", "Allée des Érables", "LIEU-DIT le Bourg", "rueDu Port", "place", "avenue ", "Za"),
    "plaZaX 3",
    *("lieu  dit Bel Air", "lieu   dit", "zone d\u2019aménagement concerté", "RUE_DU_BAC", "Grande rue", "ÉCART nord"),
    *("2024-02-29", "2023-02-29", "29/02/2024", "31/04/2024", "2024-02-29 23:59:59", "2024-13-01T10:00:00Z"),
    *("2024-01-01T10:00:00.123456+02:00", "1/2/2024 10:00", "01/02/2024 10:00", "01/02/2024 10:00:00", "0999-01-01"),
    *("0612345678", "06 12 34 56 78", "+33612345678", "06.12.34.56.78", "0033612345678", "061234567"),
    *("-0", "-0.5", "1,5", "1e5", "1.5e-5", "١٢", "00.5", "41.3", "51.30", "9.8", "-5.5", "90.0", "180.0", "6037008"),
    *("a@b.fr", "é@b.fr", "a@b.f", "https://é.fr", "https://data.gouv.fr/é à", "ftp://a.fr", "www.a.fr/", "@x_1"),
    *("12%", "-1,5 %", "12€", "1.5$", "", " ", "x\n", "W751234567", "W9C1234567", "0751234A"),
    "62320e50f981bc2b57bcc044",
]  # fmt: skip
SIGNS = "0123456789 .,-+/:TZ%€@_éÉàRrUuEe\n\t\xa0'"


def mutated(text: str, chances: random.Random) -> str:
    """Change one character or two, or put a few of them elsewhere."""
    signs = list(text)
    for _ in range(chances.randint(1, 2)):
        at = chances.randint(0, len(signs))
        match chances.randint(0, 3):
            case 0:
                signs.insert(at, chances.choice(SIGNS))
            case 1 if signs:
                signs[at % len(signs)] = chances.choice(SIGNS)
            case 2 if signs:
                del signs[at % len(signs)]
            case _:
                signs = [sign.upper() if chances.random() < 0.3 else sign for sign in signs]
    return "".join(signs)


@pytest.fixture(scope="module")
def values() -> list[str]:
    """csv-detective's own examples, ours, and what comes of changing them a little; cells of real files."""
    chances = random.Random(0)
    seeds = [*EXAMPLES, *SPELLED]
    found = {*seeds, *(mutated(seed, chances) for seed in seeds for _ in range(100))}
    if TABLES.is_dir():
        for path in sorted(TABLES.glob("*.csv")):
            text = path.read_bytes()[:20_000].decode("cp1252", "replace")
            found.update(
                cell.strip('"')[:300] for line in text.splitlines() for cell in line.split(";" if ";" in text else ",")
            )
    return sorted(found)


@pytest.mark.parametrize("name", FILTERS)
def test_what_a_filter_is_sure_of_csv_detective_says_too(name: str, values: list[str]):
    yes, sure = FILTERS[name](pa.array(values, pa.string()))
    theirs = THEIRS[name].func
    said = yes.to_pylist()
    assert [value for value, of_it in zip(values, said, strict=True) if of_it and not theirs(value)] == []
    assert any(said)
    if sure is not None:
        no = [value for value, of_it, known in zip(values, said, sure.to_pylist(), strict=True) if known and not of_it]
        assert [value for value in no if theirs(value)] == []
        assert len(no) > 1000


@given(
    texts=st.lists(
        st.text(st.sampled_from(SIGNS + "abcdefgrue placeALLÉZ\u2019"), max_size=30), min_size=1, max_size=20
    )
)
@settings(max_examples=200)
def test_addresses_are_decided_as_csv_detective_does(texts: list[str]):
    yes, sure = FILTERS["adresse"](pa.array(texts, pa.string()))
    for text, of_it, known in zip(texts, yes.to_pylist(), sure.to_pylist(), strict=True):
        assert not known or of_it == THEIRS["adresse"].func(text), text


@pytest.mark.parametrize("name", ["date", "datetime_naive", "datetime_aware"])
def test_what_is_read_as_a_date_csv_detective_reads(name: str, values: list[str]):
    found = dates.match_dates(name, pa.array(values, pa.string()))
    read = [value for value, of_it in zip(values, found.mask.to_pylist(), strict=True) if of_it]
    assert read
    assert set(found.representatives) <= set(read)
    assert [value for value in read if not THEIRS[name].func(value)] == []


moments = st.datetimes(datetime(1000, 1, 1), datetime(2999, 12, 31))  # noqa: DTZ001 - as files hold them
ways = st.sampled_from(
    ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%Y-%d-%m", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ",
     "%Y-%m-%dT%H:%M:%S.%f+02:00", "%Y-%m-%dT%H:%M:%S-05:30", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S",
     "%Y-%m-%d %H:%M:%S.%f"]
)  # fmt: skip


@given(data=st.data(), name=st.sampled_from(["date", "datetime_naive", "datetime_aware"]))
@settings(max_examples=300)
def test_the_values_that_stand_for_a_column_are_read_in_the_same_way_as_all_of_them(data, name):
    way = data.draw(ways)
    column = [moment.strftime(way) for moment in data.draw(st.lists(moments, min_size=1, max_size=12, unique=True))]
    if data.draw(st.booleans()):
        column.append(data.draw(moments).strftime(data.draw(ways)))
    column = list(dict.fromkeys(column))
    found = dates.match_dates(name, pa.array(column, pa.string()))
    rest = [value for value, of_it in zip(column, found.mask.to_pylist(), strict=True) if not of_it]
    # In the order in which they come, as the first of them says which ways there are.
    standing = [value for value in column if value in {*found.representatives, *rest}]
    assert THEIRS[name].infer(standing) == THEIRS[name].infer(column)
    assert THEIRS[name].infer([*found.representatives, *rest]) == THEIRS[name].infer(column)


HEADERS = [label for each in THEIRS.values() for label in each.labels]


@given(name=st.one_of(st.text(max_size=20), st.sampled_from(HEADERS), st.sampled_from(HEADERS).map(str.title)))
def test_a_name_says_what_csv_detective_says(name: str):
    assert label_scores(name) == {each.name: each.is_valid_label(name) for each in THEIRS.values()}


def test_formats_are_csv_detectives():
    assert list(FORMATS) == list(THEIRS)
    assert len(FORMATS) == 55
