"""A job as CKAN's DataPusher shows it: the shapes that CKAN reads. Pure.

All times are naive, local, ISO and with microseconds: CKAN parses them with ``%Y-%m-%dT%H:%M:%S.%f`` and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from datafab.core.item import CkanFacts, ItemError
from datafab.core.job import Job, JobStatus
from datafab.errors import FlowError

JOB_TYPE = "push_to_datastore"
#: A push's dedupe key is this and the id that its submitter chose: an id in use is a key in use.
KEY = "datapusher:"
#: The kind of error of the flow that follows a push, where a former table could not be put back.
UNRESTORED = "restore"
LOST_CALLBACK = "Process completed but unable to post to result_url"


def key(job_id: str) -> str:
    """Return the dedupe key of a DataPusher job."""
    return KEY + job_id


def id_of(job: Job) -> str | None:
    """Return a job's DataPusher id; None: it was not submitted that way, or was deleted there."""
    return job.key.removeprefix(KEY) if job.key and job.key.startswith(KEY) else None


def params(job_id: str, sent: Mapping[str, Any], authorization: str) -> dict[str, Any]:
    """Return a push's parameters: what was sent, without its secrets.

    Args:
        job_id: the DataPusher id.
        sent: the body of the submit.
        authorization: sha256 of the job_key, to know whoever shows it again.
    """
    kept = {name: sent[name] for name in ("job_type", "data", "metadata", "result_url") if sent.get(name)}
    return kept | {"job_id": job_id, "authorization": authorization}


def root(url: str) -> str:
    """Return a CKAN's root URL in one spelling: with its scheme, without slashes at its end."""
    url = url.strip().rstrip("/")
    return url if "://" in url else f"http://{url}"


def wanted(params: Mapping[str, Any]) -> CkanFacts:
    """Return which resource of which CKAN a job's parameters name.

    Raises:
        FlowError: something is missing; the messages are those that CKAN's users know.
    """
    metadata = params.get("metadata") if "job_type" in params or "metadata" in params else params
    if not isinstance(metadata, Mapping) or not metadata:
        raise FlowError("Metadata missing", code="bad_request", field="metadata")
    texts = {name: str(metadata.get(name) or "") for name in ("resource_id", "ckan_url")}
    if not texts["resource_id"]:
        raise FlowError("No id provided.", code="bad_request", field="resource_id")
    if not texts["ckan_url"]:
        raise FlowError("No ckan_url provided.", code="bad_request", field="ckan_url")
    return CkanFacts(
        url=root(texts["ckan_url"]),
        resource=texts["resource_id"],
        # Any value that is true will do, as in ``push_to_datastore`` of ckan/datapusher, ``datapusher/jobs.py``.
        ignore_hash=bool(metadata.get("ignore_hash")),
        set_url_type=bool(metadata.get("set_url_type")),
    )


def status(job: Job, failures: Mapping[str, ItemError]) -> str:
    """Return ``pending``, ``complete`` or ``error``."""
    if not job.final:
        return "pending"
    return "error" if failures or job.status is not JobStatus.SUCCEEDED else "complete"


def job_dict(
    job: Job,
    failures: Mapping[str, ItemError],
    lines: Iterable[Mapping[str, Any]],
    *,
    job_key: str | None = None,
    callback: ItemError | None = None,
) -> dict[str, Any]:
    """Return a job as CKAN knows it.

    Args:
        job: the push.
        failures: its failed items.
        lines: its log, the oldest first.
        job_key: given only in the answer to the submit and in the callback.
        callback: why the callback could not be sent, where that is so; beside the push's own error, never over it.
    """
    sent = job.params
    shown: dict[str, Any] = {
        "job_id": sent.get("job_id", job.id),
        "job_type": sent.get("job_type", JOB_TYPE),
        "status": status(job, failures),
        "data": None,
        "error": _error(job, failures, callback),
        "requested_timestamp": stamp(job.created),
        "finished_timestamp": stamp(job.ended) if job.ended is not None else None,
        "sent_data": sent.get("data") or {},
        "aps_job_id": job.id,
        "result_url": sent.get("result_url"),
    }
    if job_key is not None:
        shown["job_key"] = job_key
    return shown | {"metadata": sent.get("metadata") or {}, "logs": [_line(line) for line in lines]}


def stamp(seconds: float) -> str:
    """Return a Unix time as CKAN parses it: microseconds always, never a zone."""
    local = datetime.fromtimestamp(seconds, tz=UTC).astimezone().replace(tzinfo=None)
    return local.isoformat(timespec="microseconds")


def _error(job: Job, failures: Mapping[str, ItemError], callback: ItemError | None) -> dict[str, Any] | None:
    """Return why a job failed, with the original's keys where an HTTP status is the reason."""
    error = next(iter(failures.values()), job.error)
    if error is None and job.final and job.status is not JobStatus.SUCCEEDED:
        error = ItemError(type=job.status.value, message=f"the job was {job.status.value}")
    facts: dict[str, Any] = {"message": error.message} if error else {}
    found = re.fullmatch(r"(?:http|ckan)_(\d{3})", error.type) if error else None
    if error and found:
        facts |= {"HTTP status code": int(found[1]), "Requested URL": error.field}
    if callback is not None:
        facts = {"message": LOST_CALLBACK} | facts | {"callback": f"{LOST_CALLBACK}: {callback.message}"}
    return facts or None


def _line(line: Mapping[str, Any]) -> dict[str, Any]:
    stage = str(line.get("stage", ""))
    return {
        "timestamp": stamp(float(line["at"])),
        "message": str(line.get("event", "")),
        "level": str(line.get("level", "info")).upper(),
        "module": stage,
        "funcName": stage,
        "lineno": 0,
    }
