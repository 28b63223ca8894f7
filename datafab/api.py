"""The Python API: enqueue a job, follow it, search what was found.

::

    import datafab

    job = datafab.enqueue("collect", endpoints="endpoint.csv", collection="collection/")
    print(job.wait().counts)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import lru_cache
from typing import Any

from datafab.core.document import Results
from datafab.core.item import Counts, ItemError
from datafab.core.job import Job, JobStatus, outcome
from datafab.core.jobs import MAX_LINES, after_key
from datafab.core.jobs import connect as redis_at
from datafab.core.services import Services
from datafab.embedded import running
from datafab.errors import DatafabError, FlowError, NotFound
from datafab.flows.registry import find, localise
from datafab.index.access import IndexAccess
from datafab.index.query import facets_named, sort_named
from datafab.settings import Settings, load
from workers import app as cluster
from workers.canvas import start

#: Seconds between two looks at a job that is waited for.
LOOK_EVERY = 0.1


class JobFailed(DatafabError):
    """A job did not succeed.

    Attributes:
        job: as it ended.
        by_items: whether it has been through all stages, and failed because each of its items did.
    """

    def __init__(self, job: Job, *, by_items: bool = False) -> None:
        reason = job.error.message if job.error else job.status.value
        super().__init__(f"job {job.id} {job.status.value} in stage {job.failed_in}: {reason}", code=job.status.value)
        self.job = job
        self.by_items = by_items


class JobHandle:
    """A job that was enqueued.

    Attributes:
        id: its id, for ``datafab jobs show`` and ``/api/jobs/<id>``.
    """

    def __init__(self, job: str) -> None:
        connect()
        self.id = job

    @property
    def job(self) -> Job:
        """The job as it is now."""
        return cluster.jobs().get(self.id)

    @property
    def status(self) -> JobStatus:
        """Where it stands."""
        return self.job.status

    @property
    def result(self) -> Counts | None:
        """The sums over its items, once it has ended."""
        return self.job.counts

    @property
    def logs(self) -> list[dict[str, Any]]:
        """Its last log lines, the oldest first."""
        return cluster.jobs().logs(self.id, MAX_LINES)

    @property
    def failures(self) -> dict[str, ItemError]:
        """Its failed items, source -> error."""
        return cluster.jobs().failures(self.id)

    def wait(self, timeout: float | None = None, told: Callable[[Job], None] = lambda _: None) -> Job:
        """Wait until it has ended; ``told`` hears of the job at every look.

        Args:
            timeout: seconds; None: as long as it takes.
            told: called with the job as it is.

        Raises:
            JobFailed: it failed, with each of its items or as a whole, was parked or cancelled.
            TimeoutError: it has not ended by then; it goes on.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            job = self.job
            told(job)
            if job.final:
                break
            if end is not None and time.monotonic() > end:
                msg = f"job {self.id} has not ended after {timeout:g} s; it goes on"
                raise TimeoutError(msg)
            time.sleep(LOOK_EVERY)
        if job.status != JobStatus.SUCCEEDED:
            ending = outcome(job.counts, self.failures)
            raise JobFailed(job, by_items=ending == (job.status, job.error))
        return job

    def through(self, timeout: float | None = None, told: Callable[[Job], None] = lambda _: None) -> Job:
        """Wait until it has been through its stages, whatever became of its items: they may all have failed.

        Args:
            timeout: seconds; None: as long as it takes.
            told: called with the job as it is.

        Raises:
            JobFailed: it failed as a whole, was parked or cancelled.
            TimeoutError: it has not ended by then; it goes on.
        """
        try:
            return self.wait(timeout, told)
        except JobFailed as failed:
            if not failed.by_items:
                raise
            return failed.job

    def settle(self, limit: float) -> Job | None:
        """Wait until what follows this job, such as a push's callback, has ended too, and return that job.

        Args:
            limit: seconds at most; None is returned after them, and where nothing follows.
        """
        job, end = self.job, time.monotonic() + limit
        while job.ended is not None and find(job.flow).following(job.params) and time.monotonic() < end:
            following = cluster.jobs().with_key(after_key(job.id, job.ended))
            if following is not None and (found := cluster.jobs().get(following)).final:
                return found
            time.sleep(LOOK_EVERY)
        return None

    def cancel(self) -> bool:
        """Cancel it; False: it had ended before."""
        return cluster.jobs().end(self.id, JobStatus.CANCELLED)

    def retry(self) -> JobHandle:
        """Run it again: a parked job where it stopped, another ended one as a new job, which finds what is done.

        Raises:
            FlowError: it has not ended.
        """
        job = self.job
        if not job.final:
            raise FlowError(f"job {self.id} is {job.status.value}; cancel it first", field="job")
        if job.status == JobStatus.PARKED and (cluster.ledger().unpark(self.id) or not self.job.final):
            return self
        again, _ = start(job.flow, dict(job.params))
        return JobHandle(again.id)


def connect(settings: Settings | None = None) -> Settings:
    """Point this process at the cluster: the one of ``DATAFAB_REDIS_URL``, else the one that runs in this home.

    A process that has been pointed at one before stays there.

    Raises:
        NotFound: there is none.
        redis.exceptions.RedisError: its Redis does not answer.
    """
    settings = settings or cluster.settings()
    if settings.redis_url is None:
        here = running(settings)
        if here is None:
            msg = "no cluster: start one with `datafab up`, or set DATAFAB_REDIS_URL"
            raise NotFound(msg, field="DATAFAB_REDIS_URL")
        settings = load(**settings.model_dump(exclude_unset=True) | {"redis_url": here.redis_url})
    _answers(str(settings.redis_url))
    if settings != cluster.settings():
        cluster.use(settings)
    return settings


@lru_cache
def _answers(url: str) -> None:
    """Ask Redis once, for a second: what comes after rides out its restarts, and would wait for half a minute."""
    with closing(redis_at(url, patience=1)) as client:
        client.ping()


def enqueue(flow: str, *, key: str | None = None, secrets: Mapping[str, str] | None = None, **params: Any) -> JobHandle:
    """Enqueue a job and return at once.

    Args:
        flow: its name; ``datafab flows list`` has them.
        key: a job that already has this key is returned instead of a new one.
        secrets: API keys and the like, which are kept apart from the parameters and erased when the job has ended.
        params: the flow's parameters. Files are copied to the store, folders made absolute.

    Raises:
        NotFound: no such flow, file or cluster.
        FlowError: a parameter is missing or wrong.
    """
    connect()
    job, _ = start(flow, localise(flow, params, cluster.services()), key, secrets=secrets)
    return JobHandle(job.id)


def search(
    query: str, *, limit: int = 20, offset: int = 0, sort: str = "relevance", facets: Iterable[str] = ()
) -> Results:
    """Search the index.

    Args:
        query: words, ``format:siret``, ``column:"code postal"``, ``rows:>1000`` ...: ``docs/search.md``.
        limit: documents to return at most.
        offset: documents to leave out first.
        sort: ``relevance``, ``newest``, ``rows``, ``size`` or ``title``.
        facets: what all results are to be counted by: ``format``, ``organisation``, ``domain``, ``status``, ``all``.

    Raises:
        FlowError: the query cannot be read, with the ``position`` at which it cannot; or another argument is wrong.
    """
    order, counted = sort_named(sort), facets_named(facets)
    services = Services(cluster.settings())
    try:
        return services.get(IndexAccess).reading.search(query, limit, offset, sort=order, facets=counted)
    finally:
        services.close()
