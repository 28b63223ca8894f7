"""``log.csv`` and ``resource.csv`` of a collection, updated from its logs.

Only logs that ``log.csv`` does not have, or that may have changed since, are read; the result is the same as if all
were read again. Rows whose logs are gone stay. Rows are held in a temporary database of this process, on disk when
there are many: a collection of a hundred thousand logs needs no more memory than one of ten.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from io import TextIOWrapper
from pathlib import Path

from datafab.cancellation import check, current
from datafab.collect.csv_rows import (
    LOG_COLUMNS,
    RESOURCE_COLUMNS,
    Provenance,
    final_before,
    join_values,
    log_row,
    merge_provenance,
)
from datafab.collect.resting import RestingEndpoints
from datafab.core.long_cells import allow_long_cells
from datafab.errors import FlowError
from datafab.settings import Settings
from datafab.store.store import Store

#: Logs between two reports of progress.
PROGRESS_LOGS = 500
#: Endpoints that a warning names.
MAX_NAMED_ENDPOINTS = 3

_TABLES = """
CREATE TABLE rows (day, endpoint, resource, bytes, cells);
CREATE TABLE fresh (day, endpoint, resource, bytes, cells);
CREATE TABLE former (resource PRIMARY KEY, cells);
CREATE TABLE source (endpoint, organisation, datasets);
"""
_SEEN = """
CREATE TABLE {name} AS
SELECT resource, min(day) AS first, max(day) AS last, group_concat(DISTINCT endpoint) AS endpoints FROM rows
WHERE resource <> '' GROUP BY resource;
CREATE UNIQUE INDEX {name}_key ON {name} (resource);
"""
_MERGE = """
CREATE INDEX fresh_key ON fresh (day, endpoint);
DELETE FROM rows WHERE EXISTS (SELECT 1 FROM fresh WHERE fresh.day = rows.day AND fresh.endpoint = rows.endpoint);
INSERT INTO rows SELECT * FROM fresh;
CREATE TABLE sizes AS SELECT resource, min(day || endpoint), bytes FROM rows WHERE resource <> '' GROUP BY resource;
CREATE UNIQUE INDEX sizes_key ON sizes (resource);
CREATE TABLE latest AS SELECT endpoint, max(day) AS day, resource FROM rows GROUP BY endpoint;
CREATE INDEX latest_key ON latest (resource);
"""
_RESOURCES = """
SELECT known.resource, former.cells, was.first, was.last, was.endpoints, now.first, now.last, now.endpoints, sizes.bytes
FROM (SELECT resource FROM now UNION SELECT resource FROM former ORDER BY resource) AS known
LEFT JOIN former USING (resource) LEFT JOIN was USING (resource) LEFT JOIN now USING (resource)
LEFT JOIN sizes USING (resource) ORDER BY known.resource
"""


@dataclass(frozen=True, slots=True)
class SavedTables:
    """Numbers of rows of both files, and of logs read for them."""

    logs: int
    resources: int
    read: int


def save_csv(
    store: Store,
    today: date,
    settings: Settings,
    *,
    warn: Callable[[str], None],
    on_progress: Callable[[int], None] = lambda _: None,
) -> SavedTables:
    """Write ``log.csv`` and ``resource.csv``, each whole or not at all.

    Args:
        store: the collection.
        today: a resource collected on this day has no end yet, nor has one whose endpoint is not due until then.
        settings: give the hours between two fetches of an adaptive collection.
        warn: called for each log that cannot be used, and for endpoints that ``source.csv`` does not have.
        on_progress: called with the number of logs read so far.

    Raises:
        FlowError: a file of the collection lacks a required column, or cannot be written.
    """
    # `interrupt` is the one method of a connection that any thread may call.
    with (
        closing(sqlite3.connect("", isolation_level=None)) as database,
        current().interrupted_by(database.interrupt),
    ):
        database.executescript(_TABLES)
        builder = _TableBuilder(database, store, warn, RestingEndpoints(store, today, settings))
        builder.load()
        read = builder.read_logs(on_progress)
        builder.merge()
        resources = builder.write_resources(today.isoformat())
        return SavedTables(builder.write_logs(), resources, read)


class _TableBuilder:
    def __init__(
        self, database: sqlite3.Connection, store: Store, warn: Callable[[str], None], resting: RestingEndpoints
    ) -> None:
        self._database = database
        self._store = store
        self._warn = warn
        self._resting = resting
        self._has_source = False

    def load(self) -> None:
        """Read the tables of the collection."""
        run = self._database.executemany
        run("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", map(_cells, self._table("log.csv", "endpoint", "entry-date")))
        former = self._table("resource.csv", "resource")
        run("INSERT OR REPLACE INTO former VALUES (?, ?)", ((row["resource"], json.dumps(row)) for row in former))
        self._database.executescript("CREATE INDEX rows_key ON rows (day, endpoint);")
        source = self._table("source.csv", "endpoint", "organisation")
        run("INSERT INTO source VALUES (?, ?, ?)", map(self._source, source))
        self._database.executescript("CREATE INDEX source_key ON source (endpoint);")

    def _source(self, row: Mapping[str, str]) -> tuple[str, str, str]:
        self._has_source = True
        return row["endpoint"], row["organisation"], row.get("datasets") or row.get("pipelines") or ""

    def read_logs(self, on_progress: Callable[[int], None]) -> int:
        """Read the logs that are new or may have changed; return their number."""
        count = 0
        for found in self._store.map_names(self._read_log, self._new_logs()):
            match found:
                case dict():
                    self._database.execute("INSERT INTO fresh VALUES (?, ?, ?, ?, ?)", _cells(found))
                case str():
                    self._warn(found)
            count += 1
            if count % PROGRESS_LOGS == 0:
                on_progress(count)
        return count

    def _new_logs(self) -> Iterator[str]:
        """Yield the names of the logs that are new or may have changed."""
        one = self._database.execute
        final_day = final_before(one("SELECT max(day) FROM rows").fetchone()[0])
        for name in self._store.names("log"):
            day, _, endpoint = name.removeprefix("log/").removesuffix(".json").partition("/")
            if not name.endswith(".json") or not endpoint or "/" in endpoint:
                continue
            key = (day, endpoint)
            if day < final_day and one("SELECT 1 FROM rows WHERE day = ? AND endpoint = ?", key).fetchone():
                continue
            yield name

    def _read_log(self, name: str) -> dict[str, str] | str | None:
        """Return the row of a log, or why it has none; None when the log is gone by now."""
        data = self._store.read(name)
        if data is None:
            return None
        try:
            row = log_row(name, data)
        except ValueError as error:
            return f"{name} is left out: {error}"
        # The Content-Length counts the packed bytes, and is often missing.
        size = self._store.size(row["resource"]) if row["resource"] else None
        return row if size is None else row | {"bytes": str(size)}

    def merge(self) -> None:
        """Merge the new rows, and determine the provenance of each resource before and after."""
        script = "".join((_SEEN.format(name="was"), _MERGE, _SEEN.format(name="now")))
        self._database.executescript(script)

    def write_logs(self) -> int:
        """Write ``log.csv``; return the number of its rows."""
        rows = self._database.execute("SELECT cells FROM rows ORDER BY day, endpoint, rowid")
        return self._write("log.csv", LOG_COLUMNS, (json.loads(cells) for (cells,) in rows))

    def write_resources(self, today: str) -> int:
        """Write ``resource.csv``; return the number of its rows."""
        unknown: list[str] = []
        count = self._write("resource.csv", RESOURCE_COLUMNS, self._resources(today, unknown))
        if unknown:
            missing = sorted(set(unknown))
            named = ", ".join(missing[:MAX_NAMED_ENDPOINTS]) + (", …" if len(missing) > MAX_NAMED_ENDPOINTS else "")
            self._warn(
                f"source.csv does not have {len(missing)} endpoints: {named}; their organisations are left empty"
            )
        return count

    def _resources(self, today: str, unknown: list[str]) -> Iterator[dict[str, str]]:
        for resource, cells, *seen, size in self._database.execute(_RESOURCES):
            row: dict[str, str] | None = json.loads(cells) if cells else None
            dates, kept = merge_provenance(row, _provenance(*seen[:3]), _provenance(*seen[3:]))
            if dates is None:
                continue
            organisations, datasets = self._sources(dates.endpoints, unknown)
            made = {
                "resource": resource,
                "bytes": size or "",
                "organisations": organisations,
                "datasets": datasets,
                "endpoints": join_values(dates.endpoints),
                "start-date": dates.start,
                "end-date": "" if dates.end >= today or self._rests(resource) else dates.end,
            }
            if kept and row is not None:
                made["bytes"] = row.get("bytes") or made["bytes"]
                made |= {key: made[key] or row.get(key) or "" for key in ("organisations", "datasets")}
            yield made

    def _rests(self, resource: str) -> bool:
        """Tell whether a resource is the last one of an endpoint that is left out on purpose."""
        last = self._database.execute("SELECT endpoint, day FROM latest WHERE resource = ?", (resource,)).fetchall()
        return any(self._resting.keeps_open(endpoint, resource, day) for endpoint, day in last)

    def _sources(self, endpoints: frozenset[str], unknown: list[str]) -> tuple[str, str]:
        organisations: set[str] = set()
        datasets: set[str] = set()
        for endpoint in endpoints:
            found = self._database.execute(
                "SELECT organisation, datasets FROM source WHERE endpoint = ?", (endpoint,)
            ).fetchall()
            if not found and self._has_source:
                unknown.append(endpoint)
            organisations |= {organisation for organisation, _ in found}
            datasets |= {dataset for _, several in found for dataset in several.split(";")}
        return join_values(organisations), join_values(datasets)

    def _table(self, name: str, *needed: str) -> Iterator[dict[str, str]]:
        """Yield the rows of a table of the collection; none when it does not exist."""
        with self._store.local_file(name) as path:
            if path is not None:
                yield from self._rows(name, path, needed)

    def _rows(self, name: str, path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            allow_long_cells()
            reader = csv.DictReader(file)
            missing = [column for column in needed if column not in (reader.fieldnames or needed)]
            if missing:
                fix = "repair it, or remove it to have it written again"
                msg = f"{self._store.root}/{name} has no column {missing[0]!r}: {fix}"
                raise FlowError(msg, code="missing_column", field=missing[0])
            try:
                for row in reader:
                    check()
                    yield {key: value or "" for key, value in row.items() if key is not None}
            except csv.Error as error:
                msg = f"{self._store.root}/{name}, line {reader.line_num}: {error}"
                raise FlowError(msg, code="bad_csv", field=name) from error

    def _write(self, name: str, columns: tuple[str, ...], rows: Iterator[Mapping[str, str]]) -> int:
        count = 0
        with self._store.writer(name) as file, TextIOWrapper(file, encoding="utf-8", newline="") as text:
            writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            for row in rows:
                check()
                writer.writerow(row)
                count += 1
        return count


def _cells(row: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    day = row.get("entry-date", "")[:10]
    return day, row.get("endpoint", ""), row.get("resource", ""), row.get("bytes", ""), json.dumps(row)


def _provenance(first: str | None, last: str | None, endpoints: str | None) -> Provenance | None:
    if first is None or last is None:
        return None
    return Provenance(first, last, frozenset((endpoints or "").split(",")))
