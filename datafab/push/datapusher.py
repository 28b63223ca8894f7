"""Jobs in the format of CKAN's DataPusher. Pure.

All times are naive local times in ISO format with microseconds, as CKAN only parses ``%Y-%m-%dT%H:%M:%S.%f``.
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
#: Kind of the dedupe key of a push, by which pushes are listed (``LISTED_KEYS`` of ``datafab/core/redis.py``).
KEY_KIND = "datapusher"
#: Prefix of that key; the id that its submitter chose follows.
KEY_PREFIX = f"{KEY_KIND}:"
#: The statuses of a push.
STATUSES = ("pending", "complete", "error")
#: Type of the error of the flow ``callback`` if the former table could not be restored.
RESTORE_ERROR = "restore"
LOST_CALLBACK = "Process completed but unable to post to result_url"


def key(job_id: str) -> str:
    """Return the dedupe key of a DataPusher job."""
    return KEY_PREFIX + job_id


def datapusher_id(job: Job) -> str | None:
    """Return the DataPusher id of a job; None if it was not submitted to the DataPusher API, or was deleted there."""
    return job.key.removeprefix(KEY_PREFIX) if job.key and job.key.startswith(KEY_PREFIX) else None


def params(job_id: str, sent: Mapping[str, Any], authorization: str) -> dict[str, Any]:
    """Return the parameters of a push: the submitted body without its secrets.

    Args:
        job_id: the DataPusher id.
        sent: the submitted body.
        authorization: sha256 of the job_key, to authorise later requests with it.
    """
    kept = {name: sent[name] for name in ("job_type", "data", "metadata", "result_url") if sent.get(name)}
    return kept | {"job_id": job_id, "authorization": authorization}


def root(url: str) -> str:
    """Return the root URL of a CKAN in one spelling: with a scheme, without slashes at the end."""
    url = url.strip().rstrip("/")
    return url if "://" in url else f"http://{url}"


def requested_resource(params: Mapping[str, Any]) -> CkanFacts:
    """Return the resource and the CKAN that the parameters of a job name.

    Raises:
        FlowError: a parameter is missing; the messages are those of the original.
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
    """Return a job in the format of DataPusher.

    Args:
        job: the push.
        failures: its failed items.
        lines: its log, the oldest line first.
        job_key: only given in the answer to the submission and in the callback.
        callback: reason why the callback could not be sent; it is added to the push's own error.
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
    """Format a Unix time as CKAN parses it: always with microseconds, never with a zone."""
    local = datetime.fromtimestamp(seconds, tz=UTC).astimezone().replace(tzinfo=None)
    return local.isoformat(timespec="microseconds")


def _error(job: Job, failures: Mapping[str, ItemError], callback: ItemError | None) -> dict[str, Any] | None:
    """Return why a job failed, with the original's keys if an HTTP status is the reason."""
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
