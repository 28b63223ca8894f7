"""The actions of the small CKAN's DataStore: ``ckanext/datastore/logic/action.py`` and ``backend/postgres.py``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from datafab.sandbox.ckan_actions import action
from datafab.sandbox.ckan_table import Refused, Table, invalid

if TYPE_CHECKING:
    from datafab.sandbox.ckan import Sandbox

#: ``ckan.datastore.search.rows_default`` and ``rows_max``
ROWS, MAX_ROWS = 100, 32_000


def not_found(text: str = "") -> Refused:
    """Return the error for an object that does not exist: ``ckan/views/api.py``."""
    return Refused(404, {"message": f"Not found: {text}" if text else "Not found", "__type": "Not Found Error"})


def _writable(ckan: Sandbox, given: Mapping[str, Any]) -> None:
    """Refuse to change the table of a resource of another url_type, unless ``force`` is set: ``_check_read_only``."""
    name = given.get("resource_id")
    if not name:
        raise invalid("resource_id", "Missing value")
    if name not in ckan.resources:
        raise not_found("Resource was not found.")  # the access check needs the resource first
    if ckan.resources[name]["url_type"] != "datastore" and not given.get("force"):
        text = 'Cannot edit read-only resource. Either pass "force=True" or change url-type to "datastore"'
        raise invalid("read-only", text)


@action(writes=True)
def datastore_create(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Create or extend a table, with records if there are any: ``create_table``, ``alter_table``."""
    name = str(given.get("resource_id"))
    if given.get("resource_id") and name not in ckan.resources:
        raise invalid("resource_id", "Not found: Resource")  # validated before the access check
    _writable(ckan, given)
    old = ckan.tables.get(name)
    table = old.copy() if old else Table(name)
    table.define(given.get("fields") or [], given.get("records") or [])
    table.insert(given.get("records") or [])
    table.index(given.get("primary_key"), given.get("indexes"))
    table.aliases = _listed(given["aliases"]) if "aliases" in given else table.aliases
    ckan.tables[name] = table
    ckan.resources[name]["datastore_active"] = True
    return {key: value for key, value in given.items() if key not in {"force", "records"}} | {"method": "insert"}


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
        del ckan.tables[given["resource_id"]]
        ckan.resources[given["resource_id"]]["datastore_active"] = False
    else:
        wanted = {name: value if isinstance(value, list) else [value] for name, value in filters.items()}
        table.rows = [row for row in table.rows if not all(row[name] in of for name, of in wanted.items())]
    return {key: value for key, value in given.items() if key != "force"}


@action(writes=False)
def datastore_search(ckan: Sandbox, given: dict[str, Any]) -> Any:
    """Return rows of a table in the order of ``_id``, as objects or lists: ``search_data``. No filters, no ``q``."""
    table = ckan.table(given)
    first, limit = int(given.get("offset", 0)), min(int(given.get("limit", ROWS)), MAX_ROWS)
    fields = [{"id": "_id", "type": "int"}, *({k: v for k, v in one.items() if k != "schema"} for one in table.shown())]
    names, shape = _listed(given.get("fields")) or [one["id"] for one in fields], given.get("records_format", "objects")
    if shape not in {"objects", "lists"}:
        raise invalid("records_format", "the sandbox knows objects and lists")
    rows = [{name: table.searched(name, row[name]) for name in names} for row in table.rows[first : first + limit]]
    found = {"resource_id": given.get("resource_id") or given.get("id"), "limit": limit, "records_format": shape}
    found |= {
        "include_total": given.get("include_total", True),
        "fields": [one for one in fields if one["id"] in names],
    }
    found["records"] = [list(row.values()) for row in rows] if shape == "lists" else rows
    if found["include_total"]:
        found |= {"total": len(table.rows), "total_was_estimated": False}
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
    return {"meta": meta, "fields": table.shown()}


def _listed(given: Any) -> list[str]:
    """Return a list, which may be given as a text: ``ckanext/datastore/helpers.py``, ``get_list``."""
    if isinstance(given, str):
        return [part.strip() for part in given.split(",") if part.strip()]
    return list(given or [])
