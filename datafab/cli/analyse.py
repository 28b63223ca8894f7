"""``datafab analyse``: what the columns of one table hold, in this process."""

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

from datafab.analysis import detective
from datafab.analysis.day_order import ORDER_HELP, ORDERS, warnings
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
#: Frequent values that the table shows of a column.
TOPS = 3
#: Characters of one, and of a column's name.
LONGEST = 24
#: Characters of all that is said of values, at least; those that the other columns of the table take.
NARROW, OTHERS = 18, 66


@click.command()
@click.argument("what", metavar="FILE|URL")
@click.option("--mode", type=click.Choice(["exact", "sample"]), default="exact", show_default=True)
@click.option(
    "--parquet", type=click.Path(dir_okay=False, path_type=Path), help="Write the table there, with its types."
)
@click.option("--date-order", type=click.Choice(ORDERS), help=ORDER_HELP)
@as_json_option
def analyse(what: str, mode: Mode, parquet: Path | None, date_order: str | None, as_json: bool) -> None:
    """Say what the columns of a table hold: CSV, gzip, zip, workbook, parquet, GeoJSON or records of JSON.

    `sample` looks for formats in 2,000 rows only; the number of rows is exact in both modes.
    """
    if mode == "sample" and parquet is not None:
        raise click.UsageError("--parquet needs all rows: leave out --mode sample")
    if parquet is not None and not parquet.absolute().parent.is_dir():
        raise click.UsageError(f"--parquet {parquet}: there is no such folder to write it in")
    services = Services(load(date_order=date_order) if date_order else load())
    try:
        with _local(what, services) as path, _told() as progress:
            found = detective(services).analyse(path, mode=mode, progress=progress, parquet=parquet)
    except Fatal as error:
        raise Fatal(f"{what}: {error.message}", code=error.code, field=error.field) from error
    finally:
        services.close()
    if as_json:
        output.print_json_lines([found])
    else:
        _table(what, found)
        for line in warnings(found["schema"]["fields"]):
            output.stdout.print(line, highlight=False, markup=False, soft_wrap=True)
        if parquet is not None:
            output.stdout.print(f"written: {parquet}", highlight=False, markup=False)


@contextmanager
def _local(what: str, services: Services) -> Iterator[Path]:
    """Have a file, or what is at a URL, on this disk."""
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
def _told() -> Iterator[Any]:
    """Show how far it is, where somebody looks."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=output.stderr, disable=not output.stderr.is_terminal, transient=True) as bars:
        bar = bars.add_task("reading", total=None, facts="")

        def progress(done: int, total: int | None, unit: str) -> None:
            facts = f"{done / 1e6:,.0f} MB" if unit == "bytes" else f"{done} of {total} {unit}"
            what = "reading" if unit == "bytes" else "looking"
            bars.update(bar, description=what, completed=done, total=total, facts=facts)

        yield progress


def _table(what: str, found: Mapping[str, Any]) -> None:
    facts = [f"{found['total_lines']:,} rows", f"{len(found['header']):,} columns"]
    facts += [str(found[key]) for key in ("engine", "encoding", "compression", "member", "sheet_name") if key in found]
    if "separator" in found:
        facts.append(f"separator {found['separator']!r}")
    if found.get("nb_duplicates"):
        facts.append(f"{found['nb_duplicates']:,} rows are there twice")
    if found["sampled"]:
        facts.append(f"formats from {found['sample_rows']:,} rows only")
    whole = "profile" in found
    table = Table("column", "format", "type", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("missing", "distinct") if whole else ():
        table.add_column(name, justify="right")
    table.add_column("values", no_wrap=True)
    fields = {field["name"]: field for field in found["schema"]["fields"]}
    room = max(NARROW, output.stdout.width - OTHERS)
    for name in found["header"]:
        chosen, counted = found["columns"].get(name, {}), found.get("profile", {}).get(name, {})
        figures = [f"{counted[key]:,}" for key in ("nb_missing_values", "nb_distinct")] if whole else []
        said = _values(chosen, counted)
        cut = said if len(said) <= room else f"{said[: room - 1]}…"
        table.add_row(Text(name[:LONGEST]), chosen.get("format", ""), fields[name]["type"], *figures, Text(cut))
    output.stdout.print(f"{what}: {', '.join(facts)}", highlight=False, markup=False, soft_wrap=True)
    output.stdout.print(table)
    for line in found.get("warnings", ()):
        output.stdout.print(f"note: {line}", highlight=False, markup=False, soft_wrap=True)


def _values(chosen: Mapping[str, Any], counted: Mapping[str, Any]) -> str:
    if "min" in counted:
        mean = "" if counted["mean"] is None else f", mean {counted['mean']:.6g}"
        return f"{_number(counted['min'])} to {_number(counted['max'])}{mean}"
    tops = ", ".join(each["value"][:LONGEST] for each in counted.get("tops", [])[:TOPS])
    return f"{chosen['date_format']}: {tops}" if "date_format" in chosen else tops


def _number(value: float | None) -> str:
    return "infinite" if value is None else str(value)
