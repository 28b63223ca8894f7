"""Ambiguous dates are kept as text with a warning, unless a job, a setting or another column decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from datafab.analysis.day_order import (
    NO_PREFERENCE,
    DateOrderPreference,
    apply_order,
    date_order_preference,
    order_warnings,
)
from datafab.analysis.detective import Detective
from datafab.errors import FlowError
from datafab.push.column_types import analysed_columns, make_plan

MONTHLY = [f"{month:02}/01/2020" for month in range(1, 13)]
DMY, MDY = DateOrderPreference("dmy"), DateOrderPreference("mdy")


def analysed(
    folder: Path, columns: dict[str, list[str]], order: DateOrderPreference = NO_PREFERENCE, **options: Any
) -> dict[str, Any]:
    rows = [columns, *zip(*columns.values(), strict=True)]
    (folder / "table.csv").write_text("".join(";".join(row) + "\n" for row in rows), encoding="utf-8")
    found = Detective(date_order=order).analyse(folder / "table.csv", **options)
    return json.loads(json.dumps(found))


def pushed(analysis: dict[str, Any], order: DateOrderPreference = NO_PREFERENCE) -> list[str]:
    """Return the types that a push gives the columns."""
    analysis = analysis | {"schema": {"fields": apply_order(analysis["schema"]["fields"], order)}}
    header = analysis["header"]
    columns = analysed_columns(analysis, len(header)) or []
    return [field.type.value for field in make_plan(header, 1, columns, {}).fields]


@pytest.mark.parametrize(
    "dates",
    [
        MONTHLY,
        [date.replace("/", "-") for date in MONTHLY],
        [date.replace("/", ".") for date in MONTHLY],
        ["1/2/2020", "12/11/2021"],
        [f"{date} 08:30" for date in MONTHLY],
        [f"{date} 08:30:59" for date in MONTHLY],
        [f"{date}T08:30:59.5" for date in MONTHLY],
        [f"{date} 08:30:00+02:00" for date in MONTHLY],
        [f"{date} 08:30 PM" for date in MONTHLY],
        [f"{date} " for date in MONTHLY],
        ["", *MONTHLY],
        ["01/01/2020"],
        [f"{day % 12 + 1:02}/{month:02}/{year}" for year in range(1900, 2000) for day in range(12) for month in (3, 9)],
    ],
    ids=repr,
)
def test_dates_that_read_both_ways_are_texts_unless_somebody_says(tmp_path: Path, dates: list[str]):
    found = analysed(tmp_path, {"month": dates, "n": [str(n) for n, _ in enumerate(dates)]})
    field = found["schema"]["fields"][0]
    assert field["type"] == "string"
    assert pushed(found) == ["text", "bigint"]
    (line,) = order_warnings(found["schema"]["fields"])
    assert line.startswith("column 'month': dates such as '")
    assert "kept as text; set date_order of the job, or DATAFAB_DATE_ORDER, to dmy or mdy" in line
    for order in (DMY, MDY):
        assert pushed(found, order)[0].startswith("timestamp")
        assert pushed(analysed(tmp_path, {"month": dates}, order))[0] == "text"  # the push has its own say


@pytest.mark.parametrize(("order", "first"), [(DMY, "2020-01-02T00:00:00"), (MDY, "2020-02-01T00:00:00")])
def test_a_setting_decides(tmp_path: Path, order: DateOrderPreference, first: str):
    found = analysed(tmp_path, {"month": ["02/01/2020", "03/01/2020"]}, order)
    assert found["schema"]["fields"][0]["type"] == "date"
    (field,) = make_plan(["month"], 2, analysed_columns(found, 1) or [], {}).fields
    assert (field.type, field.value("02/01/2020")) == ("timestamp", first)
    read = "day first" if order is DMY else "month first"
    (line,) = order_warnings(found["schema"]["fields"])
    assert line.startswith("column 'month': dates such as '02/01/2020' can be read day first or month first; ")
    assert line.endswith(f"they are read {read}, as DATAFAB_DATE_ORDER says")


@pytest.mark.parametrize(
    ("other", "kind"),
    [
        (["13/02/2020", "01/02/2020"], "2020-01-02T00:00:00"),
        (["02-13-2020 10:00", "02-01-2020 11:00"], "2020-02-01T00:00:00"),
        (["2020-02-13", "2020-02-01"], None),
        (["05/06/2020", "07/08/2020"], None),
        (["13/02/20", "01/02/20"], None),
    ],
)
def test_the_other_dates_of_the_file_decide(tmp_path: Path, other: list[str], kind: str | None):
    found = analysed(tmp_path, {"month": ["02/01/2020", "03/01/2020"], "day": other})
    field = make_plan(found["header"], 2, analysed_columns(found, 2) or [], {}).fields[0]
    assert field.type == ("text" if kind is None else "timestamp")
    if kind is not None:
        assert field.value("02/01/2020") == kind
        assert "as column 'day' says" in order_warnings(found["schema"]["fields"])[0]


def test_two_columns_of_either_kind_decide_nothing(tmp_path: Path):
    columns = {"a": ["01/02/2020"], "b": ["13/02/2020"], "c": ["02/13/2020"]}
    assert pushed(analysed(tmp_path, columns)) == ["text", "timestamp", "timestamp"]
    assert pushed(analysed(tmp_path, columns), DMY) == ["timestamp"] * 3


def test_a_job_outweighs_the_file_and_the_file_a_setting(tmp_path: Path):
    found = analysed(tmp_path, {"a": ["01/02/2020"], "b": ["13/02/2020"]})
    for order, way in ((MDY, "%d/%m/%Y"), (date_order_preference({"date_order": "mdy"}, "dmy"), "%m/%d/%Y")):
        assert [field["format"] for field in apply_order(found["schema"]["fields"], order)] == [way, "%d/%m/%Y"]


def test_dates_with_short_years_are_texts_in_any_order(tmp_path: Path):
    found = analysed(tmp_path, {"month": ["01/02/20", "02/02/20"]}, DMY)
    assert pushed(found, MDY) == ["text"]
    (line,) = order_warnings(found["schema"]["fields"])
    assert line.startswith("column 'month': dates such as '01/02/20' can be read day first or month first, ")
    assert line.endswith("and their years have two digits: they are kept as text")


@pytest.mark.parametrize(
    "dates", [["13/01/2020", "01/13/2020"], ["13/01/2020", "01/13/2020", "02/02/2020"], ["13/13/2020"], ["01/02"]]
)
def test_dates_that_no_order_reads_are_texts(tmp_path: Path, dates: list[str]):
    assert pushed(analysed(tmp_path, {"month": dates}, DMY), DMY) == ["text"]


def test_a_parquet_file_has_what_the_schema_says(tmp_path: Path):
    target = tmp_path / "typed.parquet"
    columns = {"month": ["02/01/2020 ", "03/01/2020"], "spent": ["6 200,00", "7,5"], "paid": ["24 October 2011", " "]}
    kinds = {}
    for order in (DateOrderPreference(), DMY, MDY):
        analysed(tmp_path, columns, order, parquet=target)
        table = pq.read_table(target)
        kinds[order.order] = (str(table["month"].type), str(table["month"][0]))
        assert table["spent"].to_pylist() == [6200.0, 7.5]
        assert [str(each) for each in table["paid"].to_pylist()] == ["2011-10-24", "None"]
    assert kinds == {
        "none": ("string", "02/01/2020 "), "dmy": ("date32[day]", "2020-01-02"), "mdy": ("date32[day]", "2020-02-01")
    }  # fmt: skip


def test_a_parquet_file_has_moments_of_the_afternoon(tmp_path: Path):
    target = tmp_path / "typed.parquet"
    analysed(tmp_path, {"at": ["01/31/2020 01:20:00 PM"]}, parquet=target)
    assert [str(each) for each in pq.read_table(target)["at"].to_pylist()] == ["2020-01-31 13:20:00"]


def test_a_job_names_one_of_the_orders():
    assert date_order_preference({}, "mdy") == DateOrderPreference("mdy")
    assert date_order_preference({"metadata": {"date_order": "none"}}, "mdy").order == "none"
    with pytest.raises(FlowError, match="date_order is 'ymd': it must be one of dmy, mdy, none"):
        date_order_preference({"date_order": "ymd"}, "none")
