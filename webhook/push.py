"""CKAN's DataPusher under ``/datapusher``: set ``ckan.datapusher.url`` to ``http://<here>/datapusher/``.

The paths, texts and shapes are those of the repository ckan/ckan-service-provider, ``ckanserviceprovider/web.py``.
An ``error`` is a string there, and an object in a job. A job's page is for those who show its ``job_key``, which only
the submit's answer and the callback hold; there is no admin login.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any, cast

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException

from datafab.core import strict_json as strictjson
from datafab.core.item import ItemError, Status
from datafab.core.job import Job
from datafab.core.jobs import MAX_LINES, follow_up_key
from datafab.errors import DatafabError, FlowError, NotFound
from datafab.push.callback import key_header
from datafab.push.ckan import ckan_root, require_allowed, require_plain
from datafab.push.datapusher import (
    JOB_TYPE,
    KEY_KIND,
    RESTORE_ERROR,
    STATUSES,
    datapusher_id,
    job_dict,
    key,
    params,
    root,
)
from datafab.urls import has_login, hide_all_secrets
from webhook.caller import called_by_own_host
from webhook.errors import REDIS_ERRORS, RETRY_AFTER_SECONDS
from webhook.site import backend

routes = Blueprint("datapusher", __name__, url_prefix="/datapusher")

KEYS = ("job_type", "data", "metadata", "result_url", "api_key")
NOT_JSON = "Not recognised as json, make sure content type is application/json"
MAX_ID_CHARS = 256
#: What a header can hold.
MEDIA_TYPE = re.compile(r"[!-~][ -~]{0,254}")
#: Jobs per request to Redis when they are listed.
PAGE_SIZE = 200
#: The largest offset and limit that Redis's scripts count exactly.
MAX_OFFSET = 2**50
Answer = Response | tuple[Response, HTTPStatus]


def _error(message: Any, code: HTTPStatus = HTTPStatus.CONFLICT) -> tuple[Response, HTTPStatus]:
    return jsonify(error=hide_all_secrets(message)), code


@routes.before_request
def check_ckans() -> Answer | None:
    """Refuse callers of other hosts unless the CKANs are known: CKAN sends no key, but pushes go to these alone."""
    if backend().services.settings.ckan_urls or called_by_own_host():
        return None
    text = "set DATAFAB_CKAN_URLS to the CKANs that are served: without it, only callers on this host are"
    return _error(text, HTTPStatus.FORBIDDEN)


@routes.get("/")
def index() -> dict[str, str]:
    """Return a short help."""
    return {"help": "DataPusher's API: POST /job submits a push, GET /job/<id> shows it, GET /status counts them."}


@routes.get("/status", strict_slashes=False)
def sums() -> dict[str, Any]:
    """Count the known jobs by status."""
    stats = backend().jobs.count_keyed(KEY_KIND)
    return {"version": 0.1, "job_types": [JOB_TYPE], "name": "datapusher", "stats": stats}


@routes.post("/job", strict_slashes=False)
@routes.post("/job/<job_id>", strict_slashes=False)
def submit(job_id: str | None = None) -> Answer:
    """Enqueue a push, and answer before CKAN is queried."""
    try:
        sent = _sent()
    except ValueError:
        return _error("Malformed json")
    refused = next(_refusals(sent), None)
    if refused:
        return _error(refused)
    job_id, job_key = job_id or str(uuid.uuid4()), secrets.token_urlsafe(32)
    if len(job_id) > MAX_ID_CHARS:
        return _error(f"job_id is longer than {MAX_ID_CHARS} characters")
    kept = params(job_id, sent, _digest(job_key))
    # Fail fast if Redis is away: CKAN waits for five seconds only.
    backend().jobs.ping()
    job, new = backend().start("push", kept, key(job_id), secrets={"api_key": sent["api_key"], "job_key": job_key})
    if not new:
        return _error(f"job_id {job_id} already exists")
    return jsonify(job_dict(job, {}, (), job_key=job_key))


def _sent() -> Any:
    """Return the body of a submit; a content type that only names JSON will do, as ``text/html; application/json``."""
    if request.content_encoding:
        return None
    if request.is_json:
        return strictjson.loads(request.get_data())
    if "application/json" not in (request.content_type or "").lower():
        return None
    try:
        return strictjson.loads(request.get_data())
    except ValueError:
        return None


def _refusals(sent: Any) -> Iterator[str]:
    """Yield the errors of the body of a submit, in the original's order and words; only the first one is reliable."""
    if not isinstance(sent, dict) or not sent:
        yield NOT_JSON
    extra = [name for name in sent if name not in KEYS]
    if extra:
        yield f"Too many arguments. Extra keys are {', '.join(extra)}"
    result_url, job_type, api_key = sent.get("result_url"), sent.get("job_type"), sent.get("api_key")
    if result_url and not str(result_url).startswith("http"):
        yield "result_url has to start with http"
    if not job_type:
        yield "Please specify a job type"
    if job_type != JOB_TYPE:
        yield f"Job type {job_type} not available. Available job types are {JOB_TYPE}"
    if not api_key or not isinstance(api_key, str):
        yield "Please provide your API key."
    if not isinstance(sent.get("metadata", {}), dict):
        yield "metadata has to be a json object"
    yield from _elsewhere(sent)


def _elsewhere(sent: Mapping[str, Any]) -> Iterator[str]:
    """Yield the errors of the URLs and of the header for the key."""
    settings, ckan = backend().services.settings, sent.get("metadata", {}).get("ckan_url")
    checks: list[Callable[[], object]] = [
        lambda: key_header(sent["api_key"], settings),
    ]
    if sent.get("result_url"):
        checks.append(lambda: _check_result_url(str(sent["result_url"])))
    if ckan:
        checks.append(lambda: require_allowed(ckan_root(str(ckan)), settings))
    for check in checks:
        try:
            check()
        except DatafabError as error:
            yield error.message


def _check_result_url(url: str) -> None:
    require_plain(url, "result_url")
    require_allowed(root(url), backend().services.settings)
    if has_login(url):
        raise FlowError("result_url must not hold a user or a password: the callback shows the API key", code="secret")


@routes.get("/job", strict_slashes=False)
def listing() -> Answer:
    """List jobs, newest first, by their paths only, because no key is needed for this."""
    wanted = request.args.to_dict()
    try:
        limit, offset = int(wanted.pop("_limit", "100")), int(wanted.pop("_offset", "0"))
    except ValueError:
        return _error("_limit and _offset have to be integers")
    state = wanted.pop("_status", None)
    if state not in {None, *STATUSES}:
        return jsonify(list=[])
    first, limit = (min(max(number, 0), MAX_OFFSET) for number in (offset, limit))
    page: Iterator[Job] = _jobs(state or "", first, limit)
    if wanted:
        page = islice(_described(wanted, state or ""), first, first + limit)
    return jsonify(list=[f"/job/{name}" for job in page if (name := datapusher_id(job)) is not None])


def _jobs(state: str, first: int, limit: int) -> Iterator[Job]:
    """Yield the pushes that were submitted here, newest first."""
    while limit > 0 and (page := backend().jobs.keyed(KEY_KIND, state, first=first, limit=min(limit, PAGE_SIZE))):
        yield from page
        first, limit = first + len(page), limit - len(page)


def _described(wanted: Mapping[str, str], state: str) -> Iterator[Job]:
    """Yield those whose metadata have all of these values; Redis finds the few that may."""
    texts = [_spellings(name, value) for name, value in wanted.items()]
    for job in backend().jobs.find_keyed(KEY_KIND, state, texts):
        kept = _metadata(job)
        if all(name in kept and _text(kept[name]) == value for name, value in wanted.items()):
            yield job


def _spellings(name: str, value: str) -> list[str]:
    """Return how the JSON of parameters may spell a value: as a text, or as what ``_text`` has made of another type."""
    values = [value, json.dumps(value), json.dumps(value, ensure_ascii=False)]
    if "\\u" in value:  # part of an object or a list, of which the parameters have the characters themselves
        values.append("")
    return [f"{key}: {one}" for one in values for key in {json.dumps(name), json.dumps(name, ensure_ascii=False)}]


def _metadata(job: Job) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", job.params.get("metadata") or {})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _failures(job: Job) -> dict[str, ItemError]:
    """Return the errors of a job's failed items; they are read only if its counts say that there are some."""
    if job.final and any(stage.failed for stage in job.progress):
        return backend().jobs.failures(job.id)
    return {}


@routes.get("/job/<job_id>", strict_slashes=False)
def one(job_id: str) -> Answer:
    """Show a job; its key is needed."""
    job = _authorized(job_id)
    if not isinstance(job, Job):
        return job
    jobs = backend().jobs
    limit = request.args.get("limit", "")
    lines = jobs.logs(job.id, MAX_LINES)
    if limit.isdecimal():
        lines = lines[::-1][: int(limit[:9])]
    return jsonify(job_dict(job, _failures(job), lines, callback=_lost_callback(job)))


@routes.get("/job/<job_id>/data", strict_slashes=False)
def data(job_id: str) -> Answer:
    """Return the data of a job, which are empty: the result of a push is a table in CKAN."""
    job = _authorized(job_id)
    if not isinstance(job, Job):
        return job
    error = job_dict(job, _failures(job), ())["error"]
    if error:
        return _error(error)
    kind = _text(_metadata(job).get("mimetype"))
    return Response(b"", content_type=kind if MEDIA_TYPE.fullmatch(kind) else "text/plain")


@routes.delete("/job/<job_id>", strict_slashes=False)
def delete(job_id: str) -> Answer:
    """Forget a job. If it is running, it keeps running, and still calls back."""
    job = _authorized(job_id)
    if not isinstance(job, Job):
        return job
    backend().jobs.release_key(job.id, key(job_id))
    return jsonify(success=True)


@routes.route("/login", methods=["GET", "POST"], strict_slashes=False)
@routes.get("/logout", strict_slashes=False)
@routes.get("/user", strict_slashes=False)
@routes.delete("/job", strict_slashes=False)
def admin() -> Answer:
    """Refuse the routes that need the original's admin login."""
    text = "there is no admin login; `datafab jobs list` shows jobs, DATAFAB_RETENTION_DAYS sets how long they are kept"
    return _error(text, HTTPStatus.NOT_IMPLEMENTED)


@routes.route("/<path:_rest>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
def unknown(_rest: str) -> Answer:
    """Answer any other path in the form of this API."""
    return _error(f"{request.method} {request.path}: no such page", HTTPStatus.NOT_FOUND)


def _authorized(job_id: str) -> Job | tuple[Response, HTTPStatus]:
    """Return a job if the request has its key, else the refusal."""
    try:
        job = backend().jobs.get(backend().jobs.find_by_key(key(job_id)) or "")
    except NotFound:
        return _error("job_id not found", HTTPStatus.NOT_FOUND)
    shown, known = request.headers.get("Authorization"), str(job.params.get("authorization") or "")
    if not shown or not known or not hmac.compare_digest(_digest(shown), known):
        return _error("not authorized", HTTPStatus.FORBIDDEN)
    return job


def _digest(job_key: str) -> str:
    return hashlib.sha256(job_key.encode()).hexdigest()


def _lost_callback(job: Job) -> ItemError | None:
    """Return the error of a job's callback, if it could not be sent."""
    jobs = backend().jobs
    following = jobs.find_by_key(follow_up_key(job.id, job.ended)) if job.ended is not None else None
    if following is None:
        return None
    others = {Status.SKIPPED, RESTORE_ERROR}
    failures = [error for error in jobs.failures(following).values() if error.type not in others]
    return failures[0] if failures else None


@routes.errorhandler(HTTPException)
def _refused(error: HTTPException) -> Answer:
    return _error(error.description or error.name, HTTPStatus(error.code or 500))


@routes.errorhandler(DatafabError)
def _failed(error: DatafabError) -> Answer:
    return _error(error.message)


def _away(error: Exception) -> Response:
    current_app.logger.warning("Redis is away: %s", error)
    answer = jsonify(error="the queue does not answer: submit again in a moment")
    answer.status_code, answer.headers["Retry-After"] = HTTPStatus.SERVICE_UNAVAILABLE, RETRY_AFTER_SECONDS
    return answer


for _kind in REDIS_ERRORS:
    routes.register_error_handler(_kind, _away)
