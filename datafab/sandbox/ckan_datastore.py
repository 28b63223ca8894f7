"""The actions of the small CKAN's DataStore: ``ckanext/datastore/logic/action.py`` and ``backend/postgres.py``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from datafab.sandbox.ckan_actions import action
from datafab.sandbox.ckan_table import Refused, Table, invalid

if TYPE_CHECKING:
    from datafab.sandbox.ckan import Sandbox

#: ``ckan.datastore.search.rows_default`` and ``rows_max``
ROWS, MAX_ROWS = 100, 32_000
READ_ONLY = (
    "Cannot edit read-only resource because changes made may be lost. Use a resource created for editing e.g. with "
    'datastore_create or use "force=True" to ignore this warning.'
)
#: What ``datastore_search`` takes (``logic/schema.py``, ``datastore_search_schema``), and what of it is not done here.
_SEARCHED = {"resource_id", "id", "filters", "limit", "offset", "fields", "sort", "include_total", "records_format"}
_NOT_HERE = {"q", "plain", "language", "distinct", "total_estimation_threshold", "full_text"}


def not_found(text: str = "") -> Refused:
    """Return the error for an object that does not exist: ``ckan/views/api.py``."""
    return Refused(404, {"message": f"Not found: {text}" if text else "Not found", "__type": "Not Found Error"})


def _writable(ckan: Sandbox, given: Mapping[str, Any]) -> None:
    """Refuse to change the table of a resource of another url_type, unless ``force`` is set: ``_check_read_only``."""
    name = given.get("resource_id") or given.get("id")
    if not name:
        raise invalid("resource_id", "Missing value")
    if name not in ckan.resources:
        raise not_found(f'Resource "{name}" was not found.')
    if ckan.resources[name]["url_type"] != "datastore" and not given.get("force"):
        raise invalid("read-only", READ_ONLY)


@action(writes=True)
def datastore_create(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Create or extend a table, with records if there are any: ``create_table``, ``alter_table``."""
    name = str(given.get("resource_id"))
    if given.get("resource_id") is None:
        raise invalid("resource_id", "resource_id or resource required")
    if name not in ckan.resources:
        raise invalid("resource_id", "Not found: Resource")  # validated before the access check
    _listed_objects(given)
    _writable(ckan, given)
    old = ckan.tables.get(name)
    table = old.copy() if old else Table(name)
    table.define(given.get("fields") or [], given.get("records") or [])
    table.insert(given.get("records") or [])
    table.index(given.get("primary_key"), given.get("indexes"))
    table.aliases = _listed(given["aliases"]) if "aliases" in given else table.aliases
    ckan.tables[name] = table
    ckan.resources[name]["datastore_active"] = True
    shown = {key: value for key, value in given.items() if key not in {"force", "records"}}
    return shown | {"method": "insert", "delete_fields": False}


def _listed_objects(given: Mapping[str, Any]) -> None:
    """Refuse fields and records that are no objects: ``datastore_create_schema``, ``_execute_single_statement``."""
    fields, records = given.get("fields") or [], given.get("records") or []
    if not isinstance(fields, list) or not all(isinstance(one, dict) for one in fields):
        text = f"Only lists of dicts can be placed against subschema ('fields',), not {type(fields)}"
        raise Refused(400, {"message": text, "data": dict(given), "__type": "Integrity Error"})
    if any(not one.get("id") for one in fields):
        errors = [{} if one.get("id") else {"id": ["Missing value"]} for one in fields]
        raise Refused(409, {"fields": errors, "__type": "Validation Error"})
    if records and not isinstance(records[0], dict):
        raise invalid("records", "The first row is not a json object")


@action(writes=True)
def datastore_upsert(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Insert records: ``upsert_data``. Of the other methods only the errors about keys are implemented."""
    _writable(ckan, given)
    table = ckan.table(given)
    records, method = given.get("records") or [], given.get("method", "upsert")
    if method not in {"insert", "upsert", "update"}:
        raise invalid("method", "Value must be one of ['upsert', 'insert', 'update']")
    if given.get("dry_run"):
        dry = table.copy()
        _insert(dry, records, method)
        table.serial = dry.serial  # a sequence is not rolled back
    else:
        time.sleep(ckan.delay)
        _insert(table, records, method)
    return {key: value for key, value in given.items() if key != "force"} | {"method": method}


def _insert(table: Table, records: list[Any], method: str) -> None:
    if method == "insert" or not records:
        table.insert(records)
        return
    if not table.primary_key:
        raise invalid("table", "unique key must be passed for update/upsert")
    missing = [name for name in table.primary_key if name not in records[0]]
    if missing:
        raise invalid("key", f'fields "{", ".join(missing)}" are missing\n{"":28}but needed as key')
    raise Refused(500, {"message": "the sandbox only inserts", "__type": "Internal Server Error"})


@action(writes=True)
def datastore_delete(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Drop a table, or delete the rows that ``filters`` name: ``delete``, ``delete_data``."""
    _writable(ckan, given)
    table = ckan.table(given)
    filters = given.get("filters")
    if filters is None:
        del ckan.tables[table.name]
        ckan.resources[table.name]["datastore_active"] = False
    else:
        gone = [row["_id"] for row in _filtered(table, filters)]
        table.rows = [row for row in table.rows if row["_id"] not in gone]
    shown = {key: value for key, value in given.items() if key not in {"force", "id"}}
    return {"resource_id": table.name} | shown


def _filtered(table: Table, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows whose fields have the values of filters, or one of several: ``_where_clauses``."""
    _known(table, filters, "filters")
    wanted = {name: value if isinstance(value, list) else [value] for name, value in filters.items()}
    return [row for row in table.rows if all(row[name] in of for name, of in wanted.items())]


def _known(table: Table, names: Iterable[str], key: str) -> None:
    """Refuse what is no field of a table: ``datastore_validate``."""
    there = {"_id", *(field["id"] for field in table.shown())}
    for name in names:
        if name not in there:
            raise invalid(key, f'invalid value "{name}"')


@action(writes=False)
def datastore_search(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Return rows of a table, as objects or lists: ``search_data``. What is not done here is refused."""
    table = ckan.table(given)
    for name in given.keys() - _SEARCHED:
        if name in _NOT_HERE:
            raise invalid(name, "the sandbox does not search for words, and gives no distinct rows")
        raise invalid("__extras", f'invalid value "{name}"')
    first, limit = _number(given, "offset", 0), min(_number(given, "limit", ROWS), MAX_ROWS)
    chosen = _sorted(table, _filtered(table, given.get("filters") or {}), _listed(given.get("sort")))
    fields = [{"id": "_id", "type": "int"}, *({k: v for k, v in one.items() if k != "schema"} for one in table.shown())]
    names, shape = _listed(given.get("fields")) or [one["id"] for one in fields], given.get("records_format", "objects")
    _known(table, names, "fields")
    if shape not in {"objects", "lists", "csv", "tsv"}:
        raise invalid("records_format", "Value must be one of ['objects', 'lists', 'csv', 'tsv']")
    if shape not in {"objects", "lists"}:
        raise invalid("records_format", "the sandbox knows objects and lists")
    rows = [{name: table.searched(name, row[name]) for name in names} for row in chosen[first : first + limit]]
    found = {"resource_id": given.get("resource_id") or given.get("id"), "limit": limit, "records_format": shape}
    found |= {
        "include_total": given.get("include_total", True),
        "total_estimation_threshold": None,
        "fields": [next(one for one in fields if one["id"] == name) for name in names],
    }
    found |= {key: given[key] for key in ("filters", "sort") if given.get(key)}
    found["records"] = [list(row.values()) for row in rows] if shape == "lists" else rows
    if found["include_total"]:
        found |= {"total": len(chosen), "total_was_estimated": False}
    return found | ({"offset": first} if first else {})


@action(writes=False)
def datastore_info(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Describe a table: ``resource_fields``."""
    try:
        table = ckan.table(given)
    except Refused as refused:
        if refused.status == 404:  # noqa: PLR2004 - this action looks for aliases too, and its error mentions them
            name = given.get("resource_id") or given.get("id")
            raise not_found(f'Resource/Alias "{name}" was not found.') from refused
        raise
    meta = {"id": table.name, "count": len(table.rows), "table_type": "BASE TABLE", "aliases": table.aliases}
    meta |= {"db_size": 0, "idx_size": 0, "size": 0}
    return {"meta": meta, "fields": table.shown()}


def _listed(given: Any) -> list[str]:
    """Return a list, which may be given as a text: ``ckanext/datastore/helpers.py``, ``get_list``."""
    if isinstance(given, str):
        return [part.strip() for part in given.split(",") if part.strip()]
    return list(given or [])


def _number(given: Mapping[str, Any], key: str, default: int) -> int:
    """Return a natural number that may be given as a text: ``natural_number_validator``."""
    try:
        found = int(given.get(key, default))
    except (TypeError, ValueError) as error:
        texts = ["Invalid integer", "Please enter an integer value"] if key == "limit" else ["Invalid integer"]
        raise Refused(409, {key: texts, "__type": "Validation Error"}) from error
    if found < 0:
        raise invalid(key, "Must be a natural number" if key == "limit" else f'invalid value "{found}"')
    return found


def _sorted(table: Table, rows: list[dict[str, Any]], orders: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows in an order such as ``a desc, _id``; null is the largest value: ``_sort``."""
    there = {"_id", *(field["id"] for field in table.shown())}
    for order in reversed(orders):
        name, _, way = order.rpartition(" ") if order.rpartition(" ")[2].lower() in {"asc", "desc"} else (order, "", "")
        if name not in there:
            raise invalid("sort", f'invalid value "{order}"')
        down = way.lower() == "desc"
        filled = sorted((row for row in rows if row[name] is not None), key=itemgetter(name), reverse=down)
        blank = [row for row in rows if row[name] is None]
        rows = [*blank, *filled] if down else [*filled, *blank]
    return rows
