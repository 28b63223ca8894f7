"""The state of an entrepôt: uploads, checks, executions and stored data, and how they change over time.

Nothing runs in the background: every status is computed from the time when it is requested.
"""

from __future__ import annotations

import hashlib
import posixpath
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from datafab.sandbox.control import Control

#: The original's processing for archives, and its checks (cartes.gouv.fr-documentation, content/fr/fr.11tydata.js).
COPY = "12cdc646-3976-4f18-b273-f34fca37e2a6"
CHECKS = {
    "Vérification standard": "ecb00ba0-eb42-427e-8418-f5d8a30e84ec",
    "Vérification archive": "f4f79b5e-7056-4b56-981d-34043b4925ab",
}
#: Types of uploads, and fields of entities that may be changed (cartes.gouv.fr, assets/@types/entrepot.ts).
TYPES = frozenset(
    {"VECTOR", "RASTER", "ARCHIVE", "ROK4-PYRAMID", "INDEX", "HISTORIC-IMAGERY", "POINT-CLOUD", "PYRAMID-3D"}
)
UPLOAD_FIELDS = frozenset({"description", "name", "open", "srs", "extent", "extra"})
STORED_FIELDS = frozenset({"name", "open", "description", "edition", "extent", "extra", "public_activity"})
POINTS = 5000


class Refused(Exception):
    """An error response."""

    def __init__(self, status: int, *said: str) -> None:
        super().__init__(*said)
        self.status = status
        self.said = list(said)


@dataclass(slots=True)
class Timings:
    """Durations in seconds."""

    ask: float = 0.1
    check: float = 0.1
    wait: float = 0.1
    run: float = 0.2
    lag: float = 0.0
    token: float = 300.0


@dataclass(slots=True)
class Sandbox:
    """An entrepôt with one datastore.

    Attributes:
        url: root URL of the API.
        token_url: URL that issues tokens.
        datastore: id of the datastore.
        user: id of the only user.
        login, password, client_id, client_secret: the credentials for a token.
        failing: names of checks that fail whatever the upload contains.
        ends: final status of executions; ``WAITING`` and ``PROGRESS`` last forever.
        becomes: final status of stored data whose execution has succeeded.
        logs: log lines of every execution.
    """

    control: Control = field(default_factory=Control)
    url: str = ""
    token_url: str = ""
    datastore: str = field(default_factory=lambda: str(uuid.uuid4()))
    user: str = field(default_factory=lambda: str(uuid.uuid4()))
    login: str = "maire"
    password: str = "sandbox-password"  # noqa: S105 - it opens nothing but this
    client_id: str = "datafab"
    client_secret: str = "sandbox-secret"  # noqa: S105 - see above
    timings: Timings = field(default_factory=Timings)
    failing: set[str] = field(default_factory=set)
    ends: str = "SUCCESS"
    becomes: str = "GENERATED"
    logs: list[str] = field(default_factory=lambda: ["début du traitement", "fin du traitement"])
    tokens: dict[str, datetime] = field(default_factory=dict)
    uploads: dict[str, dict[str, Any]] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)

    def since(self, moment: datetime) -> float:
        """Return the seconds since a moment."""
        return (self.control.clock.now() - moment).total_seconds()

    def find(self, kind: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        """Return an entity, or refuse if it does not exist."""
        if name not in kind or kind[name].get("deleted"):
            raise Refused(404, f"{name} not found")
        return kind[name]

    # uploads

    def create_upload(self, given: dict[str, Any]) -> dict[str, Any]:
        """Create an upload."""
        for key in ("name", "description", "type", "srs"):
            if not given.get(key):
                raise Refused(400, f"{key} must not be empty")
        if given["type"] not in TYPES:
            raise Refused(400, f"type must be one of {', '.join(sorted(TYPES))}")
        name = str(uuid.uuid4())
        upload = {"_id": name, "state": "OPEN", "files": {}, "md5": {}, "open": False, **self._new("Création")}
        self.uploads[name] = upload | {key: given[key] for key in ("name", "description", "type", "srs")}
        return self.uploads[name]

    def _new(self, event: str) -> dict[str, Any]:
        """Return the common fields of a new entity."""
        now = self.control.clock.now().isoformat()
        by = {"_id": self.user, "first_name": "Ada", "last_name": "M"}
        last = {"title": event, "date": now, "initiator": by}
        return {
            "tags": {},
            "comments": [],
            "creation": now,
            "update": now,
            "contact": "contact@example.org",
            "last_event": last,
        }

    def state(self, upload: dict[str, Any]) -> str:
        """Return an upload's status."""
        if upload["state"] != "CHECKING":
            return str(upload["state"])
        if self.since(upload["closed"]) < self.timings.ask + self.timings.check:
            return "CHECKING"
        return "UNSTABLE" if self.failed(upload) else "CLOSED"

    def writable(self, upload: dict[str, Any]) -> dict[str, Any]:
        """Return an upload, or refuse if it cannot be written."""
        if self.state(upload) != "OPEN":
            raise Refused(409, f"the upload is {self.state(upload)}")
        return upload

    def put(self, upload: dict[str, Any], path: str, body: bytes) -> None:
        """Add a file to an upload."""
        if path in self.writable(upload)["files"]:
            raise Refused(409, f"{path} is there already")
        upload["files"][path] = (len(body), hashlib.md5(body, usedforsecurity=False).hexdigest())

    def close(self, upload: dict[str, Any]) -> None:
        """Close an upload."""
        if not self.writable(upload)["files"]:
            raise Refused(400, "the upload is empty")
        upload |= {"state": "CHECKING", "closed": self.control.clock.now()}
        upload["checks"] = {name: str(uuid.uuid4()) for name in CHECKS}

    def failed(self, upload: dict[str, Any]) -> set[str]:
        """Return the names of the checks that fail."""
        lines = [line.split(maxsplit=1) for text in upload["md5"].values() for line in text.splitlines() if line]
        listed = {path.strip(): digest for digest, path in lines}
        files = {path: digest for path, (_, digest) in upload["files"].items() if not _ignored(path)}
        bases = [posixpath.basename(path) for path in files]
        standard, archive = CHECKS
        wrong = {standard} if any(listed.get(path) != digest for path, digest in files.items()) else set()
        return wrong | ({archive} if len(set(bases)) < len(bases) else set()) | self.failing

    def checks(self, upload: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the checks by status."""
        found: dict[str, list[dict[str, Any]]] = {"asked": [], "in_progress": [], "passed": [], "failed": []}
        if "closed" not in upload:
            return found
        elapsed, failed = self.since(upload["closed"]), self.failed(upload)
        for name, number in upload["checks"].items():
            done = elapsed >= self.timings.ask + self.timings.check
            unfinished = "in_progress" if elapsed >= self.timings.ask else "asked"
            key = ("failed" if name in failed else "passed") if done else unfinished
            found[key].append({"_id": number, "check": {"_id": CHECKS[name], "name": name}})
        return found

    def delete_upload(self, upload: dict[str, Any]) -> None:
        """Delete an upload."""
        busy = [each for each in self.executions.values() if upload["_id"] in each["inputs"]["upload"]]
        if self.state(upload) == "CHECKING" or any(self.status(each) in {"WAITING", "PROGRESS"} for each in busy):
            raise Refused(409, "the upload is in use")
        upload |= {"deleted": True, "state": "DELETED"}

    # executions

    def create_execution(self, given: dict[str, Any]) -> dict[str, Any]:
        """Create an execution and its output."""
        uploads = [self.find(self.uploads, name) for name in given.get("inputs", {}).get("upload", [])]
        wanted = given.get("output", {}).get("stored_data", {})
        if given.get("processing") != COPY or not uploads or not wanted.get("name"):
            raise Refused(400, "processing, inputs.upload and output.stored_data.name are needed")
        if any(self.state(upload) != "CLOSED" for upload in uploads):
            raise Refused(409, "an upload is not closed, or its checks have not passed")
        if any(upload["type"] != "ARCHIVE" for upload in uploads):
            raise Refused(400, "this processing takes uploads of the type ARCHIVE")
        output = {"_id": str(uuid.uuid4()), "name": wanted["name"], "type": "ARCHIVE", "open": False}
        output |= {"storage": {"type": "S3", "labels": wanted.get("storage_tags", [])}, **self._new("Génération")}
        self.stored[output["_id"]] = output
        name = str(uuid.uuid4())
        execution = {
            "_id": name,
            "inputs": {"upload": [each["_id"] for each in uploads]},
            "creation": output["creation"],
        }
        self.executions[name] = execution | {"output": output["_id"], "callback": given.get("callback")}
        output["execution"] = name
        return self.executions[name]

    def launch(self, execution: dict[str, Any]) -> None:
        """Launch an execution."""
        if self.status(execution) != "CREATED":
            raise Refused(409, f"the execution is {self.status(execution)}")
        execution["launched"] = self.control.clock.now()

    def abort(self, execution: dict[str, Any]) -> None:
        """Abort an execution."""
        if self.status(execution) not in {"WAITING", "PROGRESS"}:
            raise Refused(409, f"the execution is {self.status(execution)}")
        execution["aborted"] = True

    def status(self, execution: dict[str, Any]) -> str:
        """Return an execution's status."""
        if execution.get("aborted"):
            return "ABORTED"
        if "launched" not in execution:
            return "CREATED"
        elapsed = self.since(execution["launched"])
        if elapsed < self.timings.wait or self.ends == "WAITING":
            return "WAITING"
        if elapsed < self.timings.wait + self.timings.run or self.ends == "PROGRESS":
            return "PROGRESS"
        return self.ends

    def times(self, execution: dict[str, Any]) -> dict[str, str]:
        """Return the times at which an execution was created, launched, started and finished, as far as they passed."""
        times = {"creation": execution["creation"], "update": execution["creation"]}
        if "launched" not in execution:
            return times
        start = execution["launched"] + timedelta(seconds=self.timings.wait)
        status = self.status(execution)
        return times | {
            name: at.isoformat()
            for name, at, passed in (
                ("launch", execution["launched"], True),
                ("start", start, status != "WAITING"),
                ("finish", start + timedelta(seconds=self.timings.run), status in {"SUCCESS", "FAILURE", "ABORTED"}),
            )
            if passed
        }

    def stored_status(self, stored: dict[str, Any]) -> str:
        """Return the status of stored data."""
        execution = self.executions[stored["execution"]]
        match self.status(execution):
            case "CREATED" | "WAITING":
                return "CREATED"
            case "SUCCESS":
                timings = self.timings
                late = self.since(execution["launched"]) < timings.wait + timings.run + timings.lag
                return "GENERATING" if late else self.becomes
            case "PROGRESS":
                return "GENERATING"
        return "UNSTABLE"

    def patch(self, stored: dict[str, Any], given: dict[str, Any]) -> None:
        """Change stored data."""
        if _points(given.get("extent")) > POINTS:
            raise Refused(400, f"extent has more than {POINTS} points")
        self.change(stored, given, STORED_FIELDS)

    def change(self, entity: dict[str, Any], given: dict[str, Any], fields: frozenset[str]) -> None:
        """Change those fields of an entity that may be changed, and ignore the others."""
        entity |= {key: value for key, value in given.items() if key in fields}
        entity["update"] = self.control.clock.now().isoformat()


def _ignored(path: str) -> bool:
    return posixpath.basename(path).startswith("__")


def _points(geometry: Any) -> int:
    if isinstance(geometry, dict):
        return sum(map(_points, geometry.values()))
    if isinstance(geometry, list):
        return 1 if geometry and isinstance(geometry[0], int | float) else sum(map(_points, geometry))
    return 0
