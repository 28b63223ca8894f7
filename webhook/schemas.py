"""What the routes answer and what some of them read, as ``/openapi.json`` describes it.

Nothing is made of these: a route answers what it has, and a test holds it to what is said here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from datafab.collect.urlcheck import Finding
from datafab.core.document import Document
from datafab.core.item import ItemError
from datafab.core.job import Job, JobStatus


class _Answer(BaseModel):
    """Every field that is answered is named here."""

    model_config = ConfigDict(extra="forbid")


class Error(_Answer):
    """Why not."""

    type: str
    message: str
    field: str | None
    #: the character of a query that is wrong, from 0
    position: int | None = None


class ErrorAnswer(_Answer):
    """A failure."""

    error: Error


class DatapusherError(_Answer):
    """A failure in DataPusher's shape: a text, or a job's own error."""

    error: Any


class Health(_Answer):
    """Whether the webhook lives, and what is wrong with each service."""

    status: Literal["ok", "unavailable"]
    services: dict[str, str | None] | None = None


class Accepted(_Answer):
    """A job, and where it is followed."""

    id: str
    status: JobStatus
    url: str


class JobsPage(_Answer):
    """Jobs, the newest first."""

    jobs: list[Job]
    next: str | None


class ShownJob(Job):
    """One job with its failed items by source, and its last log lines where asked for."""

    failures: dict[str, ItemError]
    log: list[dict[str, Any]] | None = None


class Look(_Answer):
    """A job that looked at a source."""

    at: float
    status: str
    job: str
    error: str | None


class ShownSource(_Answer):
    """How a source was last seen."""

    source: str
    facts: dict[str, str]
    looks: list[Look]
    next: float | None
    document: Document | None


class CheckedUrl(_Answer):
    """How far a check is, and what it found."""

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
    """A stage that flows are made of."""

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


class Woken(_Answer):
    """A hint of link-proxy: its key, and how many jobs look again."""

    key: str
    jobs: int


class Hurried(_Answer):
    """A hint of an entrepôt: how many tasks look again."""

    tasks: int


class Told(_Answer):
    """What udata's telling has led to."""

    message: str
    job: str


class Help(_Answer):
    """What DataPusher's root says."""

    help: str


class Stats(_Answer):
    """DataPusher's sums."""

    version: float
    job_types: list[str]
    name: str
    stats: dict[Literal["pending", "complete", "error"], int]


class Listed(_Answer):
    """DataPusher's list: addresses of jobs."""

    list: list[str]


class Pushed(_Answer):
    """A push as CKAN knows it; ``job_key`` is in the answer to the submit only."""

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
    """A push was forgotten."""

    success: Literal[True]


class Submit(BaseModel):
    """A push that CKAN asks for."""

    model_config = ConfigDict(extra="forbid")

    job_type: Literal["push_to_datastore"]
    api_key: str = Field(min_length=1)
    metadata: dict[str, Any] = {}
    data: Any = None
    result_url: str | None = None


class DatapusherListing(BaseModel):
    """Query of DataPusher's list; any other name is compared with the push's metadata."""

    limit: int = Field(default=100, alias="_limit")
    offset: int = Field(default=0, alias="_offset")
    status: Literal["pending", "complete", "error"] | None = Field(default=None, alias="_status")


class DatapusherLog(BaseModel):
    """Query of DataPusher's job."""

    limit: int | None = Field(default=None, ge=0)
