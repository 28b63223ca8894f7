"""Load a table into the datastore of a CKAN resource: decide the types, replace the table, save the hash.

Nothing is deleted before the whole file has been read, typed and checked, and the former table is kept in the store
(``former_table.py``), to be put back by ``ckan_restore`` or ``ckan_recover`` if the load does not end well. Over
HTTP CKAN can neither rename a table nor do two things in one transaction, so readers see a growing table while it is
loaded; an attempt that is cut short is done again from the beginning, and the rows are counted at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from datafab.analysis import get_detective
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
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, Retriable
from datafab.push.chosen_types import Chosen
from datafab.push.ckan import Ckan
from datafab.push.column_types import Guess, Known, Plan, choices, guess, known, plan
from datafab.push.former_table import Former, Head
from datafab.push.row_sender import LONG, Sender, Trial
from datafab.push.row_width import MAX_ROW, SURE, row_bytes

#: ``progress`` hears of the typing every so many rows.
TELL = 20_000


def ckan_types(item: Item, ctx: Context) -> Item:
    """Decide, over the whole file, which fields and types a table gets in the datastore."""
    facts = _facts(item)
    order = date_order_preference(ctx.params, ctx.services.settings.date_order)
    with _ckan(facts, ctx) as ckan:
        dictionary = _dictionary(ckan.datastore_info(facts.resource))
    with _file(item, ctx) as file:
        rows, guesses = _typed(file, dictionary, order, ctx)
    decided = plan(file.header, rows, guesses, dictionary)
    for line in file.analysis.get("warnings", ()):
        ctx.log.warning(line)
    line = f"Determined headers and types: {json.dumps(_types(decided), ensure_ascii=False)[:2000]}"
    ctx.log.info(line)
    # In the store, as it may be long; and it keeps the data dictionary, which goes with the old table.
    kept = _store(ctx).write_list(decided.model_dump_json().encode())
    return item.evolve(ckan=facts.evolve(plan=kept))


def _facts(item: Item) -> CkanFacts:
    if item.ckan is None:
        raise Fatal("the item names no CKAN resource: `ckan_resource` must come first", code="missing", field="ckan")
    return item.ckan


def _ckan(facts: CkanFacts, ctx: Context) -> Any:
    return Ckan.at(ctx.services, facts.url, ctx.services.secrets.get(ctx.job, "api_key"))


def _store(ctx: Context) -> Any:
    return ctx.services.store(ctx.services.settings.store)


@contextmanager
def _file(item: Item, ctx: Context) -> Iterator[Table]:
    """Have the item's file, to be read as its analysis says."""
    sha256 = str(item.sha256)
    store = ctx.services.store(str(item.store))
    kept = store.read(analysis_name(sha256))
    if kept is None:
        raise Fatal(f"resource {sha256} has no analysis: let `analyse` run before", code="missing", field="analysis")
    unpacked = 10 * ctx.services.settings.max_bytes
    with store.local(sha256) as path:
        analysis = json.loads(kept)
        if "separator" in analysis:
            yield TableFile(path, analysis, max_unpacked=unpacked, check=ctx.check)
        else:
            yield CellsFile(partial(get_detective(ctx.services).rows, path, check=ctx.check), analysis)


def _typed(
    file: Table, dictionary: Mapping[str, Mapping[str, Any]], order: DateOrderPreference, ctx: Context
) -> tuple[int, Sequence[Guess | Known | Chosen]]:
    """Return how many rows a file has and what is known of its columns: by its analysis, else by reading all of it."""
    fields = apply_order(file.analysis["schema"]["fields"], order) if "schema" in file.analysis else []
    columns = known({**file.analysis, "schema": {"fields": fields}}, len(file.header)) if fields else None
    wanted, by = decide_order(fields, order)
    chosen = choices(file.header, columns, dictionary, separator=file.separator, order=wanted, by=by)
    if columns is not None:
        first = int(file.analysis["heading_columns"])
        _warn([field for at, field in enumerate(fields, first) if at not in chosen], dictionary, ctx)
    if columns is not None and not chosen:
        return int(file.analysis["total_lines"]), columns
    rows, guesses = guess(_told(file.rows(), ctx), len(file.header), separator=file.separator, chosen=chosen)
    for column in chosen.values():
        for line in column.notes:
            ctx.log.warning(line)
    if columns is None:
        return rows, guesses
    return rows, [guesses[at] if at in chosen else column for at, column in enumerate(columns)]


def _warn(fields: Sequence[Mapping[str, Any]], dictionary: Mapping[str, Mapping[str, Any]], ctx: Context) -> None:
    """Name the columns whose dates say neither day first nor month first; one that was chosen as text needs no word."""
    doubtful = [field for field in fields if dictionary.get(str(field["name"]), {}).get("type_override") != "text"]
    for line in order_warnings(doubtful):
        ctx.log.warning(line)


def _told(rows: Iterable[tuple[int, list[str]]], ctx: Context) -> Iterator[tuple[int, list[str]]]:
    for count, row in enumerate(rows, 1):
        if count % TELL == 0:
            ctx.progress(count, None, "rows typed")
        yield row


def _dictionary(info: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return what the data dictionary says of the fields that are there now."""
    fields = info["fields"] if info else []
    return {str(field["id"]): field.get("info") or {} for field in fields}


def _types(decided: Plan) -> list[dict[str, str]]:
    return [{"id": field.id, "type": field.type.value} for field in decided.fields]


def datastore(item: Item, ctx: Context) -> Item:
    """Replace a resource's table by the rows of the file."""
    facts = _facts(item)
    former = Former(_store(ctx), facts.url, facts.resource)
    if ctx.memo.get("loaded"):
        former.forget()
        return item
    decided = Plan.model_validate_json(_store(ctx).read_list(str(facts.plan)))
    with _file(item, ctx) as file, _ckan(facts, ctx) as ckan:
        _fits(file, decided, ckan, facts, ctx)
        _kept(former, ckan, decided, ctx)
        done = _replaced(file, decided, ckan, facts, ctx)
        _counted(ckan.datastore_info(facts.resource), decided.rows, facts)
    ctx.memo["loaded"] = True
    former.forget()
    line = f'Successfully pushed {done} entries to "{facts.resource}".'
    ctx.log.info(line)
    return item


def _fits(file: Table, decided: Plan, ckan: Ckan, facts: CkanFacts, ctx: Context) -> None:
    """Refuse a row that the datastore would refuse, as far as can be known before the former table is deleted."""
    wide = len(decided.fields) > SURE
    trial = Trial(ckan, facts.resource)
    for count, (line, cells) in enumerate(file.rows(), 1):
        if count % TELL == 0:
            ctx.progress(count, decided.rows, "rows checked")
        if wide:
            _narrow(decided, line, cells)
        if sum(map(len, cells)) > LONG // 4:
            trial.take(f"line {line}", decided.record(cells))


def _narrow(decided: Plan, line: int, cells: Sequence[str]) -> None:
    """Refuse a row that is wider than a page of PostgreSQL."""
    record = decided.record(cells)
    size = row_bytes((field.type.value, record[field.id]) for field in decided.fields)
    if size > MAX_ROW:
        msg = (
            f"line {line}: a row of {len(cells)} columns takes {size} bytes, PostgreSQL keeps {MAX_ROW}: "
            "publish the table in parts, with fewer columns each"
        )
        raise Fatal(msg, code="row_width", field=f"line {line}")


def _kept(former: Former, ckan: Ckan, decided: Plan, ctx: Context) -> None:
    """Keep the former table, unless it is kept from a load of it that was cut short."""
    head = former.head()
    if head is not None and former.debris(ckan, head):
        return
    ctx.progress(0, decided.rows, "rows; the former ones are kept")
    shown = ckan.resource_show(former.resource)
    names = tuple(field.id for field in decided.fields)
    head = Head(url=former.url, resource=former.resource, job=ctx.job, hash=shown.get("hash") or None)
    alive = partial(ctx.progress, 0, decided.rows, "rows; the former ones are kept")
    former.keep(ckan, head.evolve(loading=names, rows=decided.rows), alive)


def _replaced(file: Table, decided: Plan, ckan: Ckan, facts: CkanFacts, ctx: Context) -> int:
    """Delete the table and load the file; return how many rows it had."""
    line = f'Deleting "{facts.resource}" from datastore.'
    ctx.log.info(line)
    ckan.datastore_delete(facts.resource)
    ckan.datastore_create(facts.resource, [field.defined() for field in decided.fields])
    sender = Sender(ckan, facts.resource, decided.rows, lambda done: ctx.progress(done, decided.rows, "rows"))
    return sender.send((f"line {line}", decided.record(cells)) for line, cells in file.rows())


def _counted(info: Mapping[str, Any] | None, rows: int, facts: CkanFacts) -> None:
    """See that the table holds what was sent: a request of an attempt that died may have come in between."""
    there = info["meta"]["count"] if info else 0
    if there != rows:
        msg = f"{facts.url}: the table of {facts.resource} holds {there} rows, {rows} were sent: does another load it?"
        raise Retriable(msg, code="row_count", field=facts.resource)


def ckan_hash(item: Item, ctx: Context) -> Item:
    """Tell CKAN which content is loaded now, so that the same need not be loaded again."""
    facts = _facts(item)
    fields = {"hash": facts.md5} | ({"url_type": "datapusher"} if facts.set_url_type else {})
    with _ckan(facts, ctx) as ckan:
        # A patch: the whole resource, as it was shown before the load, would undo what CKAN noted meanwhile.
        ckan.resource_patch(facts.resource, **fields)
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
        after="callback",
        requires=frozenset({"ckan", "store", "sha256", "analysis"}),
    ),
    Stage(name="ckan_hash", params=frozenset(), queue="io", run=ckan_hash, requires=frozenset({"ckan"})),
)
