"""Types that a data dictionary chooses: what they take, what is sent for it, and what is named when it cannot be."""

from __future__ import annotations

import pytest

from datafab.errors import Fatal
from datafab.push.column_types import Field, chosen_columns, make_plan
from datafab.push.guessed_types import guess_columns


def chosen(kind: str, *cells: str, separator: str = ";", order: str | None = None, by: str = "") -> Field:
    dictionary = {"a": {"type_override": kind}, "gone": {"type_override": "money"}}
    looked_at = chosen_columns(["a"], None, dictionary, separator=separator, order=order, by=by)
    rows = [(line, [cell]) for line, cell in enumerate(cells, 2)]
    count, guesses = guess_columns(rows, 1, separator=separator, chosen=looked_at)
    return make_plan(["a"], count, guesses, dictionary).fields[0]


def sent(kind: str, *cells: str, separator: str = ";", order: str | None = None) -> list[str | None]:
    field = chosen(kind, *cells, separator=separator, order=order)
    return [field.value(cell) for cell in cells]


NUMBERS = {
    "leading zeros": (["007", "0"], ["007", "0"]),
    "exponents": (["1.5E-03", "1e5", "2"], ["1.5E-03", "1e5", "2"]),
    "signs": (["+1", "-.5", "+33612345678"], ["+1", "-.5", "+33612345678"]),
    "blanks": ([" 12 ", "\u00a0", "", "\t3\u00a0"], ["12", None, None, "3"]),
    "none of them": (["NaN", "Infinity", "-inf"], ["NaN", "Infinity", "-inf"]),
    "half written": (["1.", ".5"], ["1.", ".5"]),
    "underscores": (["1_000", "0x1F"], ["1000", "31"]),
    "identifiers": (["732829320", "012345678"], ["732829320", "012345678"]),
    "many digits": (["9" * 300 + ".5"], ["9" * 300 + ".5"]),
    "decimal comma": (["1,5", "2", "3,5E-03"], ["1.5", "2", "3.5E-03"]),
    "thousands": (["6,200.00", "1,234", "828.00"], ["6200.00", "1234", "828.00"]),
    "French thousands": (["6 200,00", "+7,5"], ["6200.00", "+7.5"]),
    "blank thousands": (["6 200", "12"], ["6200", "12"]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_a_chosen_number_takes_what_postgresql_takes(case: str):
    cells, values = NUMBERS[case]
    assert sent("numeric", *cells) == values
    assert chosen("numeric", *cells).type == "numeric"


DATES = {
    "DataPusher's": ("31 Jan 2020", "2020-01-31T00:00:00"),
    "American": ("01/31/2020 01:20:00 PM", "2020-01-31T13:20:00"),
    "day first": ("31/01/2020 08:30", "2020-01-31T08:30:00"),
    "short year": ("31/12/99", "1999-12-31T00:00:00"),
    "ISO": ("2020-01-31T08:30:00.25", "2020-01-31T08:30:00.250000"),
    "packed": ("20200131T083000", "2020-01-31T08:30:00"),
    "stamp": ("20200131083000", "2020-01-31T08:30:00"),
    "month first": ("January 8, 1999", "1999-01-08T00:00:00"),
    "hyphens": ("08-Jan-99", "1999-01-08T00:00:00"),
    "French": ("1er février 2020", "2020-02-01T00:00:00"),
    "RFC 822": ("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37"),
    "ctime": ("Wed Jan 31 08:00:00 2020", "2020-01-31T08:00:00"),
    "zone": ("2020-01-31 01:00:00+02:00", "2020-01-30T23:00:00"),
    "place": ("2020-07-31 01:00 Europe/Paris", "2020-07-30T23:00:00"),
    "day of the year": ("2020-031", "2020-01-31T00:00:00"),
    "Julian": ("J2451187", "1999-01-08T00:00:00"),
    "end of a day": ("2020-01-31 24:00", "2020-02-01T00:00:00"),
    "before Christ": ("January 8, 99 BC", "0099-01-08T00:00:00 BC"),
    "far": ("12020-02-29", "12020-02-29T00:00:00"),
    "never": ("infinity", "infinity"),
    "blanks": (" 2020-01-31  ", "2020-01-31T00:00:00"),
    "same either way": ("02.02.2020", "2020-02-02T00:00:00"),
}


@pytest.mark.parametrize("case", DATES)
def test_a_chosen_timestamp_takes_what_postgresql_and_datapusher_take(case: str):
    cell, value = DATES[case]
    assert sent("timestamp", cell, " ") == [value, None]
    if case not in {"zone", "place"}:
        assert sent("date", cell)[0] in {value[:10], value}


def test_forms_of_one_column_may_differ():
    cells = ["31 Jan 2020", "01/31/2020 01:20:00 PM", "2020-02-01", "02/03/2020"]
    assert sent("timestamp", *cells) == [
        "2020-01-31T00:00:00", "2020-01-31T13:20:00", "2020-02-01T00:00:00", "2020-02-03T00:00:00"
    ]  # fmt: skip


def test_dates_of_both_orders_are_read_where_each_says_for_itself():
    assert sent("timestamp", "13/01/2020", "01/14/2020") == ["2020-01-13T00:00:00", "2020-01-14T00:00:00"]


@pytest.mark.parametrize(("order", "day"), [("dmy", "2020-01-02"), ("mdy", "2020-02-01")])
def test_an_order_decides_for_dates_that_do_not_say_and_a_log_tells(order: str, day: str):
    assert sent("date", "02/01/2020", order=order) == [day]
    dictionary = {"a": {"type_override": "timestamp"}}
    (column,) = chosen_columns(["a"], None, dictionary, separator=";", order=order, by="DATAFAB_DATE_ORDER").values()
    column.observe("02/01/2020", 2)
    column.decide()
    assert column.notes[0].startswith("column 'a': dates such as '02/01/2020' can be read day first or month first")
    assert column.notes[0].endswith("first, as DATAFAB_DATE_ORDER says")


def test_the_column_outweighs_an_order():
    assert sent("timestamp", "13/01/2020", "02/01/2020", order="mdy")[1] == "2020-01-02T00:00:00"


@pytest.mark.parametrize(
    ("kind", "cells", "values"),
    [
        ("int", ["+1", "007", "1_0", " "], ["1", "7", "10", None]),
        ("bigint", ["9223372036854775807"], ["9223372036854775807"]),
        ("float8", ["1.5E-03", "inf", "1,5"], None),
        ("double precision", ["1.5E-03", "inf"], ["1.5E-03", "inf"]),
        ("bool", ["t", "YES", "on", "1", "oui", "f", "no", "off", "0", "Faux"], ["true"] * 5 + ["false"] * 5),
        ("time", ["08:30", "1:20 PM", "24:00"], ["08:30:00", "13:20:00", "24:00:00"]),
        ("json", ['{"a": 1}', "null", "1e400"], ['{"a": 1}', "null", "1e400"]),
        ("jsonb", ["[]"], ["[]"]),
        ("uuid", ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"], ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"]),
        ("timestamptz", ["2020-01-31 08:30+02"], ["2020-01-31T08:30:00+02:00"]),
        ("text", ["007", " 1,5", "NaN", ""], ["007", " 1,5", "NaN", None]),
        ("TEXT", ["007"], ["007"]),
    ],
)
def test_what_other_types_take(kind: str, cells: list[str], values: list[str | None] | None):
    if values is None:
        with pytest.raises(Fatal, match="line 4 holds '1,5'"):
            sent(kind, *cells)
    else:
        assert sent(kind, *cells) == values


@pytest.mark.parametrize(
    ("kind", "cells", "line", "value"),
    [
        ("numeric", ["1", "N/A"], 3, "N/A"),
        ("numeric", ["1.5", "1,5"], 3, "1,5"),
        ("numeric", ["- 1"], 2, "- 1"),
        ("numeric", ["1e131072"], 2, "1e131072"),
        ("numeric", ["01 23 45 67 89"], 2, "01 23 45 67 89"),
        ("numeric", ["\u0661"], 2, "\u0661"),
        ("timestamp", ["2020-01-31", "soon"], 3, "soon"),
        ("timestamp", ["2020-02-30"], 2, "2020-02-30"),
        ("timestamp", ["31/31/2020"], 2, "31/31/2020"),
        ("timestamp", ["Jan 2020"], 2, "Jan 2020"),
        ("timestamp", ["2020"], 2, "2020"),
        ("timestamp", ["12:00"], 2, "12:00"),
        ("timestamp", ["today"], 2, "today"),
        ("timestamp", ["201211"], 2, "201211"),
        ("timestamp", ["2020-01-31 25:00"], 2, "2020-01-31 25:00"),
        ("timestamp", ["2020-01-31 13:20 PM"], 2, "2020-01-31 13:20 PM"),
        ("timestamp", ["2020-01-31 08:30 Nowhere/Here"], 2, "2020-01-31 08:30 Nowhere/Here"),
        ("int", ["1.0"], 2, "1.0"),
        ("int", ["2147483648"], 2, "2147483648"),
        ("real", ["1e39"], 2, "1e39"),
        ("bool", ["o"], 2, "o"),
        ("time", ["2020-01-31 08:30"], 2, "2020-01-31 08:30"),
        ("json", ["NaN"], 2, "NaN"),
        ("json", ["{'a': 1}"], 2, "{'a': 1}"),
        ("jsonb", [r'"\u0000"'], 2, r'"\u0000"'),
        ("jsonb", [r'"\ud800"'], 2, r'"\ud800"'),
        ("uuid", ["{a0eebc999c0b4ef8bb6d6bb9bd380a11"], 2, "{a0eebc999c0b4ef8bb6d6bb9bd380a11"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_its_line_and_column(
    kind: str, cells: list[str], line: int, value: str
):
    with pytest.raises(Fatal) as raised:
        chosen(kind, *cells)
    assert (raised.value.code, raised.value.field) == ("type_override", "a")
    assert raised.value.message.startswith("column 'a': its data dictionary says ")
    assert f"line {line} holds {value!r}: correct one of the two" in raised.value.message


@pytest.mark.parametrize(
    ("kind", "cells", "line", "why"),
    [
        ("timestamp", ["", "01/02/2020", "03/02/2020"], 3, "set date_order of the job, or DATAFAB_DATE_ORDER"),
        ("timestamp", ["13/01/2020", "01/13/2020", "01/02/2020"], 4, "other dates of the column are of both kinds"),
        ("date", ["13-02-20"], 2, "set date_order of the job"),
        ("numeric", ["12", "1,234"], 3, "which may be thousands or decimals"),
    ],
)
def test_a_value_that_reads_in_two_ways_is_named_too(kind: str, cells: list[str], line: int, why: str):
    with pytest.raises(Fatal, match=f"line {line} holds '.*{why}") as raised:
        chosen(kind, *cells, separator=",")
    assert raised.value.code == "type_override"


@pytest.mark.parametrize("kind", ["money", "numeric(10,2)", "nothing"])
def test_a_type_that_no_datastore_has_is_named_with_those_that_it_has(kind: str):
    with pytest.raises(
        Fatal, match=r"column 'a': its data dictionary says .*: choose one of text, bigint, numeric"
    ) as raised:
        chosen(kind, "1")
    assert (raised.value.code, raised.value.field) == ("unsupported", "a")
