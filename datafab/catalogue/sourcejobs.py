"""One job for each state of a source, whoever asks how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from datafab.catalogue.sources import Sources
from datafab.core.job import JobStatus
from datafab.core.jobs import RedisJobs

SOURCE = "datagouv:"


def enqueue(
    jobs: object,
    sources: Sources,
    start: Callable[[str, dict[str, Any], str], str],
    params: Mapping[str, Any],
    since: float,
) -> None:
    """Enqueue a job of the flow ``source``, unless there is one for this ``fingerprint`` of it.

    One that was made before ``since`` and came to no end, so that nothing was remembered, does not count.
    """
    key = f"source:{params['source'].removeprefix(SOURCE)}:{params['fingerprint']}"
    made = start("source", dict(params), key)
    assert isinstance(jobs, RedisJobs), "without a cluster nothing is enqueued"
    job = jobs.get(made)
    if not job.final or job.status is JobStatus.PARKED or job.created > since:
        return
    if sources.facts(params["source"]).fingerprint != params["fingerprint"]:
        # The key is taken from it.
        jobs.release_key(job.id, key)
        start("source", dict(params), key)
