"""Jobs of the flow ``source``: one for each fingerprint of a source, however often it is requested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from datafab.catalogue.dataset import SOURCE_PREFIX
from datafab.catalogue.sources import SourceRegistry
from datafab.core.job import JobStatus
from datafab.core.jobs import RedisJobs


def enqueue(
    jobs: object,
    sources: SourceRegistry,
    start: Callable[[str, dict[str, Any], str], str],
    params: Mapping[str, Any],
    since: float,
) -> None:
    """Enqueue a job of the flow ``source``, unless there is one for this ``fingerprint``.

    A job created before ``since`` that ended without recording the fingerprint does not count.
    """
    key = f"source:{params['source'].removeprefix(SOURCE_PREFIX)}:{params['fingerprint']}"
    created = start("source", dict(params), key)
    assert isinstance(jobs, RedisJobs), "jobs are enqueued in a cluster only"
    job = jobs.get(created)
    if not job.final or job.status is JobStatus.PARKED or job.created > since:
        return
    if sources.state(params["source"]).fingerprint != params["fingerprint"]:
        # Its dedupe key is released for the new job.
        jobs.release_key(job.id, key)
        start("source", dict(params), key)
