"""The Python API: enqueue a job, follow it, search the index.

::

    import datafab

    job = datafab.enqueue("collect", endpoints="endpoint.csv", collection="collection/")
    print(job.wait().counts)

It uses the cluster of DATAFAB_REDIS_URL, or the one that runs in DATAFAB_HOME; or, over HTTP, the one of DATAFAB_URL.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import lru_cache
from typing import Any

from datafab.core.document import Results
from datafab.core.item import Counts, ItemError
from datafab.core.job import Job, JobStatus, job_result
from datafab.core.jobs import MAX_LINES, follow_up_key
from datafab.core.redis import connect as redis_at
from datafab.core.services import Services
from datafab.embedded import running
from datafab.errors import DatafabError, FlowError, NotFound
from datafab.flows.registry import find, localise
from datafab.index.access import IndexAccess
from datafab.index.query import parse_facets, parse_sort
from datafab.remote import RemoteCluster
from datafab.settings import Settings
from workers import app
from workers.canvas import retry, start

#: Seconds between two queries of the status of a job.
POLL_SECONDS = 0.1
OnProgress = Callable[[Job], None]


class JobFailed(DatafabError):
    """A job did not succeed.

    Attributes:
        job: the job at its end.
        by_items: whether the job ran to its end and failed because each of its items failed.
    """

    def __init__(self, job: Job, *, by_items: bool = False) -> None:
        reason = job.error.message if job.error else job.status.value
        super().__init__(f"job {job.id} {job.status.value} in stage {job.failed_in}: {reason}", code=job.status.value)
        self.job = job
        self.by_items = by_items


class DirectCluster:
    """The cluster whose Redis this process is connected to."""

    poll_seconds = POLL_SECONDS

    def enqueue(self, flow: str, params: Mapping[str, Any], key: str | None, secrets: Mapping[str, str] | None) -> str:
        """Enqueue a job and return its id."""
        return start(flow, localise(flow, params, app.services()), key, secrets=secrets)[0].id

    def job(self, job: str) -> Job:
        """Return a job."""
        return app.jobs().get(job)

    def failures(self, job: str) -> dict[str, ItemError]:
        """Return the errors of a job's failed items, by source."""
        return app.jobs().failures(job)

    def logs(self, job: str) -> list[dict[str, Any]]:
        """Return a job's last log lines, oldest first."""
        return app.jobs().logs(job, MAX_LINES)

    def cancel(self, job: str) -> bool:
        """Cancel a job, and return whether it was still running."""
        return app.jobs().end(job, JobStatus.CANCELLED)

    def retry(self, job: str) -> str:
        """Run a job again; return the id of the job that runs."""
        return retry(job).id

    def newest(
        self,
        *,
        status: JobStatus | None = None,
        flow: str | None = None,
        caller: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Return jobs, the newest first."""
        return app.jobs().newest(status=status, flow=flow, caller=caller, limit=limit)

    def following(self, job: Job) -> Job | None:
        """Return the job that follows one that has ended; None: it has not been enqueued."""
        found = None if job.ended is None else app.jobs().find_by_key(follow_up_key(job.id, job.ended))
        return None if found is None else app.jobs().get(found)


def cluster() -> DirectCluster | RemoteCluster:
    """Return the cluster of DATAFAB_URL, else the one that ``connect`` finds."""
    if app.settings().url:
        return RemoteCluster(app.settings())
    connect()
    return DirectCluster()


class JobHandle:
    """An enqueued job.

    Attributes:
        id: the job's id, for ``datafab jobs show`` and ``/api/jobs/<id>``.
    """

    def __init__(self, job: str) -> None:
        self._cluster = cluster()
        self.id = job

    @property
    def job(self) -> Job:
        """The present state of the job."""
        return self._cluster.job(self.id)

    @property
    def status(self) -> JobStatus:
        """The job's status."""
        return self.job.status

    @property
    def result(self) -> Counts | None:
        """The sums over the job's items; None until the job has ended."""
        return self.job.counts

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The job's last log lines, oldest first."""
        return self._cluster.logs(self.id)

    @property
    def failures(self) -> dict[str, ItemError]:
        """The errors of the job's failed items, by source."""
        return self._cluster.failures(self.id)

    def wait(
        self,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        *,
        told: OnProgress | None = None,
    ) -> Job:
        """Wait until the job has ended, and return it.

        Args:
            timeout: seconds; None: no limit.
            on_progress: called with the job's present state, about ten times per second; over HTTP each second.
            told: deprecated name of ``on_progress``.

        Raises:
            JobFailed: the job failed, because each of its items did or as a whole, or was parked or cancelled.
            TimeoutError: the job has not ended within ``timeout``; it keeps running.
        """
        on_progress = _renamed(told, on_progress)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            job = self.job
            if on_progress is not None:
                on_progress(job)
            if job.final:
                break
            if end is not None and time.monotonic() > end:
                msg = f"job {self.id} has not ended after {timeout:g} s; it keeps running"
                raise TimeoutError(msg)
            time.sleep(self._cluster.poll_seconds)
        if job.status != JobStatus.SUCCEEDED:
            ending = job_result(job.counts, self.failures)
            raise JobFailed(job, by_items=ending == (job.status, job.error))
        return job

    def wait_for_end(self, timeout: float | None = None, on_progress: OnProgress | None = None) -> Job:
        """Wait until the job has ended, and return it even if each of its items failed.

        Args:
            timeout: seconds; None: no limit.
            on_progress: called with the job's present state, about ten times per second.

        Raises:
            JobFailed: the job failed as a whole, was parked or cancelled.
            TimeoutError: the job has not ended within ``timeout``; it keeps running.
        """
        try:
            return self.wait(timeout, on_progress)
        except JobFailed as failed:
            if not failed.by_items:
                raise
            return failed.job

    def wait_for_follow_up(self, limit: float) -> Job | None:
        """Wait until the job that follows this one, such as a push's callback, has ended, and return that job.

        Args:
            limit: seconds to wait; after them, where no job follows, or over HTTP, None is returned.
        """
        job, end = self.job, time.monotonic() + limit
        follow_up = find(job.flow).follow_up
        here = self._cluster
        if follow_up is None or not isinstance(here, DirectCluster) or not follow_up.applies(job.params):
            return None
        while job.ended is not None and time.monotonic() < end:
            found = here.following(job)
            if found is not None and found.final:
                return found
            time.sleep(POLL_SECONDS)
        return None

    def settle(self, limit: float) -> Job | None:
        """Deprecated name of ``wait_for_follow_up``."""
        _warn_renamed("JobHandle.settle", "JobHandle.wait_for_follow_up")
        return self.wait_for_follow_up(limit)

    def cancel(self) -> bool:
        """Cancel the job, and return whether it was still running."""
        return self._cluster.cancel(self.id)

    def retry(self) -> JobHandle:
        """Run the job again: a parked job from where it stopped, any other as a new job that reuses finished work.

        Raises:
            FlowError: the job has not ended.
        """
        again = self._cluster.retry(self.id)
        return self if again == self.id else JobHandle(again)


def _renamed(told: OnProgress | None, on_progress: OnProgress | None) -> OnProgress | None:
    if told is not None:
        _warn_renamed("the argument `told`", "`on_progress`")
    return told or on_progress


def _warn_renamed(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated, use {new}", DeprecationWarning, stacklevel=3)


def connect(settings: Settings | None = None) -> Settings:
    """Connect this process to the cluster of ``DATAFAB_REDIS_URL``, else to the one that runs in ``DATAFAB_HOME``.

    A process that is connected already stays connected to the same cluster.

    Raises:
        NotFound: there is no cluster.
        FlowError: only DATAFAB_URL is set.
        redis.exceptions.RedisError: the cluster's Redis does not answer.
    """
    settings = settings or app.settings()
    if settings.url and settings.redis_url is None:
        msg = "this needs the cluster's Redis, which DATAFAB_URL does not reach: run it on a host of the cluster"
        raise FlowError(msg, field="DATAFAB_URL")
    if settings.redis_url is None:
        here = running(settings)
        if here is None:
            msg = "no cluster: start one with `datafab up`, or set DATAFAB_REDIS_URL"
            raise NotFound(msg, field="DATAFAB_REDIS_URL")
        settings = here.reached_by(settings)
    _check_redis(settings)
    if settings != app.settings():
        app.use(settings)
    return settings


@lru_cache
def _check_redis(settings: Settings) -> None:
    """Ping Redis once, with a timeout of one second: later requests survive its restarts and retry for longer."""
    with closing(redis_at(settings, patience=1)) as client:
        client.ping()


def enqueue(flow: str, *, key: str | None = None, secrets: Mapping[str, str] | None = None, **params: Any) -> JobHandle:
    """Enqueue a job and return at once.

    Args:
        flow: name of the flow; ``datafab flows list`` prints them.
        key: if a job with this key exists, it is returned instead of a new one.
        secrets: API keys and the like, which are kept apart from the parameters and erased when the job has ended.
        params: the flow's parameters. Files are copied to the store, folders made absolute; over HTTP files are
            uploaded, and folders are relative to the cluster's DATAFAB_COLLECTIONS.

    Raises:
        NotFound: there is no such flow, file or cluster.
        FlowError: a parameter is missing or invalid.
    """
    return JobHandle(cluster().enqueue(flow, params, key, secrets))


def search(
    query: str, *, limit: int = 20, offset: int = 0, sort: str = "relevance", facets: Iterable[str] = ()
) -> Results:
    """Search the index.

    Args:
        query: words, ``format:siret``, ``column:"code postal"``, ``rows:>1000`` and more: see ``docs/search.md``.
        limit: the maximum number of documents to return.
        offset: the number of documents to skip.
        sort: ``relevance``, ``newest``, ``rows``, ``size`` or ``title``.
        facets: fields to count all results by: ``format``, ``organisation``, ``domain``, ``status``, ``all``.

    Raises:
        FlowError: the query cannot be parsed (``position`` is that of the error), or another argument is invalid.
    """
    settings = app.settings()
    if settings.url:
        return RemoteCluster(settings).search(query, limit, offset, sort, facets)
    order, counted = parse_sort(sort), parse_facets(facets)
    services = Services(settings)
    try:
        return services.get(IndexAccess).reading.search(query, limit, offset, sort=order, facets=counted)
    finally:
        services.close()
