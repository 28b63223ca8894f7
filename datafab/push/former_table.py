"""The former table of a CKAN resource, kept in the store while another is loaded in its place.

| name | holds |
| --- | --- |
| ``former/<digest of CKAN and resource>.jsonl.gz`` | its rows, a JSON list each |
| ``former/<the same>.json`` | how it is defined: written before the table is deleted, removed when one is whole again |

As long as the second is there, what CKAN has is not to be trusted: a load was cut short. So it is also what says that a
table has to be put back, to whichever attempt, job or worker comes next; and half a load is never taken for the former
table. CKAN tells nothing that would prove that nobody has changed a row since the last load, so the rows are read from
CKAN itself, whoever loaded them. That takes about a twelfth of the time of a load.
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
from datafab.push.row_sender import Sender
from datafab.store.store import Store

#: Rows that are asked for at first, and at most; and the bytes of an answer that the number of rows aims at.
FIRST_PAGE, MAX_PAGE, PAGE_BYTES = 1000, 20_000, 4_000_000
#: Rows that are made and rolled back to reach the next ``_id``; where more are missing, rows are numbered anew.
MAX_GAP = 10_000
#: Indexed fields whose order in an index is found by trying.
MAX_INDEXED = 6
#: The type whose fractions of a second CKAN does not show, and how it shows one without a time of day.
TIMESTAMP, MIDNIGHT = "timestamp without time zone", "T00:00:00"


class Head(Value):
    """How a table was before it was deleted.

    Attributes:
        job: id of the job that was to replace it.
        fields: as ``datastore_create`` wants them; None: there was no table.
        kept: rows in the file beside.
        hash: CKAN's hash of the file that it was loaded from.
        loading: names of the fields of the table that was to come, and how many rows.
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
        """Say what there was, for messages."""
        if self.fields is None:
            return "no table, as before"
        seconds = f" (CKAN shows no fractions of a second: {', '.join(self.timed)} may have lost theirs)"
        return f"the {self.kept} rows from before" + (seconds if self.timed else "")


def name_of(url: str, resource: str) -> str:
    """Return the name, without its end, of the files that keep the former table of a resource."""
    return "former/" + hashlib.sha256(f"{url}\n{resource}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Former:
    """The place in a store where the former table of one resource is kept."""

    store: Store
    url: str
    resource: str

    @property
    def _name(self) -> str:
        return name_of(self.url, self.resource)

    def head(self) -> Head | None:
        """Return how the table was; None: CKAN's is whole."""
        text = self.store.read(self._name + ".json")
        return None if text is None else read_value(Head, json.loads(text))

    def forget(self) -> None:
        """Remove what is kept: a table is whole."""
        for end in (".json", ".jsonl.gz"):
            # In this order, so that there is never a head without its rows.
            self.store.remove(self._name + end, math.inf)  # whatever the clock says that dated it

    def keep(self, ckan: Ckan, head: Head, check: Callable[[], None]) -> Head:
        """Keep a resource's table as it is now; ``head`` says who is about to replace it, and by what.

        Raises:
            Retriable: it has another number of rows than was read: somebody writes to it.
        """
        info = ckan.datastore_info(self.resource)
        if info is not None:
            head = self._described(ckan, info, head)
            head = head.evolve(**self._written(ckan, head, check))
            count = info["meta"]["count"]
            if head.kept != count:
                msg = f"the table of {self.resource} had {count} rows, then {head.kept}: who writes to it?"
                raise Retriable(msg, code="row_count", field=self.resource)
        self.store.write(self._name + ".json", head.model_dump_json().encode())
        return head

    def _written(self, ckan: Ckan, head: Head, check: Callable[[], None]) -> dict[str, Any]:
        """Write the rows of the table; return how many there are, and which timestamps have a time of day."""
        kinds = {field["id"]: field["type"] for field in head.fields or ()}
        dates, timed, kept = {name for name, kind in kinds.items() if kind == TIMESTAMP}, set(), 0
        with self.store.writer(self._name + ".jsonl.gz") as file, gzip.open(file, "wb", compresslevel=1) as packed:
            for row in _read(ckan, self.resource, check):
                packed.write(encoded(row) + b"\n")
                kept += 1
                if found := {name for name in dates if row[name] and not str(row[name]).endswith(MIDNIGHT)}:
                    dates -= found
                    timed |= found
        return {"kept": kept, "timed": tuple(name for name in kinds if name in timed)}

    def _described(self, ckan: Ckan, info: Mapping[str, Any], head: Head) -> Head:
        if "count" not in info.get("meta", {}) or not info.get("fields"):
            # CKAN swallows what goes wrong while it looks, and answers with a part.
            msg = f"{self.url}: datastore_info says nothing of the table of {self.resource}"
            raise Retriable(msg, code="ckan_answer", field=self.resource)
        names = [field["id"] for field in info["fields"]]
        key = ckan.unique_key(self.resource, names)
        return head.evolve(
            fields=tuple(_defined(field) for field in info["fields"]),
            primary_key=tuple(key),
            indexes=tuple(index for index in _indexes(self.resource, info["fields"]) if list(index) != key),
            aliases=tuple(info["meta"].get("aliases") or ()),
        )

    def debris(self, ckan: Ckan, head: Head) -> bool:
        """Tell whether CKAN's table is what a load that was cut short has left, and not somebody else's."""
        info = ckan.datastore_info(self.resource)
        if info is None:
            return True
        shown = ckan.resource_show(self.resource)
        if (shown.get("hash") or None) != head.hash:
            return False  # who writes a hash has loaded all
        names, count = tuple(field["id"] for field in info["fields"]), info["meta"].get("count", 0)
        former = tuple(field["id"] for field in head.fields or ())
        return (names == head.loading and count <= head.rows) or (names == former and count <= head.kept)

    def restore(self, ckan: Ckan, head: Head, check: Callable[[], None]) -> None:
        """Put the former table in the place of what is there, and forget it here. May be cut short and done again."""
        ckan.datastore_delete(self.resource)
        if head.fields is not None:
            more = {"primary_key": head.primary_key, "indexes": head.indexes, "aliases": head.aliases}
            ckan.datastore_create(self.resource, head.fields, **{name: value for name, value in more.items() if value})
            self._load(ckan, head, check)
            info = ckan.datastore_info(self.resource)
            if info is None or info["meta"]["count"] != head.kept:
                msg = f"{self.url}: not all of {head.before} are in the table of {self.resource}: does another load it?"
                raise Retriable(msg, code="row_count", field=self.resource)
        self.forget()

    def _load(self, ckan: Ckan, head: Head, check: Callable[[], None]) -> None:
        kinds = {field["id"]: field["type"] for field in head.fields or ()}
        sender = Sender(ckan, self.resource, head.kept, lambda _: check())
        numbered, wanted = 0, 1
        for first, rows in self._runs():
            gap = first - wanted
            if 0 < gap <= MAX_GAP - numbered:
                # A number that is taken and rolled back is not given again.
                ckan.datastore_insert(self.resource, [{}] * gap, dry_run=True)
                numbered += gap
            sender.send((f"former row {row['_id']}", _record(row, kinds)) for row in rows)
            wanted = rows[-1]["_id"] + 1

    def _runs(self) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Yield rows that are numbered without a gap, a page at most, with the first number."""
        run: list[dict[str, Any]] = []
        for row in self._rows():
            if run and (row["_id"] != run[-1]["_id"] + 1 or len(run) == FIRST_PAGE):
                yield run[0]["_id"], run
                run = []
            run.append(row)
        if run:
            yield run[0]["_id"], run

    def _rows(self) -> Iterator[dict[str, Any]]:
        with self.store.local_file(self._name + ".jsonl.gz") as path:
            if path is None:
                msg = f"{self._name}.jsonl.gz is gone from {self.store.root}, and with it the rows of {self.resource}"
                raise Fatal(msg, code="missing_former", field=self.resource)
            with gzip.open(path, "rb") as file:
                yield from map(json.loads, file)


def _read(ckan: Ckan, resource: str, check: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table in the order of ``_id``, numbers with a decimal point as texts."""
    offset, limit = 0, FIRST_PAGE
    while True:
        check()
        page = ckan.datastore_rows(resource, offset, limit)
        if page is None and limit > 1:
            limit //= 2
            continue
        if page is None:
            msg = f"row {offset + 1} of {resource} is too long to be kept before the table is replaced"
            raise Fatal(msg, code="ckan_too_long", field=resource)
        names, rows = page
        yield from ({name: _exact(cell) for name, cell in zip(names, row, strict=True)} for row in rows)
        if not rows:
            return
        offset += len(rows)
        size = sum(len(str(cell)) for row in rows[:20] for cell in row) / min(20, len(rows)) + 1
        limit = max(1, min(MAX_PAGE, 2 * limit, int(PAGE_BYTES / size)))


def _exact(value: Any) -> Any:
    """Return a cell so that JSON keeps every digit: a number as its text; within a list or an object as a float."""
    return str(value) if isinstance(value, Decimal) else _inner(value)


def _inner(value: Any) -> Any:
    if isinstance(value, list):
        return [_inner(one) for one in value]
    if isinstance(value, dict):
        return {name: _inner(one) for name, one in value.items()}
    return float(value) if isinstance(value, Decimal) else value


def _record(row: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return a row as CKAN takes it: without its number, which CKAN gives, and without what is null."""
    return {
        name: encoded(cell).decode() if kinds[name] == "jsonb" and cell is not None else cell
        for name, cell in row.items()
        if name != "_id"
    }


def _defined(field: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field of ``datastore_info`` as ``datastore_create`` wants it, with the type that PostgreSQL has."""
    kind = field.get("schema", {}).get("native_type") or field["type"]
    if field["type"] == "nested":
        kind = "json"  # CKAN's own type; under this name it makes one
    info = {"info": field["info"]} if field.get("info") else {}
    return {"id": field["id"], "type": kind} | info


def _indexes(resource: str, fields: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield the fields of each index that CKAN made for somebody.

    ``datastore_info`` gives one index of each field, and but its name: a digest of the resource's id and the index's
    fields in order. One whose fields all belong to others as well is not shown at all.
    """
    by_name: dict[str, list[str]] = {}
    for field in fields:
        about = field.get("schema", {})
        if about.get("is_index") and about.get("index_name"):
            by_name.setdefault(about["index_name"], []).append(field["id"])
    everywhere = [name for members in by_name.values() for name in members]
    for name, members in by_name.items():
        pool = everywhere if len(everywhere) <= MAX_INDEXED else members[:MAX_INDEXED]
        orders = (order for size in range(1, len(pool) + 1) for order in permutations(pool, size))
        yield from islice((order for order in orders if _index_name(resource, order) == name), 1)


def _index_name(resource: str, fields: Sequence[str]) -> str:
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in fields)
    return hashlib.sha1((resource + names).encode(), usedforsecurity=False).hexdigest()
