"""The stages that load a table into the datastore of a CKAN resource: decide types, replace the table, save the hash.

Nothing is deleted before the whole file has been read, typed and checked. The former table is saved in the store
(``former_table.py``), and ``ckan_restore`` or ``ckan_recover`` restore it if the load fails. CKAN's API can neither
rename a table nor combine actions in a transaction, so readers see a growing table during the load. An interrupted
attempt is repeated from the start, and the rows are counted at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from datafab.analysis import get_detective
from datafab.analysis.bad_rows import KEY
from datafab.analysis.day_order import (
    DateOrderPreference,
    apply_order,
    date_order_preference,
    decide_order,
    order_warnings,
)
from datafab.analysis.tablefile import CellsFile, Table, TableFile
from datafab.core.document import analysis_name
from datafab.core.item import CkanFacts, Item
from datafab.core.stage import Context, FollowUp, Stage
from datafab.errors import Fatal, Retriable
from datafab.push.bad_rows_file import write_bad_rows
from datafab.push.chosen_types import ChosenColumn
from datafab.push.ckan import Ckan
from datafab.push.column_types import AnalysedColumn, LoadPlan, analysed_columns, chosen_columns, make_plan
from datafab.push.former_table import FormerTable, TableSnapshot
from datafab.push.guessed_types import GuessedColumn, guess_columns
from datafab.push.row_sender import LONG_ROW_BYTES, LongRowTrial, RowSender
from datafab.push.row_width import ALWAYS_FITTING_FIELDS, MAX_ROW_BYTES, row_bytes

#: Rows between two reports of progress.
PROGRESS_ROWS = 20_000
#: Maximum number of other sheets of a workbook that the log names.
MAX_LISTED_SHEETS = 20


def ckan_types(item: Item, ctx: Context) -> Item:
    """Decide, from the whole file, which fields and types a table gets in the datastore."""
    facts = _facts(item)
    order = date_order_preference(ctx.params, ctx.services.settings.date_order)
    with _ckan(facts, ctx) as ckan:
        dictionary = _dictionary(ckan.datastore_info(facts.resource))
    with _file(item, ctx) as file:
        rows, guesses = _type_columns(file, dictionary, order, ctx)
        if KEY in file.analysis and isinstance(file, TableFile):
            write_bad_rows(_store(ctx), ctx.job, file.bad_rows(), file.analysis[KEY]["width"], file.separator)
            line = f"the rows left out are listed by GET /api/jobs/{ctx.job}/bad-rows"
            ctx.log.warning(line)
    load_plan = make_plan(file.header, rows, guesses, dictionary)
    if "sheet_name" in file.analysis:
        ctx.log.info(_sheet_line(file.analysis))
    for line in file.analysis.get("warnings", ()):
        ctx.log.warning(line)
    line = f"Determined headers and types: {json.dumps(_types(load_plan), ensure_ascii=False)[:2000]}"
    ctx.log.info(line)
    # In the store, as it may be long. It includes the data dictionary, which is deleted with the old table.
    kept = _store(ctx).write_list(load_plan.model_dump_json().encode())
    return item.evolve(ckan=facts.evolve(plan=kept))


def _facts(item: Item) -> CkanFacts:
    if item.ckan is None:
        raise Fatal("the item names no CKAN resource: run `ckan_resource` first", code="missing", field="ckan")
    return item.ckan


def _ckan(facts: CkanFacts, ctx: Context) -> Any:
    return Ckan.at(ctx.services, facts.url, ctx.services.secrets.get(ctx.job, "api_key"))


def _store(ctx: Context) -> Any:
    return ctx.services.store(ctx.services.settings.store)


@contextmanager
def _file(item: Item, ctx: Context) -> Iterator[Table]:
    """Open the file of an item with the dialect that its analysis found."""
    sha256 = str(item.sha256)
    store = ctx.services.store(str(item.store))
    kept = store.read(analysis_name(sha256, item.sheet))
    if kept is None:
        raise Fatal(f"resource {sha256} has no analysis: run `analyse` first", code="missing", field="analysis")
    unpacked = 10 * ctx.services.settings.max_bytes
    with store.local(sha256) as path:
        analysis = json.loads(kept)
        if "separator" in analysis:
            yield TableFile(path, analysis, max_unpacked=unpacked, check=ctx.check)
        else:
            rows = partial(get_detective(ctx.services).rows, path, check=ctx.check, sheet=analysis.get("sheet_name"))
            yield CellsFile(rows, analysis)


def _sheet_line(analysis: Mapping[str, Any]) -> str:
    """Say which sheet of a workbook is loaded, and which others there are."""
    hidden = analysis.get("hidden_sheets", ())
    others = [name for name in analysis["sheets"] if name != analysis["sheet_name"]]
    listed = ", ".join(f"{name!r} (hidden)" if name in hidden else repr(name) for name in others[:MAX_LISTED_SHEETS])
    more = f" and {len(others) - MAX_LISTED_SHEETS} more" if len(others) > MAX_LISTED_SHEETS else ""
    own = " (hidden)" if analysis["sheet_name"] in hidden else ""
    return f"Sheet: {analysis['sheet_name']!r}{own}" + (f"; not loaded: {listed}{more}" if others else "")


def _type_columns(
    file: Table, dictionary: Mapping[str, Mapping[str, Any]], order: DateOrderPreference, ctx: Context
) -> tuple[int, Sequence[GuessedColumn | AnalysedColumn | ChosenColumn]]:
    """Return the number of rows and the columns of a file, from its analysis if possible, else by reading all of it."""
    fields = apply_order(file.analysis["schema"]["fields"], order) if "schema" in file.analysis else []
    columns = analysed_columns({**file.analysis, "schema": {"fields": fields}}, len(file.header)) if fields else None
    wanted, by = decide_order(fields, order)
    chosen = chosen_columns(file.header, columns, dictionary, separator=file.separator, order=wanted, by=by)
    if columns is not None:
        _warn_of_dates([field for at, field in enumerate(fields) if at not in chosen], dictionary, ctx)
    if columns is not None and not chosen:
        return int(file.analysis["total_lines"]), columns
    cells = _with_progress(file.rows(), ctx)
    rows, guesses = guess_columns(cells, len(file.header), separator=file.separator, chosen=chosen, names=file.header)
    for column in chosen.values():
        for line in column.notes:
            ctx.log.warning(line)
    if columns is None:
        return rows, guesses
    return rows, [guesses[at] if at in chosen else column for at, column in enumerate(columns)]


def _warn_of_dates(
    fields: Sequence[Mapping[str, Any]], dictionary: Mapping[str, Mapping[str, Any]], ctx: Context
) -> None:
    """Log a warning for each column whose dates show no order of day and month, unless it was chosen as text."""
    doubtful = [field for field in fields if dictionary.get(str(field["name"]), {}).get("type_override") != "text"]
    for line in order_warnings(doubtful):
        ctx.log.warning(line)


def _with_progress(rows: Iterable[tuple[int, list[str]]], ctx: Context) -> Iterator[tuple[int, list[str]]]:
    for count, row in enumerate(rows, 1):
        if count % PROGRESS_ROWS == 0:
            ctx.progress(count, None, "rows typed")
        yield row


def _dictionary(info: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return the data dictionary's entries for the current fields."""
    fields = info["fields"] if info else []
    return {str(field["id"]): field.get("info") or {} for field in fields}


def _types(load_plan: LoadPlan) -> list[dict[str, str]]:
    return [{"id": field.id, "type": field.type.value} for field in load_plan.fields]


def datastore(item: Item, ctx: Context) -> Item:
    """Replace the table of a resource by the rows of the file."""
    facts = _facts(item)
    former = FormerTable(_store(ctx), facts.url, facts.resource)
    if ctx.memo.get("loaded"):
        former.mark_loaded()
        return item
    load_plan = LoadPlan.model_validate_json(_store(ctx).read_list(str(facts.plan)))
    with _file(item, ctx) as file, _ckan(facts, ctx) as ckan:
        _check_rows(file, load_plan, ckan, facts, ctx)
        _save_former(former, ckan, load_plan, ctx)
        done = _replace_table(file, load_plan, ckan, facts, ctx)
        _check_count(ckan.datastore_info(facts.resource), load_plan.rows, facts)
    ctx.memo["loaded"] = True
    former.mark_loaded()
    line = f'Successfully pushed {done} entries to "{facts.resource}".'
    ctx.log.info(line)
    return item


def _check_rows(file: Table, load_plan: LoadPlan, ckan: Ckan, facts: CkanFacts, ctx: Context) -> None:
    """Raise for a row that the datastore would refuse, as far as that can be checked before the table is deleted."""
    wide = len(load_plan.fields) > ALWAYS_FITTING_FIELDS
    trial = LongRowTrial(ckan, facts.resource)
    for count, (line, cells) in enumerate(file.rows(), 1):
        if count % PROGRESS_ROWS == 0:
            ctx.progress(count, load_plan.rows, "rows checked")
        if wide:
            _check_width(load_plan, line, cells)
        if sum(map(len, cells)) > LONG_ROW_BYTES // 4:
            trial.take(f"line {line}", load_plan.record(cells))


def _check_width(load_plan: LoadPlan, line: int, cells: Sequence[str]) -> None:
    """Raise for a row that is wider than a page of PostgreSQL."""
    record = load_plan.record(cells)
    size = row_bytes((field.type.value, record[field.id]) for field in load_plan.fields)
    if size > MAX_ROW_BYTES:
        msg = (
            f"line {line}: a row of {len(cells)} columns takes {size} bytes, PostgreSQL stores {MAX_ROW_BYTES}: "
            "publish the table in parts, with fewer columns each"
        )
        raise Fatal(msg, code="row_width", field=f"line {line}")


def _save_former(former: FormerTable, ckan: Ckan, load_plan: LoadPlan, ctx: Context) -> None:
    """Save the former table, unless it is still saved from an interrupted load."""
    snapshot = former.snapshot()
    if snapshot is not None and former.is_partial_load(ckan, snapshot):
        return
    ctx.progress(0, load_plan.rows, "rows; saving the former ones")
    resource = ckan.resource_show(former.resource)
    names = tuple(field.id for field in load_plan.fields)
    snapshot = TableSnapshot(url=former.url, resource=former.resource, job=ctx.job, hash=resource.get("hash") or None)
    alive = partial(ctx.progress, 0, load_plan.rows, "rows; saving the former ones")
    former.save(ckan, snapshot.evolve(loading=names, rows=load_plan.rows), alive)


def _replace_table(file: Table, load_plan: LoadPlan, ckan: Ckan, facts: CkanFacts, ctx: Context) -> int:
    """Delete the table and load the file; return the number of rows."""
    line = f'Deleting "{facts.resource}" from datastore.'
    ctx.log.info(line)
    ckan.datastore_delete(facts.resource)
    ckan.datastore_create(facts.resource, [field.defined() for field in load_plan.fields])
    sender = RowSender(ckan, facts.resource, load_plan.rows, lambda done: ctx.progress(done, load_plan.rows, "rows"))
    return sender.send((f"line {line}", load_plan.record(cells)) for line, cells in file.rows())


def _check_count(info: Mapping[str, Any] | None, rows: int, facts: CkanFacts) -> None:
    """Raise unless the table has all rows: a late request of an attempt that died may have added some."""
    count = info["meta"]["count"] if info else 0
    if count != rows:
        msg = f"{facts.url}: the table of {facts.resource} holds {count} rows, {rows} were sent: who else loads it?"
        raise Retriable(msg, code="row_count", field=facts.resource)


def ckan_hash(item: Item, ctx: Context) -> Item:
    """Save the hash of the loaded content in CKAN, so that the same content is not loaded again."""
    facts = _facts(item)
    fields = {"hash": facts.md5} | ({"url_type": "datapusher"} if facts.set_url_type else {})
    with _ckan(facts, ctx) as ckan:
        # A patch: an update with the whole resource would undo changes since it was read.
        ckan.resource_patch(facts.resource, **fields)
    FormerTable(_store(ctx), facts.url, facts.resource).mark_hash_saved()
    return item


STAGES = (
    Stage(
        name="ckan_types",
        params=frozenset({"date_order", "metadata"}),
        queue="cpu",
        run=ckan_types,
        requires=frozenset({"ckan", "store", "sha256", "analysis"}),
    ),
    Stage(
        name="datastore",
        params=frozenset(),
        queue="io",
        run=datastore,
        follow_up=FollowUp("callback"),
        requires=frozenset({"ckan", "store", "sha256", "analysis"}),
    ),
    Stage(name="ckan_hash", params=frozenset(), queue="io", run=ckan_hash, requires=frozenset({"ckan"})),
)
