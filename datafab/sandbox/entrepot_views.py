"""The JSON forms of the entities of the small entrepôt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response, jsonify, request

from datafab.sandbox.archives import COPY, Sandbox

Entity = dict[str, Any]


class Views:
    """Entities in the form of the API (``PrivateDetailResponseDto`` of each, assets/@types/entrepot.ts)."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def upload(self, upload: Entity) -> Entity:
        """Return the details of an upload."""
        hidden = {"state", "files", "md5", "checks", "closed", "deleted", "comments"}
        shown = {key: value for key, value in upload.items() if key not in hidden}
        size = sum(size for size, _ in upload["files"].values())
        return shown | {"status": self._sandbox.state(upload), "size": size, "type_infos": {}}

    def execution(self, execution: Entity) -> Entity:
        """Return the details of an execution, with its times."""
        sandbox = self._sandbox
        uploads = [self.upload(sandbox.uploads[name]) for name in execution["inputs"]["upload"]]
        brief = ("type", "name", "status", "srs", "_id", "creation", "update")
        stored = self.stored(sandbox.stored[execution["output"]])
        return {
            "_id": execution["_id"],
            "status": sandbox.status(execution),
            "processing": {"_id": COPY, "name": "Recopie d'une archive livrée"},
            "inputs": {"upload": [_picked(each, brief) for each in uploads], "stored_data": []},
            "output": {"stored_data": _picked(stored, brief)},
            "parameters": {},
            **sandbox.times(execution),
        }

    def stored(self, stored: Entity) -> Entity:
        """Return the details of stored data."""
        sandbox = self._sandbox
        shown = {key: value for key, value in stored.items() if key not in {"execution", "comments", "deleted"}}
        shown["status"] = sandbox.stored_status(stored)
        if shown["status"] == "GENERATED":
            uploads = [sandbox.uploads[name] for name in sandbox.executions[stored["execution"]]["inputs"]["upload"]]
            files = [size for upload in uploads for size, _ in upload["files"].values()]
            shown |= {"size": sum(files), "srs": uploads[0]["srs"], "type_infos": {"files_number": len(files)}}
        return shown


def tree(upload: Entity) -> list[Entity]:
    """Return files in their folders, the md5 lists at the root (guide: livraison.md, "Contrôler le contenu")."""
    root: list[Entity] = []
    for path, (size, _) in upload["files"].items():
        *folders, name = path.split("/")
        level = root
        for folder in folders:
            node = next((each for each in level if each["name"] == folder), None)
            if node is None:
                node = {"type": "DIRECTORY", "name": folder, "size": 0, "children": []}
                level.append(node)
            node["size"] += size
            level = node["children"]
        level.append({"type": "FILE", "name": name, "size": size})
    return root + [{"type": "FILE", "name": name, "size": len(text)} for name, text in upload["md5"].items()]


def page(entries: list[Any]) -> Response:
    """Answer with a page of a list (SDK: store/StoreEntity.py, ``range_next_page``; 206 is assumed)."""
    number, limit = int(request.args.get("page", 1)), int(request.args.get("limit", 10))
    mine = entries[(number - 1) * limit : number * limit]
    response = jsonify(mine)
    first = (number - 1) * limit + 1
    response.headers["Content-Range"] = f"{min(first, len(entries))}-{first + len(mine) - 1}/{len(entries)}"
    response.status_code = 200 if len(mine) == len(entries) else 206
    return response


def named(kind: Mapping[str, Entity], show: Callable[[Entity], Entity], usual: tuple[str, ...]) -> list[Entity]:
    """Return the entities of a list, with the usual fields or those of ``fields``, and always the id.

    Its filters are ``name``, which matches the beginning of a name, as LIKE may do, and ``tags[<name>]`` (SDK:
    store/StoreEntity.py, ``api_list``; fields: change note parametre-fields-dans-la-lecture-de-collection.md).
    """
    wanted = request.args.get("name", "")
    tags = {key[5:-1]: value for key, value in request.args.items() if key.startswith("tags[")}
    fields = ("_id", *(request.args.getlist("fields") or usual))
    found = [each for each in kind.values() if each["name"].startswith(wanted) and not each.get("deleted")]
    return [_picked(show(each), fields) for each in found if tags.items() <= each["tags"].items()]


def _picked(entity: Entity, keys: tuple[str, ...]) -> Entity:
    return {key: entity[key] for key in keys if key in entity}
