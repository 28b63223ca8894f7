"""Plans of archives for a Géoplateforme entrepôt, and the meaning of its statuses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from datafab.errors import Fatal, FlowError
from datafab.urls import url_parts

#: Id of "Recopie d'une archive livrée", the default processing of archives.
COPY_PROCESSING = "12cdc646-3976-4f18-b273-f34fca37e2a6"
#: Name of the job's secret that a callback must send.
HOOK_KEY = "hook_key"
#: Prefix of the file names that the entrepôt's checks and processings ignore.
IGNORED_PREFIX = "__"


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class File(_Table):
    """One file of an upload, at a URL or in a store."""

    #: name in the upload, which has no folders; default: the last segment of the URL
    path: str = ""
    url: str | None = None
    store: str | None = None
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    size: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        """Accept a text as a URL; paths have been replaced when the job was enqueued."""
        return {"url": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> File:
        if not self.url and not (self.store and self.sha256):
            msg = "give a path, a URL, or store and sha256"
            raise ValueError(msg)
        if not self.name:
            msg = f"{self.path or self.url!r} does not name a file"
            raise ValueError(msg)
        return self

    @property
    def name(self) -> str:
        """The name of the file in the upload."""
        return PurePosixPath(self.path or unquote(url_parts(self.url).path)).name


class Output(_Table):
    """The stored data that an integration creates."""

    name: str = Field(min_length=1)
    storage_tags: tuple[str, ...] = ("ARCHIVE",)


class Edition(_Table):
    """The period of the data."""

    from_: date = Field(alias="from")
    to: date


class Integration(_Table):
    """One archive: its files and its description."""

    name: str = Field(min_length=1, max_length=99)
    description: str = Field(default="archive", min_length=1)
    srs: str = Field(default="EPSG:4326", pattern=r"^[A-Z]+:[A-Z0-9]+$")
    files: tuple[File, ...] = Field(min_length=1)
    processing: str = COPY_PROCESSING
    output: Output
    edition: Edition | None = None
    #: GeoJSON geometry
    extent: dict[str, Any] | None = None
    keep_upload: bool = False

    @model_validator(mode="after")
    def _flat(self) -> Integration:
        names = [file.name for file in self.files]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"two files are called {twice[0]!r}: an archive has no folders"
            raise ValueError(msg)
        if not self.delivered_files:
            msg = f"no file is left: names that start with {IGNORED_PREFIX} are ignored"
            raise ValueError(msg)
        return self

    @property
    def delivered_files(self) -> tuple[File, ...]:
        """The files that the entrepôt does not ignore."""
        return tuple(file for file in self.files if not file.name.startswith(IGNORED_PREFIX))


class Plan(_Table):
    """A plan file."""

    datastore: str | None = None
    integrations: tuple[Integration, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Plan:
        for what, names in (
            ("integrations", [each.name for each in self.integrations]),
            ("outputs", [each.output.name for each in self.integrations]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                msg = f"two {what} are called {twice[0]!r}: they are looked up by their names"
                raise ValueError(msg)
        return self


def read_plan(document: Any, name: str) -> Plan:
    """Parse a plan.

    Raises:
        FlowError: it is invalid; names the integration and the key.
    """
    try:
        return Plan.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        at = [str(part) for part in first["loc"]]
        if len(at) > 1 and at[0] == "integrations" and at[1].isdecimal():
            at[1] = _called(document, int(at[1]))
        msg = f"{name}: {', '.join(at) or 'the plan'}: {first['msg']}"
        raise FlowError(msg, code="bad_plan", field=".".join(str(part) for part in first["loc"]) or "plan") from error


def _called(document: Any, number: int) -> str:
    """Return the name of an integration; its number if it has none."""
    try:
        return repr(document["integrations"][number]["name"])
    except (KeyError, TypeError, IndexError):
        return str(number + 1)


class Outcome(StrEnum):
    """The meaning of a status for a job that waits."""

    IN_PROGRESS = "goes on"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


_EXECUTION = {
    "CREATED": Outcome.IN_PROGRESS,
    "WAITING": Outcome.IN_PROGRESS,
    "PROGRESS": Outcome.IN_PROGRESS,
    "SUCCESS": Outcome.DONE,
    "FAILURE": Outcome.FAILED,
    "ABORTED": Outcome.FAILED,
}
_STORED = {
    "CREATED": Outcome.IN_PROGRESS,
    "GENERATING": Outcome.IN_PROGRESS,
    "MODIFYING": Outcome.IN_PROGRESS,
    "GENERATED": Outcome.DONE,
    "UNSTABLE": Outcome.FAILED,
    "DELETED": Outcome.FAILED,
}


def execution_outcome(execution: str, stored_data: str) -> Outcome:
    """Return the outcome of an execution, which is done once its output is generated."""
    outcome = _EXECUTION.get(execution, Outcome.UNKNOWN)
    return _STORED.get(stored_data, Outcome.UNKNOWN) if outcome is Outcome.DONE else outcome


def upload_outcome(status: str, checks: Mapping[str, Any]) -> Outcome:
    """Return the outcome of closing an upload, which is done once it is CLOSED and all checks have passed."""
    if checks.get("failed") or status in {"UNSTABLE", "DELETED"}:
        return Outcome.FAILED
    if status == "CLOSED":
        return Outcome.IN_PROGRESS if checks.get("asked") or checks.get("in_progress") else Outcome.DONE
    return Outcome.IN_PROGRESS if status in {"CHECKING", "GENERATING", "MODIFYING"} else Outcome.UNKNOWN


def description(integration: Integration, extent: dict[str, Any] | None) -> dict[str, Any]:
    """Return the fields that describe the stored data."""
    body: dict[str, Any] = {"description": integration.description}
    if integration.edition:
        edition = integration.edition
        body["edition"] = {"from": edition.from_.isoformat(), "to": edition.to.isoformat()}
    if extent:
        body["extent"] = extent
    return body


def refused_by_checks(names: list[str], lines: list[str]) -> Fatal:
    """Return the error for an upload that has failed checks."""
    log = f": {' / '.join(lines)}" if lines else ""
    msg = f"the upload failed {', '.join(names) or 'a check'}{log}; the upload is kept"
    return Fatal(msg, code="entrepot_check", field="files")
