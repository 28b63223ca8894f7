"""The views below ``/api``: jobs, flows, sources and the search."""

from __future__ import annotations

import json
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, jsonify, request, url_for
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from datafab.catalogue.sources import SourceRegistry
from datafab.collect.check_url_stage import finding_name
from datafab.core.job import JobStatus
from datafab.core.jobs import MAX_LINES
from datafab.errors import NotFound
from datafab.flows.chains import STAGES
from datafab.flows.registry import flows, needed_role
from datafab.index.access import IndexAccess
from datafab.index.query import MAX_RESULT_POSITION, Sort, parse_facets
from datafab.push.bad_rows_file import read_bad_rows
from datafab.urls import hide_all_secrets
from webhook.body import M, body, parse, refusal
from webhook.caller import caller, require_role
from webhook.limits import MAX_UPLOAD_BYTES
from webhook.paths import confine_paths, store_uploads
from webhook.site import backend


def _finite(params: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Refuse NaN and Infinity, which parsers accept but which are not JSON: other programs could not read them."""
    json.dumps(params, allow_nan=False)
    return params


CSV_TYPE = "text/csv; charset=utf-8"
routes = Blueprint("api", __name__, url_prefix="/api")


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewJob(_Input):
    """Body of ``POST /api/jobs``."""

    flow: str
    params: Annotated[dict[str, JsonValue], AfterValidator(_finite)] = {}
    #: if a job with this key exists, it is returned instead of a new one
    key: str | None = Field(default=None, min_length=1, max_length=256)


class NewCheck(_Input):
    """Body of ``POST /api/check-url``."""

    url: str = Field(min_length=1, max_length=2048)
    #: try this plugin only
    plugin: Literal["arcgis", "wfs"] | None = None
    #: as in an ``endpoint.csv``
    parameters: Annotated[dict[str, JsonValue], AfterValidator(_finite)] | None = None


class JobsQuery(_Input):
    """Query of ``GET /api/jobs``."""

    status: JobStatus | None = None
    flow: str | None = None
    #: name of the token by which they were enqueued
    caller: str | None = None
    #: the last id of the previous page
    after: str | None = None
    limit: int = Field(default=50, ge=1, le=500)


class JobQuery(_Input):
    """Query of ``GET /api/jobs/<id>``."""

    #: number of last log lines to add
    log: int = Field(default=0, ge=0, le=MAX_LINES)


class SourceQuery(_Input):
    """Query of ``GET /api/sources``."""

    #: ``datagouv:<uuid>``, ``endpoint:<hash>``, …
    id: str = Field(min_length=1, max_length=4000)


class SearchQuery(_Input):
    """Query of ``GET /api/search``."""

    #: a query in the language of ``docs/search.md``; empty: everything
    q: str = ""
    limit: int = Field(default=20, ge=1, le=100)
    offset: int = Field(default=0, ge=0, le=MAX_RESULT_POSITION)
    sort: Sort = Sort.RELEVANCE
    #: names separated by commas, or ``all``
    facets: str = ""


@routes.post("/jobs")
def enqueue() -> Response:
    """Enqueue a job: 202, or 200 with the job that has the key already. A form may upload files with it."""
    wanted, params = _new_job()
    require_role(needed_role(wanted.flow, params))
    job, created = backend().start(wanted.flow, params, wanted.key, caller=caller())
    # Of a job that exists already, `start` returns only the id.
    status = job.status if created else backend().jobs.get(job.id).status
    url = url_for("api.show_job", job_id=job.id, _external=True)
    answer = jsonify(id=job.id, status=status, url=url)
    answer.status_code = HTTPStatus.ACCEPTED if created else HTTPStatus.OK
    answer.headers["Location"] = url
    return answer


def _new_job() -> tuple[NewJob, dict[str, Any]]:
    """Return the request's body, and the parameters of the job, in which paths are confined and uploads stored."""
    services = backend().services
    if request.mimetype != "multipart/form-data":
        wanted = body(NewJob)
        return wanted, confine_paths(wanted.flow, wanted.params, services)
    request.max_content_length = MAX_UPLOAD_BYTES
    if "job" not in request.form:
        raise UnsupportedMediaType("the form has no part `job`: put the job's JSON there")
    wanted = parse(NewJob, request.form["job"].encode())
    files = {field: (file.filename or field, file.read()) for field, file in request.files.items()}
    given = {name: value for name, value in wanted.params.items() if name not in files}
    kept = confine_paths(wanted.flow, given, services)
    return wanted, kept | store_uploads(wanted.flow, files, services)


@routes.get("/jobs")
def list_jobs() -> dict[str, Any]:
    """List jobs, newest first; ``next`` is the ``after`` of the next page, null on the last page."""
    query = _query(JobsQuery)
    found = backend().jobs.newest(**query.model_dump(exclude={"limit"}), limit=query.limit + 1)
    page = found[: query.limit]
    return {"jobs": [job.dump() for job in page], "next": page[-1].id if len(found) > query.limit else None}


@routes.get("/jobs/<job_id>")
def show_job(job_id: str) -> dict[str, Any]:
    """Show a job, with the errors of its failed items by source, and its last log lines if requested."""
    query, jobs = _query(JobQuery), backend().jobs
    facts: dict[str, Any] = jobs.get(job_id).dump()
    facts["failures"] = {source: error.dump() for source, error in jobs.failures(job_id).items()}
    if query.log:
        facts["log"] = jobs.logs(job_id, query.log)
    return facts


@routes.post("/jobs/<job_id>/retry")
def retry_job(job_id: str) -> dict[str, Any]:
    """Run an ended job again, and show it: a parked one from where it stopped, any other as a new job."""
    job = backend().jobs.get(job_id)
    require_role(needed_role(job.flow, job.params))
    return backend().retry(job_id, caller()).dump()


@routes.post("/jobs/<job_id>/cancel")
def cancel_job(job_id: str) -> dict[str, Any]:
    """Cancel a job, and show it. One that has ended stays as it is."""
    backend().jobs.get(job_id)
    backend().jobs.end(job_id, JobStatus.CANCELLED)
    return backend().jobs.get(job_id).dump()


@routes.get("/jobs/<job_id>/bad-rows")
def show_bad_rows(job_id: str) -> Response:
    """Return the rows that a push has left out, as a CSV: ``line``, ``reason`` and ``row``."""
    backend().jobs.get(job_id)
    services = backend().services
    return Response(read_bad_rows(services.store(services.settings.store), job_id), content_type=CSV_TYPE)


@routes.post("/check-url")
def check_url() -> Response:
    """Enqueue a check of a URL: 202; ``url`` is where its result will be."""
    wanted = body(NewCheck)
    job, _ = backend().start("check_url", wanted.model_dump(exclude_none=True), None, caller=caller())
    url = url_for("api.show_check", job_id=job.id, _external=True)
    answer = jsonify(id=job.id, status=job.status, url=url)
    answer.status_code = HTTPStatus.ACCEPTED
    answer.headers["Location"] = url
    return answer


@routes.get("/check-url/<job_id>")
def show_check(job_id: str) -> dict[str, Any]:
    """Show the status of a check and, once it has ended, its result (``datafab/collect/urlcheck.py``)."""
    job = backend().jobs.get(job_id)
    if job.flow != "check_url":
        raise NotFound(f"job {job_id} is not a check of a URL", field="job")
    services = backend().services
    found = services.store(services.settings.store).read(finding_name(job.id))
    error = job.error.dump() if job.error else None
    return {"id": job.id, "status": job.status, "result": json.loads(found) if found else None, "error": error}


@routes.get("/sources")
def show_source() -> dict[str, Any]:
    """Show the last known facts of a source, its last checks, and its document in the index."""
    name, services = _query(SourceQuery).id, backend().services
    looks, document = services.get(SourceRegistry).looks(name), services.get(IndexAccess).reading.get(name)
    if not looks and document is None:
        raise NotFound(f"no source {name!r} has been checked", field="id")
    facts = {key: value for key, value in asdict(services.get(SourceRegistry).state(name)).items() if value is not None}
    return {
        "source": name,
        "facts": hide_all_secrets(facts),
        "looks": [look._asdict() for look in looks],
        "next": services.get(SourceRegistry).next_revisit(name),
        "document": document and document.dump(),
    }


@routes.get("/flows")
def list_flows() -> dict[str, Any]:
    """List the flows that a job can run, and the stages that flows consist of."""
    return {
        "flows": [flow.dump() for flow in flows().values()],
        "stages": [stage.dump() for stage in STAGES.values()],
    }


@routes.get("/search")
def search() -> dict[str, Any]:
    """Search the index: the matching documents, what matched in them, and the requested facets."""
    query = _query(SearchQuery)
    facets = parse_facets(name.strip() for name in query.facets.split(",") if name.strip())
    index = backend().services.get(IndexAccess).reading
    return index.search(query.q, query.limit, query.offset, sort=query.sort, facets=facets).dump()


def _query(model: type[M]) -> M:
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise refusal(error) from error
