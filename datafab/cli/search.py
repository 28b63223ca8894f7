"""``datafab search``: search the index, and print the documents with their matches highlighted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import click
from rich.table import Table
from rich.text import Text

from datafab import api
from datafab.cli import output
from datafab.cli.run_job import as_json_option
from datafab.core.document import Count, Document, Highlight, Results
from datafab.index.query import MAX_RESULT_POSITION, Sort

#: Columns of a document that are printed: those that match, then the first ones.
MAX_COLUMNS = 8
MATCH = "bold yellow"
FORMAT = "cyan"
Spans = Iterable[tuple[int, int]]


@click.command()
@click.argument("query", nargs=-1, required=True)
@click.option("--sort", default="relevance", show_default=True, type=click.Choice([sort.value for sort in Sort]))
@click.option(
    "--facets", default="", metavar="NAMES", help="Count results by format, organisation, domain, status, or all."
)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100))
@click.option("--offset", default=0, show_default=True, type=click.IntRange(0, MAX_RESULT_POSITION))
@as_json_option
def search(query: tuple[str, ...], *, sort: str, facets: str, limit: int, offset: int, as_json: bool) -> None:
    """Search the index: words, format:siret, column:"code postal", rows:>1000, AND, OR, NOT, brackets.

    Put QUERY in single quotes, so that the shell does not change the quotes and brackets in it.
    """
    text = " ".join(query)
    names = [name.strip() for name in facets.split(",") if name.strip()]
    found = api.search(text, limit=limit, offset=offset, sort=sort, facets=names)
    if as_json:
        output.print_json_lines(found.hits)
        if names:
            output.print_json_lines([{"total": found.total, "facets": found.dump()["facets"]}])
    else:
        _results(text, found, offset)
        _facets(found.facets)


def _results(query: str, found: Results, offset: int) -> None:
    part = f", {offset + 1} to {offset + len(found.hits)} of them" if 0 < len(found.hits) < found.total else ""
    table = Table("title", "rows", "columns (format)", "where", title_justify="left")
    table.title = Text(f"{query or 'everything'}: {found.total} found{part}")
    for hit in found.hits:
        matched = found.highlights.get(hit.source, ())
        rows = "" if hit.total_lines is None else str(hit.total_lines)
        table.add_row(_title(hit, matched), rows, _columns(hit, matched), Text(hit.resource_url or hit.source))
    output.stdout.print(table)


def _title(hit: Document, matched: Iterable[Highlight]) -> Text:
    spans = {one.field: one.spans for one in matched}
    lines = [_marked(hit.title, spans.get("title", ()))]
    # Show the fields that match, unless the title has the same text.
    for field, text in (("dataset", hit.dataset_title), ("organisation", hit.organisation)):
        if text and field in spans and text != hit.title:
            lines.append(Text(f"{field}: ", "dim") + _marked(text, spans[field]))
    return Text("\n").join(lines)


def _columns(hit: Document, matched: Iterable[Highlight]) -> Text:
    if hit.error:
        return Text(hit.error.message, "red")
    spans: dict[int, dict[str, Spans]] = defaultdict(dict)
    for one in matched:
        if one.position is not None:
            spans[one.position][one.field] = one.spans
    columns = sorted(hit.cols, key=lambda column: (column.position not in spans, column.position))
    parts = []
    for column in columns[:MAX_COLUMNS]:
        matches = spans.get(column.position, {})
        part = _marked(column.name, matches.get("column", ()))
        if "format" in matches or (column.format and column.format != "string"):
            part += Text(" (") + Text(column.format or "", MATCH if "format" in matches else FORMAT) + Text(")")
        if "type" in matches:
            part += Text(" [") + Text(column.python_type or "", MATCH) + Text("]")
        parts.append(part)
    if len(hit.cols) > MAX_COLUMNS:
        parts.append(Text(f"… {len(hit.cols) - MAX_COLUMNS} more"))
    return Text(", ").join(parts)


def _marked(text: str, spans: Spans) -> Text:
    marked = Text(text)
    for begin, end in spans:
        marked.stylize(MATCH, begin, end)
    return marked


def _facets(facets: Mapping[str, Iterable[Count]]) -> None:
    for name, counts in facets.items():
        text = " · ".join(f"{one.value} {one.count}" for one in counts)
        output.stdout.print(Text(f"{name:<13}", "dim") + Text(text or "none"))
