"""What a real CKAN's PostgreSQL keeps of dates that read both ways, and of types that a data dictionary chooses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from datafab.analysis.moments import format_moment, parse_moment, possible_readings
from datafab.analysis.numerals import to_numeric
from datafab.errors import FlowError
from tests.integration.test_ckan import Push, Site
from tests.servers import http
from tests.servers.ckan import RealCkan, missing, real_ckan
from tests.unit.push.test_chosen_types import DATES, NUMBERS


@pytest.fixture(scope="module")
def real() -> Iterator[RealCkan]:
    if why := missing():
        assert os.environ.get("CI") != "true", why
        pytest.skip(why)
    with real_ckan() as ckan:
        yield ckan


@pytest.fixture(scope="module")
def portal() -> Iterator[http.Site]:
    with http.Site({}) as site:
        yield site


class Table:
    """A table that is pushed into the real CKAN, with what a data dictionary says of its columns."""

    def __init__(self, real: RealCkan, portal: http.Site, home: Path) -> None:
        self.real = real
        self.portal = portal
        self.site = Site(real.url, real.token)
        self.push = Push(self.site, home)

    def __call__(self, text: str, chosen: dict[str, str] | None = None, **params: Any) -> str:
        """Push it; return the resource."""
        self.portal.answers["/table.csv"] = http.Answer(text.encode())
        resource = self.site.resource(url=self.portal.url("/table.csv"))
        fields = [
            {"id": name, "type": "text", "info": {"type_override": kind}} for name, kind in (chosen or {}).items()
        ]
        if fields:
            self.site.result("datastore_create", resource_id=resource, force=True, fields=fields, records=[])
        self.counts, self.jobs = self.push(resource, **params)
        return resource

    def types(self, resource: str) -> list[str]:
        return [field["type"] for field in self.site.result("datastore_info", id=resource)["fields"]]

    def sql(self, resource: str, column: str = "a") -> list[str]:
        return [row[0] for row in self.real.sql(f'select "{column}"::text from "{resource}" order by _id')]  # noqa: S608 - names of ours

    @property
    def warnings(self) -> list[str]:
        return [line["event"] for line in self.jobs.logs() if line["level"] == "warning"]

    @property
    def error(self) -> str:
        (error,) = self.jobs.failures().values()
        return error.message


@pytest.fixture
def table(real: RealCkan, portal: http.Site, tmp_path: Path) -> Table:
    return Table(real, portal, tmp_path)


MONTHS = "".join(f"{month:02}/01/2020,{month}\n" for month in range(1, 13))


def test_dates_that_read_both_ways_stay_as_they_stand(table: Table):
    resource = table(f"month,v\n{MONTHS}")
    assert table.types(resource) == ["text", "int8"]
    assert table.sql(resource, "month")[:2] == ["01/01/2020", "02/01/2020"]
    (line,) = table.warnings
    assert line.startswith("column 'month': dates such as ")
    assert "kept as text; set date_order of the job" in line


@pytest.mark.parametrize(("order", "second"), [("mdy", "2020-02-01 00:00:00"), ("dmy", "2020-01-02 00:00:00")])
def test_a_job_says_how_they_are_read(table: Table, order: str, second: str):
    resource = table(f"month,v\n{MONTHS}", date_order=order)
    assert table.types(resource) == ["timestamp", "int8"]
    assert table.sql(resource, "month")[1] == second
    assert table.site.rows(resource)[1]["month"] == second.replace(" ", "T")
    assert table.warnings[0].endswith("first, as the job's date_order says")


def test_another_column_says_how_they_are_read(table: Table):
    resource = table("from,to\n02/01/2020,02/13/2020\n03/01/2020,03/02/2020\n")
    assert table.types(resource) == ["timestamp", "timestamp"]
    assert table.sql(resource, "from") == ["2020-02-01 00:00:00", "2020-03-01 00:00:00"]
    assert table.warnings[0].endswith("they are read month first, as column 'to' says")


def test_a_chosen_column_is_named_too_where_a_setting_or_a_zone_decides(table: Table):
    text = "month,at\n02/01/2020,2020-01-31T23:30:00-05:00\n"
    resource = table(text, {"month": "timestamp", "at": "timestamp"}, date_order="dmy")
    assert table.types(resource) == ["timestamp", "timestamp"]
    assert table.sql(resource, "month") == ["2020-01-02 00:00:00"]
    assert table.sql(resource, "at") == ["2020-02-01 04:30:00"]
    month, at = sorted(table.warnings, key=len, reverse=True)
    assert month.startswith("column 'month': ")
    assert month.endswith("they are read day first, as the job's date_order says")
    assert at == "column 'at': its times with a zone are converted to UTC, as a timestamp has no zone"


def test_a_column_that_is_chosen_as_text_needs_no_warning(table: Table):
    resource = table("month\n02/01/2020\n", {"month": "text"})
    assert (table.sql(resource, "month"), table.warnings) == (["02/01/2020"], [])


def test_a_warning_is_given_for_the_right_columns_of_a_table_off_the_corner(table: Table):
    resource = table(";month;n\n;02/01/2020;007\n;03/01/2020;8\n", {"n": "numeric"})
    assert (table.types(resource), table.sql(resource, "n")) == (["text", "numeric"], ["7", "8"])
    assert [line for line in table.warnings if line.startswith("column 'month': dates such as ")]


def test_a_wrong_order_is_refused(table: Table):
    with pytest.raises(FlowError, match="date_order is 'ymd': it must be one of dmy, mdy, none"):
        table("a\n1\n", date_order="ymd")


def written(columns: dict[str, list[str]]) -> str:
    """Return a table with these columns, filled up with blank cells; the first numbers its rows."""
    rows = zip_longest(*columns.values(), fillvalue="")
    quoted = [[cell.replace('"', '""') for cell in row] for row in [columns, *rows]]
    return "".join(";".join([f'"{at}"', *(f'"{cell}"' for cell in row)]) + "\n" for at, row in enumerate(quoted))


def test_chosen_numbers_are_kept_exactly(table: Table):
    resource = table(written({name: cells for name, (cells, _) in NUMBERS.items()}), dict.fromkeys(NUMBERS, "numeric"))
    assert table.counts.ok == 1, table.jobs.failures()
    assert table.types(resource)[1:] == ["numeric"] * len(NUMBERS)
    for name, (_, values) in NUMBERS.items():
        asked = [f"select '{value}'::numeric;" if value else "select null;" for value in values]
        assert table.sql(resource, name)[: len(values)] == [row[0] for row in table.real.sql("\n".join(asked))], name


def test_dates_that_are_chosen_are_kept(table: Table):
    cases = {name: DATES[name] for name in DATES if name != "short year"}
    text = "n;a\n" + "".join(f"{at};{cell}\n" for at, (cell, _) in enumerate(cases.values()))
    resource = table(text, {"a": "timestamp"}, date_order="mdy")
    assert table.counts.ok == 1, table.jobs.failures()
    assert table.types(resource) == ["int8", "timestamp"]
    kept = dict(zip(cases, table.sql(resource), strict=True))
    assert kept == {name: value.replace("T", " ").replace(".250000", ".25") for name, (_, value) in cases.items()}
    assert "column 'a': its times with a zone are converted to UTC, as a timestamp has no zone" in table.warnings


@pytest.mark.parametrize("datestyle", ["ISO, MDY", "ISO, DMY", "ISO, YMD", "German"])
def test_what_is_sent_is_read_in_one_way_whatever_the_datestyle(real: RealCkan, datestyle: str):
    sent = [format_moment(read, zone=False) for cell, _ in DATES.values() for read in possible_readings(cell).values()]
    asked = "\n".join(f"select to_char('{each}'::timestamp, 'YYYY-MM-DD HH24:MI:SS AD');" for each in sent)
    assert real.sql(asked, datestyle=datestyle) == real.sql(asked)


#: Forms whose reading PostgreSQL and we must share, under the DateStyle that is our order. ``TZ`` names a zone, which
#: PostgreSQL leaves out of a timestamp and we do not.
FORMS = [
    "2020-1-2", "2020/01/02", "2020.01.02", "2020 01 02", "20200131", "2020.031", "2020-031", "J2451187", "1/2/2020",
    "1-2-2020", "01.02.2020", "01 02 2020", "13.02.2020", "02/13/20", "13/02/20", "Jan-08-1999", "1999-Jan-08",
    "Jan-08-99", "2020 31 Jan", "31/Jan/2020", "Fri 31 Jan 2020", "Friday, January 31, 2020", "Sept 3 2020",
    "8 Jan 99 BC", "2020-01-31 BC", "0001-01-01", "0000-01-01", "12020-01-01", "2020-02-30", "2019-02-29",
    "2020-01-31 083000", "2020-01-31T0830", "2020-01-31 8:30", "2020-01-31 08", "2020-01-31 1:20PM",
    "2020-01-31 1 PM", "2020-01-31 00:20 AM", "2020-01-31 00:20 PM", "2020-01-31 12:20 AM", "2020-01-31 13:20 PM",
    "2020-01-31 23:59:60", "2020-01-31 24:00:01", "2020-01-31 08:30:00.1234567", "2020-01-31T", "04:05 Jan 8 1999",
    "Jan 31 2020 1:20:00 PM", "12:00", "2020", "Jan 2020", "2020-13-02", "soon", "1/2/2020 3:04",
]  # fmt: skip


@pytest.mark.parametrize("order", ["mdy", "dmy"])
def test_forms_of_dates_are_read_as_postgresql_reads_them(real: RealCkan, order: str):
    theirs = tried(real, FORMS, "timestamp", datestyle=f"ISO, {order.upper()}")
    read = [_read(form, order) for form in FORMS]
    ours = tried(real, read, "timestamp")
    for form, their, our in zip(FORMS, theirs, ours, strict=True):
        # We may take what one DateStyle refuses only if no other reads it as another day.
        assert their == our or (not their and len(set(map(str, possible_readings(form).values()))) == 1), form


def _read(form: str, order: str) -> str:
    try:
        return format_moment(parse_moment(form, order), zone=False)
    except ValueError:
        return ""


TRY = """
create or replace function pg_temp.read(x text) returns text as $$
begin return x::{kind}::text; exception when others then return ''; end $$ language plpgsql;
"""


def tried(real: RealCkan, values: list[str], kind: str, *, datestyle: str = "ISO, MDY") -> list[str]:
    """Return what PostgreSQL makes of values; nothing where it refuses one."""
    asked = "\n".join(f"select pg_temp.read('{value}');" for value in values)
    return [row[0] for row in real.sql(TRY.format(kind=kind) + asked, datestyle=datestyle)]


OTHERS = {
    "int": (["+1", "007", ""], [1, 7, None]),
    "bigint": (["9223372036854775807"], [9223372036854775807]),
    "smallint": (["-32768"], [-32768]),
    "float8": (["1.5E-03", "NaN"], [0.0015, "NaN"]),
    "real": (["1.5"], [1.5]),
    "bool": (["t", "yes", "ON", "1", "off", "oui", " "], [True, True, True, True, False, True, None]),
    "date": (["31 Jan 2020", "2020-02-01 08:30"], ["2020-01-31", "2020-02-01"]),
    "time": (["1:20 PM"], ["13:20:00"]),
    "timestamptz": (["2020-01-31T08:30:00+02:00"], ["2020-01-31T06:30:00+00:00"]),
    "json": (['{"a": 1}'], ['{"a": 1}']),
    "jsonb": (['{"a": 1}'], [{"a": 1}]),
    "uuid": (["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"], ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "text": (["007", "01/02/2020", "1,5"], ["007", "01/02/2020", "1,5"]),
}


def test_other_types_of_ckan_are_obeyed(table: Table):
    resource = table(written({kind: cells for kind, (cells, _) in OTHERS.items()}), {kind: kind for kind in OTHERS})
    assert table.counts.ok == 1, table.jobs.failures()
    rows = table.site.rows(resource)
    for kind, (_, values) in OTHERS.items():
        assert [row[kind] for row in rows][: len(values)] == values, kind


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("numeric", "N/A", "line 3 holds 'N/A'"),
        ("timestamp", "01/02/2020", "line 3 holds '01/02/2020', which can be read day first or month first"),
        ("int", "1.5", "line 3 holds '1.5'"),
    ],
)
def test_what_cannot_be_read_is_named_before_anything_is_deleted(table: Table, kind: str, value: str, said: str):
    table.portal.answers["/table.csv"] = http.Answer(f"n;a\n1;\n2;{value}\n".encode())
    resource = table.site.resource(url=table.portal.url("/table.csv"))
    fields = [{"id": "a", "type": "text", "info": {"type_override": kind}}]
    table.site.result("datastore_create", resource_id=resource, force=True, fields=fields, records=[{"a": "old"}])
    table.counts, table.jobs = table.push(resource)
    assert table.counts.failed == 1
    assert table.error.startswith(f"column 'a': its data dictionary says {'integer' if kind == 'int' else kind}, ")
    assert said in table.error
    assert table.sql(resource) == ["old"]


def test_a_dictionary_of_columns_that_are_gone_is_no_failure(table: Table):
    resource = table("n;a\n1;2\n", {"gone": "nothing", "a": "text"})
    assert table.counts.ok == 1, table.jobs.failures()
    assert table.types(resource) == ["int8", "text"]


def test_months_in_words_and_thousands_are_kept_exactly(table: Table):
    text = 'paid,spent,jour\n24 October 2011,"6,200.00",2020-01-01 \n05 October 2011,828.10, \n'
    resource = table(text)
    assert table.types(resource) == ["timestamp", "numeric", "timestamp"]
    assert table.sql(resource, "paid") == ["2011-10-24 00:00:00", "2011-10-05 00:00:00"]
    assert table.sql(resource, "spent") == ["6200.00", "828.10"]
    assert table.sql(resource, "jour") == ["2020-01-01 00:00:00", ""]


EDGES = [
    "1e131071",
    "1e131072",
    "1e-16383",
    "1e-16384",
    "0e-20000",
    "1.5e",
    "--1",
    "+ 1",
    ".",
    "1.e5",
    "e5",
    "nan",
    "infin",
]


def test_numbers_are_what_postgresql_takes(real: RealCkan):
    def taken(value: str) -> bool:
        try:
            return bool(to_numeric(value))
        except ValueError:
            return False

    assert [taken(value) for value in EDGES] == [bool(each) for each in tried(real, EDGES, "numeric")]
