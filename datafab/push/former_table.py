"""The former table of a CKAN resource, saved in the store while another is loaded in its place.

| name | holds |
| --- | --- |
| ``former/<digest of CKAN and resource>.jsonl.gz`` | its rows, a JSON list each |
| ``former/<the same>.json`` | its snapshot, written before the table is deleted, removed when a table is complete |
| ``former/<the same>.hash`` | CKAN's hash of the former file, from the end of a load until the new hash is saved |

While the snapshot exists, a load has been interrupted and CKAN's table may be incomplete. The next attempt, job or
worker sees from it that the table must be restored, and never takes half a load for the former table. CKAN gives no
proof that nobody has changed a row since the last load, so the rows are always read from CKAN. That takes about a
twelfth of the time of a load.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice, permutations
from typing import Any, Literal

from datafab.core.item import Value, read_value
from datafab.errors import Fatal, Retriable
from datafab.push.ckan import Ckan, encoded
from datafab.push.row_sender import RowSender
from datafab.store.store import Store

#: Rows of the first page, most rows of a page, and the bytes of an answer at which the number of rows aims.
FIRST_PAGE_ROWS, MAX_PAGE_ROWS, PAGE_BYTES = 1000, 20_000, 4_000_000
#: Rows inserted and rolled back to reach the next ``_id``. If more are missing, rows get new numbers.
MAX_GAP_ROWS = 10_000
#: Most indexed fields whose order in an index is found by trying all permutations.
MAX_INDEXED_FIELDS = 6
#: The type whose fractions of a second CKAN does not show, and how it shows one without a time of day.
TIMESTAMP, MIDNIGHT = "timestamp without time zone", "T00:00:00"


class TableSnapshot(Value):
    """The definition of a table before it was deleted, and of the one that replaces it.

    Attributes:
        job: id of the job that replaces it.
        fields: fields as ``datastore_create`` expects them; None: there was no table.
        kept: number of rows that are saved.
        hash: CKAN's hash of the file from which it was loaded.
        loading: names of the fields of the new table.
        rows: number of rows of the new table.
        timed: names of the timestamps that have a time of day: CKAN shows whole seconds only.
    """

    v: Literal[1] = 1
    url: str
    resource: str
    job: str
    fields: tuple[dict[str, Any], ...] | None = None
    primary_key: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    aliases: tuple[str, ...] = ()
    kept: int = 0
    hash: str | None = None
    loading: tuple[str, ...] = ()
    rows: int = 0
    timed: tuple[str, ...] = ()

    @property
    def before(self) -> str:
        """Describe the former table, for messages."""
        if self.fields is None:
            return "no table, as before"
        seconds = f" (CKAN shows no fractions of a second: {', '.join(self.timed)} may have lost theirs)"
        return f"the {self.kept} rows from before" + (seconds if self.timed else "")


def former_name(url: str, resource: str) -> str:
    """Return the name, without its suffix, of the files with the former table of a resource."""
    return "former/" + hashlib.sha256(f"{url}\n{resource}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class FormerTable:
    """The saved former table of one resource, in a store."""

    store: Store
    url: str
    resource: str

    @property
    def _name(self) -> str:
        return former_name(self.url, self.resource)

    def snapshot(self) -> TableSnapshot | None:
        """Return the snapshot of the former table; None if there is none, as CKAN's table is complete."""
        text = self.store.read(self._name + ".json")
        return None if text is None else read_value(TableSnapshot, json.loads(text))

    def forget(self) -> None:
        """Delete the saved table, as CKAN's is complete."""
        for suffix in (".json", ".jsonl.gz"):
            # In this order, so that there is never a snapshot without its rows.
            self.store.remove(self._name + suffix, math.inf)  # at any age: the clock that dated it may be wrong

    def mark_loaded(self) -> None:
        """Mark CKAN's hash as outdated, then delete the saved table, as the new one is complete."""
        snapshot = self.snapshot()
        if snapshot is not None:
            self.store.write(self._name + ".hash", (snapshot.hash or "").encode())
        self.forget()

    def describes_table(self, known: str) -> bool:
        """Tell whether CKAN's hash is that of the file whose rows are in the table, as far as we know.

        It is not after an interrupted load, nor if the hash could not be saved after a complete one.
        """
        outdated = self.store.read(self._name + ".hash")
        return self.snapshot() is None and (outdated is None or outdated.decode() != known)

    def mark_hash_saved(self) -> None:
        """Remove the mark, as CKAN's hash is that of the loaded file."""
        self.store.remove(self._name + ".hash", math.inf)

    def save(self, ckan: Ckan, snapshot: TableSnapshot, check: Callable[[], None]) -> TableSnapshot:
        """Save a resource's current table; ``snapshot`` names the job and the table that will replace it.

        Raises:
            Retriable: the number of rows has changed meanwhile.
        """
        info = ckan.datastore_info(self.resource)
        if info is not None:
            snapshot = self._describe(ckan, info, snapshot)
            snapshot = snapshot.evolve(**self._write_rows(ckan, snapshot, check))
            count = info["meta"]["count"]
            if snapshot.kept != count:
                msg = (
                    f"the table of {self.resource} had {count} rows, then {snapshot.kept}: something else writes to it"
                )
                raise Retriable(msg, code="row_count", field=self.resource)
        self.store.write(self._name + ".json", snapshot.model_dump_json().encode())
        return snapshot

    def _write_rows(self, ckan: Ckan, snapshot: TableSnapshot, check: Callable[[], None]) -> dict[str, Any]:
        """Write the rows of the table; return how many there are, and which timestamps have a time of day."""
        kinds = {field["id"]: field["type"] for field in snapshot.fields or ()}
        dates, timed, kept = {name for name, kind in kinds.items() if kind == TIMESTAMP}, set(), 0
        with self.store.writer(self._name + ".jsonl.gz") as file, gzip.open(file, "wb", compresslevel=1) as packed:
            for row in _read_rows(ckan, self.resource, check):
                packed.write(encoded(row) + b"\n")
                kept += 1
                if found := {name for name in dates if row[name] and not str(row[name]).endswith(MIDNIGHT)}:
                    dates -= found
                    timed |= found
        return {"kept": kept, "timed": tuple(name for name in kinds if name in timed)}

    def _describe(self, ckan: Ckan, info: Mapping[str, Any], snapshot: TableSnapshot) -> TableSnapshot:
        if "count" not in info.get("meta", {}) or not info.get("fields"):
            # CKAN ignores errors of its queries, and gives an incomplete answer.
            msg = f"{self.url}: datastore_info does not describe the table of {self.resource}"
            raise Retriable(msg, code="ckan_answer", field=self.resource)
        names = [field["id"] for field in info["fields"]]
        key = ckan.primary_key(self.resource, names)
        return snapshot.evolve(
            fields=tuple(_definition(field) for field in info["fields"]),
            primary_key=tuple(key),
            indexes=tuple(index for index in _indexes(self.resource, info["fields"]) if list(index) != key),
            aliases=tuple(info["meta"].get("aliases") or ()),
        )

    def is_partial_load(self, ckan: Ckan, snapshot: TableSnapshot) -> bool:
        """Tell whether CKAN's table was left by an interrupted load, and not loaded by somebody else since."""
        info = ckan.datastore_info(self.resource)
        if info is None:
            return True
        shown = ckan.resource_show(self.resource)
        if (shown.get("hash") or None) != snapshot.hash:
            return False  # the hash is written after a complete load
        names, count = tuple(field["id"] for field in info["fields"]), info["meta"].get("count", 0)
        former = tuple(field["id"] for field in snapshot.fields or ())
        return (names == snapshot.loading and count <= snapshot.rows) or (names == former and count <= snapshot.kept)

    def restore(self, ckan: Ckan, snapshot: TableSnapshot, check: Callable[[], None]) -> None:
        """Replace CKAN's table by the former one, and delete the saved one. An interrupted restore can be repeated."""
        ckan.datastore_delete(self.resource)
        if snapshot.fields is not None:
            more = {"primary_key": snapshot.primary_key, "indexes": snapshot.indexes, "aliases": snapshot.aliases}
            ckan.datastore_create(
                self.resource, snapshot.fields, **{name: value for name, value in more.items() if value}
            )
            self._load(ckan, snapshot, check)
            info = ckan.datastore_info(self.resource)
            if info is None or info["meta"]["count"] != snapshot.kept:
                msg = f"{self.url}: the table of {self.resource} lacks some of {snapshot.before}: who else loads it?"
                raise Retriable(msg, code="row_count", field=self.resource)
        self.forget()

    def _load(self, ckan: Ckan, snapshot: TableSnapshot, check: Callable[[], None]) -> None:
        kinds = {field["id"]: field["type"] for field in snapshot.fields or ()}
        sender = RowSender(ckan, self.resource, snapshot.kept, lambda _: check())
        numbered, wanted = 0, 1
        for first, rows in self._consecutive_rows():
            gap = first - wanted
            if 0 < gap <= MAX_GAP_ROWS - numbered:
                # PostgreSQL does not use the number of a row again that was rolled back.
                ckan.datastore_insert(self.resource, [{}] * gap, dry_run=True)
                numbered += gap
            sender.send((f"former row {row['_id']}", _record(row, kinds)) for row in rows)
            wanted = rows[-1]["_id"] + 1

    def _consecutive_rows(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield lists of consecutively numbered rows, of a page at most, with their first number."""
        run: list[dict[str, Any]] = []
        for row in self._saved_rows():
            if run and (row["_id"] != run[-1]["_id"] + 1 or len(run) == FIRST_PAGE_ROWS):
                yield run[0]["_id"], run
                run = []
            run.append(row)
        if run:
            yield run[0]["_id"], run

    def _saved_rows(self) -> Iterator[dict[str, Any]]:
        with self.store.local_file(self._name + ".jsonl.gz") as path:
            if path is None:
                where = f"{self._name}.jsonl.gz is missing from {self.store.root}"
                msg = f"{where}: the rows of {self.resource} cannot be restored"
                raise Fatal(msg, code="missing_former", field=self.resource)
            with gzip.open(path, "rb") as file:
                yield from map(json.loads, file)


def _read_rows(ckan: Ckan, resource: str, check: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table in the order of ``_id``, numbers with a decimal point as text."""
    offset, limit = 0, FIRST_PAGE_ROWS
    while True:
        check()
        page = ckan.datastore_rows(resource, offset, limit)
        if page is None and limit > 1:
            limit //= 2
            continue
        if page is None:
            msg = f"row {offset + 1} of {resource} is too long to be saved before the table is replaced"
            raise Fatal(msg, code="ckan_too_long", field=resource)
        names, rows = page
        yield from ({name: _exact(cell) for name, cell in zip(names, row, strict=True)} for row in rows)
        if not rows:
            return
        offset += len(rows)
        size = sum(len(str(cell)) for row in rows[:20] for cell in row) / min(20, len(rows)) + 1
        limit = max(1, min(MAX_PAGE_ROWS, 2 * limit, int(PAGE_BYTES / size)))


def _exact(value: Any) -> Any:
    """Return a cell so that JSON keeps every digit: a number as text; within a list or an object as a float."""
    return str(value) if isinstance(value, Decimal) else _inner(value)


def _inner(value: Any) -> Any:
    if isinstance(value, list):
        return [_inner(one) for one in value]
    if isinstance(value, dict):
        return {name: _inner(one) for name, one in value.items()}
    return float(value) if isinstance(value, Decimal) else value


def _record(row: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return a row as CKAN accepts it: without ``_id``, which CKAN assigns."""
    return {
        name: encoded(cell).decode() if kinds[name] == "jsonb" and cell is not None else cell
        for name, cell in row.items()
        if name != "_id"
    }


def _definition(field: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a field of ``datastore_info`` to one for ``datastore_create``, with PostgreSQL's name of the type."""
    kind = field.get("schema", {}).get("native_type") or field["type"]
    if field["type"] == "nested":
        kind = "json"  # CKAN's own type, which it creates under this name
    info = {"info": field["info"]} if field.get("info") else {}
    return {"id": field["id"], "type": kind} | info


def _indexes(resource: str, fields: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield the fields of each index that CKAN has created on request.

    ``datastore_info`` shows one index per field, and only its name: a digest of the resource's id and the index's
    fields in order. An index whose fields all belong to others as well is not shown at all.
    """
    by_name: dict[str, list[str]] = {}
    for field in fields:
        about = field.get("schema", {})
        if about.get("is_index") and about.get("index_name"):
            by_name.setdefault(about["index_name"], []).append(field["id"])
    everywhere = [name for members in by_name.values() for name in members]
    for name, members in by_name.items():
        pool = everywhere if len(everywhere) <= MAX_INDEXED_FIELDS else members[:MAX_INDEXED_FIELDS]
        orders = (order for size in range(1, len(pool) + 1) for order in permutations(pool, size))
        yield from islice((order for order in orders if _index_name(resource, order) == name), 1)


def _index_name(resource: str, fields: Sequence[str]) -> str:
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in fields)
    return hashlib.sha1((resource + names).encode(), usedforsecurity=False).hexdigest()
