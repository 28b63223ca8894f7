"""Confine the paths that callers over HTTP may name: those below ``DATAFAB_COLLECTIONS``, and uploaded files.

A job's parameters may name any path of the host, which is right for the operator at the command line, but not for
everybody who can connect to the webhook. So the paths in a caller's parameters are checked here, before the job is
created: relative paths are resolved against the root; absolute ones and ``file:`` URLs must be below it after symbolic
links are resolved. The default parameters of a flow are the operator's and are not checked. A file is copied to the
store at once, so that no worker opens a path that has changed since the check.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from datafab.core.services import Services
from datafab.errors import FlowError, NotFound
from datafab.flows.registry import find, flows
from datafab.store.regularfile import read_regular
from datafab.urls import url_parts

#: Prefix of parameters that refer to bytes in the store: written here and by the command line, refused from callers.
LIST_PREFIX = "list:"
#: Characters of the name of an upload.
MAX_NAME_CHARS = 100


def confine_paths(name: str, params: Mapping[str, Any], services: Services) -> dict[str, Any]:
    """Return a caller's parameters with files copied to the store and folders made absolute.

    Raises:
        NotFound: there is no such flow or file.
        FlowError: a path is not below the root; ``field`` is the parameter.
    """
    find(name)
    found, root = deepcopy(dict(params)), services.settings.collection_root
    files, folders, documents = _path_fields()
    for field in sorted((files | documents) & found.keys()):
        if field in documents and isinstance(found[field], dict):
            _confine_stores(found[field], services, field)
        elif field in files:
            found[field] = _store_file(found[field], root, services, field)
        else:
            raise _refused(field, "send the document itself, as a JSON object")
    for field in sorted(folders & found.keys()):
        found[field] = _absolute_folder(found[field], root, field)
    return found


def store_uploads(name: str, files: Mapping[str, tuple[str, bytes]], services: Services) -> dict[str, str]:
    """Write uploaded files to the store, and return the parameters that refer to them.

    Args:
        name: name of the flow.
        files: the files' names and bytes, by parameter.
        services: the services with the store.

    Raises:
        NotFound: there is no such flow.
        FlowError: one of the parameters takes no file.
    """
    flow, store = find(name), services.store(services.settings.store)
    for field in sorted(files.keys() - flow.files):
        takes = ", ".join(sorted(flow.files)) or "none"
        raise FlowError(f"flow {name!r} takes no file as {field!r}; it takes {takes}", code="bad_request", field=field)
    return {
        field: f"{LIST_PREFIX}{store.write_list(data)}#{_plain_name(shown) or field}"
        for field, (shown, data) in files.items()
    }


def _plain_name(shown: str) -> str:
    """Return the name of an uploaded file, for messages. It must not be a path or a ``file:`` URL: workers have files.

    Empty where nothing of it is left.
    """
    name = shown.replace("\\", "/").rpartition("/")[2]
    plain = "".join("_" if letter in ":#%" or not letter.isprintable() else letter for letter in name)
    return plain[:MAX_NAME_CHARS].strip(" .")


def _path_fields() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the names of the parameters that hold files, folders and documents in any flow.

    All flows count, not only the job's own: a job keeps parameters that its own flow does not read, and another flow,
    which follows the job or names it, may read them.
    """
    known, nothing = flows().values(), frozenset[str]()
    return (
        nothing.union(*(flow.files for flow in known)),
        nothing.union(*(flow.folders for flow in known)),
        nothing.union(*(flow.documents for flow in known)),
    )


def _store_file(given: Any, root: str, services: Services, field: str) -> str:
    """Copy a file below the root to the store, and return the parameter that refers to it."""
    path = _resolve_below(given, root, field)
    try:
        data = read_regular(path)
    except FileNotFoundError as error:
        raise NotFound(f"{field}: no such file below {root}", field=field) from error
    except OSError as error:
        raise FlowError(f"{field}: {given!r} {error.strerror}", code="not_a_file", field=field) from error
    return f"{LIST_PREFIX}{services.store(services.settings.store).write_list(data)}#{path}"


def _absolute_folder(given: Any, root: str, field: str) -> str:
    """Return the absolute path or URL of a folder below the root."""
    if not root.startswith("s3://"):
        return str(_resolve_below(given, root, field))
    if not isinstance(given, str):
        raise _refused(field, "a text is needed")
    rest = given.removeprefix(root.rstrip("/") + "/") if "://" in given else given
    steps = rest.split("/")
    if "://" in rest or not all(step.strip(".") and step.isprintable() for step in steps) or set("?#") & set(rest):
        raise _outside(field, root)
    return f"{root.rstrip('/')}/{rest}"


def _resolve_below(given: Any, root: str, field: str) -> Path:
    """Return a path below the root, with symbolic links resolved."""
    if not isinstance(given, str) or not given:
        raise _refused(field, "a path is needed")
    if root.startswith("s3://"):
        raise _refused(field, f"files are not read from {root}: upload this one (docs/http.md)")
    top = Path(unquote(urlsplit(root).path))
    try:
        real, path = top.resolve(), (top / _local_path(given, field)).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # NUL, half a surrogate pair, a loop of links
        raise _refused(field, "this is not a usable path") from error
    if not path.is_relative_to(real):
        raise _outside(field, root)
    return path


def _local_path(given: str, field: str) -> str:
    """Return the path of a path or ``file:`` URL."""
    if given.startswith(LIST_PREFIX):
        raise _refused(field, "upload the file, or name one below DATAFAB_COLLECTIONS")
    if not given.lower().startswith("file:"):
        if "://" in given:
            raise _refused(field, "a path below DATAFAB_COLLECTIONS is needed, or an upload")
        return given
    url = url_parts(given)
    if url.netloc not in {"", "localhost"}:
        raise _refused(field, "this file: URL names another host")
    return unquote(url.path)


def _confine_stores(document: Any, services: Services, field: str) -> None:
    """Refuse foreign stores in a document, at any depth: they would be read, and their content passed on."""
    rest = [document]
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            if one.get("store") is not None and one["store"] != services.settings.store:
                one["store"] = _absolute_folder(one["store"], services.settings.collection_root, f"{field}.store")
            rest += one.values()
        elif isinstance(one, list):
            rest += one


def _outside(field: str, root: str) -> FlowError:
    return _refused(field, f"over HTTP, name a path below {root} (DATAFAB_COLLECTIONS), or upload the file")


def _refused(field: str, why: str) -> FlowError:
    return FlowError(f"{field}: {why}", code="not_allowed", field=field)
