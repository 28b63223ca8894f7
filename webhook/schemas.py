"""The schemas of answers and of some requests, for ``/openapi.json``.

The views do not use them to build their answers: a test checks every answer against its schema.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from datafab.collect.urlcheck import Finding
from datafab.core.document import Document
from datafab.core.item import ItemError
from datafab.core.job import Job, JobStatus
from datafab.core.roles import Role


class _Answer(BaseModel):
    """An answer, which has no other fields than its schema."""

    model_config = ConfigDict(extra="forbid")


class Error(_Answer):
    """The reason of a failure."""

    type: str
    message: str
    field: str | None
    #: position in a query of the character that is wrong, from 0
    position: int | None = None


class ErrorAnswer(_Answer):
    """A failure."""

    error: Error


class DatapusherError(_Answer):
    """A failure in the form of DataPusher: a text, or a job's error."""

    error: Any


class Health(_Answer):
    """The health of the webhook, and the error of each service."""

    status: Literal["ok", "unavailable"]
    services: dict[str, str | None] | None = None


class Accepted(_Answer):
    """An accepted job, and the URL to follow it."""

    id: str
    status: JobStatus
    url: str


class JobsPage(_Answer):
    """A page of jobs, newest first."""

    jobs: list[Job]
    next: str | None


class ShownJob(Job):
    """A job with the errors of its failed items by source, and its last log lines if requested."""

    failures: dict[str, ItemError]
    log: list[dict[str, Any]] | None = None


class Look(_Answer):
    """A check of a source."""

    at: float
    status: str
    job: str
    error: str | None


class ShownSource(_Answer):
    """The last known facts of a source."""

    source: str
    facts: dict[str, str]
    looks: list[Look]
    next: float | None
    document: Document | None


class ShownCaller(_Answer):
    """A caller, and in a session the CSRF token that a change must send."""

    name: str
    role: Role
    limit: int | None
    csrf_token: str | None


class Done(_Answer):
    """The answer to a change that has no result."""

    status: Literal["ok"]


class ShownToken(_Answer):
    """A token without its secret. Times are Unix seconds."""

    id: str
    name: str
    role: Role
    created: float
    #: null: it never expires
    expires: float | None
    #: largest number of its jobs that run at the same time; null: no limit
    limit: int | None
    #: accurate to ten minutes
    last_used: float | None


class TokensList(_Answer):
    """All tokens, the oldest first."""

    tokens: list[ShownToken]


class CreatedToken(ShownToken):
    """A new token with its text, which is shown only here."""

    token: str


class CheckedUrl(_Answer):
    """The status of a check, and its result."""

    id: str
    status: JobStatus
    result: Finding | None
    error: ItemError | None


class ShownFlow(_Answer):
    """A flow that a job can run."""

    name: str
    title: str
    source: str
    stages: list[str]
    then: list[str]
    requires: list[str]
    on: Literal["event", "schedule"]
    schedule: str | None = None
    defaults: dict[str, Any] | None = Field(default=None, alias="with")
    when: dict[str, str] | None = None
    where: str | None = None


class ShownStage(_Answer):
    """A stage that flows consist of."""

    name: str
    title: str
    queue: Literal["io", "cpu", "control"]
    source: bool
    requires: list[str]
    provides: list[str]


class Flows(_Answer):
    """All flows and stages."""

    flows: list[ShownFlow]
    stages: list[ShownStage]


class WokenJobs(_Answer):
    """The answer to link-proxy: the key of its message, and the number of woken jobs."""

    key: str
    jobs: int


class WokenTasks(_Answer):
    """The answer to an entrepôt: the number of woken tasks."""

    tasks: int


class EnqueuedCheck(_Answer):
    """The answer to udata: the job that was enqueued."""

    message: str
    job: str


class Help(_Answer):
    """The answer of DataPusher's root."""

    help: str


class Stats(_Answer):
    """DataPusher's counts of jobs."""

    version: float
    job_types: list[str]
    name: str
    stats: dict[Literal["pending", "complete", "error"], int]


class Listed(_Answer):
    """DataPusher's list: paths of jobs."""

    list: list[str]


class Pushed(_Answer):
    """A push in the form that CKAN expects; only the answer to the submit has the ``job_key``."""

    job_id: str
    job_type: str
    status: Literal["pending", "complete", "error"]
    data: Any
    error: Any
    requested_timestamp: str | None
    finished_timestamp: str | None
    sent_data: Any
    aps_job_id: str
    result_url: str | None
    job_key: str | None = None
    metadata: dict[str, Any]
    logs: list[dict[str, Any]]


class Deleted(_Answer):
    """The answer to the deletion of a push."""

    success: Literal[True]


class Submit(BaseModel):
    """A request of CKAN for a push."""

    model_config = ConfigDict(extra="forbid")

    job_type: Literal["push_to_datastore"]
    api_key: str = Field(min_length=1)
    metadata: dict[str, Any] = {}
    data: Any = None
    result_url: str | None = None


class DatapusherListing(BaseModel):
    """Query of DataPusher's list; any other parameter is compared with the metadata of pushes."""

    limit: int = Field(default=100, alias="_limit")
    offset: int = Field(default=0, alias="_offset")
    status: Literal["pending", "complete", "error"] | None = Field(default=None, alias="_status")


class DatapusherLog(BaseModel):
    """Query of DataPusher's job."""

    limit: int | None = Field(default=None, ge=0)
