"""``datafab analyse``: analyse the columns of one table, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from datafab.analysis import get_detective
from datafab.analysis.day_order import DATE_ORDER_HELP, DATE_ORDERS, order_warnings
from datafab.analysis.sheet_choice import SHEET_HELP
from datafab.cli import output
from datafab.cli.run_job import as_json_option
from datafab.core.services import Services
from datafab.errors import Fatal
from datafab.fetch.session import Fetcher
from datafab.settings import load
from datafab.store.regularfile import open_regular
from datafab.store.scratch import work_folder
from datafab.store.store import Store

Mode = Literal["exact", "sample"]
#: Number of frequent values that are shown for a column.
MAX_TOPS = 3
#: Characters of a value, and of a column's name.
MAX_TEXT = 24
#: Minimum width of the column with the values, and width of all other columns together.
MIN_WIDTH, OTHER_WIDTH = 18, 66


@click.command()
@click.argument("what", metavar="FILE|URL")
@click.option("--mode", type=click.Choice(["exact", "sample"]), default="exact", show_default=True)
@click.option(
    "--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Write the table to this file, with its types."
)
@click.option("--date-order", type=click.Choice(DATE_ORDERS), help=DATE_ORDER_HELP)
@click.option("--sheet", metavar="NAME|NUMBER", help=SHEET_HELP)
@as_json_option
def analyse(
    what: str, *, mode: Mode, parquet: Path | None, date_order: str | None, sheet: str | None, as_json: bool
) -> None:
    """Show the formats, types and values of a table's columns: CSV, gzip, zip, workbook, parquet, GeoJSON or JSON.

    `sample` looks for formats in 2,000 rows only; the number of rows is exact in both modes.
    """
    if mode == "sample" and parquet is not None:
        raise click.UsageError("--parquet needs all rows: leave out --mode sample")
    if parquet is not None and not parquet.absolute().parent.is_dir():
        raise click.UsageError(f"--parquet {parquet}: the folder of this file does not exist")
    services = Services(load(date_order=date_order) if date_order else load())
    try:
        with _local_file(what, services) as path, _progress() as progress:
            found = get_detective(services).analyse(path, mode=mode, progress=progress, parquet=parquet, sheet=sheet)
    except Fatal as error:
        raise Fatal(f"{what}: {error.message}", code=error.code, field=error.field) from error
    finally:
        services.close()
    if as_json:
        output.print_json_lines([found])
    else:
        _table(what, found)
        for line in order_warnings(found["schema"]["fields"]):
            output.stdout.print(line, highlight=False, markup=False, soft_wrap=True)
        if parquet is not None:
            output.stdout.print(f"written: {parquet}", highlight=False, markup=False)


@contextmanager
def _local_file(what: str, services: Services) -> Iterator[Path]:
    """Yield the path of a file, or of a temporary copy of the file at a URL."""
    if not what.lower().startswith(("http://", "https://")):
        path = Path(what)
        try:
            open_regular(path).close()
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise Fatal("no such file" if missing else str(error.strerror), code="missing_file") from error
        yield path
        return
    with work_folder() as folder:
        store = Store(folder)
        fetched = services.get(Fetcher).fetch(what, store)
        if fetched.sha256 is None:
            raise fetched.error("url")
        yield store.path(fetched.sha256)


@contextmanager
def _progress() -> Iterator[Any]:
    """Show the progress of the analysis, if stderr is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=output.stderr, disable=not output.stderr.is_terminal, transient=True) as bars:
        bar = bars.add_task("reading", total=None, facts="")

        def progress(done: int, total: int | None, unit: str) -> None:
            facts = f"{done / 1e6:,.0f} MB" if unit == "bytes" else f"{done} of {total} {unit}"
            what = "reading" if unit == "bytes" else "analysing"
            bars.update(bar, description=what, completed=done, total=total, facts=facts)

        yield progress


def _table(what: str, found: Mapping[str, Any]) -> None:
    facts = [f"{found['total_lines']:,} rows", f"{len(found['header']):,} columns"]
    facts += [str(found[key]) for key in ("engine", "encoding", "compression", "member", "sheet_name") if key in found]
    if "separator" in found:
        facts.append(f"separator {found['separator']!r}")
    if found.get("nb_duplicates"):
        facts.append(f"{found['nb_duplicates']:,} duplicate rows")
    if found["sampled"]:
        facts.append(f"formats from {found['sample_rows']:,} rows only")
    whole = "profile" in found
    table = Table("column", "format", "type", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("missing", "distinct") if whole else ():
        table.add_column(name, justify="right")
    table.add_column("values", no_wrap=True)
    fields = {field["name"]: field for field in found["schema"]["fields"]}
    width = max(MIN_WIDTH, output.stdout.width - OTHER_WIDTH)
    for name in found["header"]:
        chosen, counted = found["columns"].get(name, {}), found.get("profile", {}).get(name, {})
        figures = [f"{counted[key]:,}" for key in ("nb_missing_values", "nb_distinct")] if whole else []
        values = _values(chosen, counted)
        cut = values if len(values) <= width else f"{values[: width - 1]}…"
        table.add_row(Text(name[:MAX_TEXT]), chosen.get("format", ""), fields[name]["type"], *figures, Text(cut))
    output.stdout.print(f"{what}: {', '.join(facts)}", highlight=False, markup=False, soft_wrap=True)
    output.stdout.print(table)
    for line in found.get("warnings", ()):
        output.stdout.print(f"note: {line}", highlight=False, markup=False, soft_wrap=True)


def _values(chosen: Mapping[str, Any], counted: Mapping[str, Any]) -> str:
    if "min" in counted:
        mean = "" if counted["mean"] is None else f", mean {counted['mean']:.6g}"
        return f"{_number(counted['min'])} to {_number(counted['max'])}{mean}"
    tops = ", ".join(each["value"][:MAX_TEXT] for each in counted.get("tops", [])[:MAX_TOPS])
    return f"{chosen['date_format']}: {tops}" if "date_format" in chosen else tops


def _number(value: float | None) -> str:
    return "infinite" if value is None else str(value)
