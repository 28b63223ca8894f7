"""Run one job to its end: on the running cluster, over HTTP, on a temporary cluster, or in this process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import click

from datafab import api
from datafab.cli import output
from datafab.core.item import Counts, ItemError
from datafab.core.job import Job, job_result
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import run_inline
from datafab.core.secrets import MemorySecrets
from datafab.core.services import Services
from datafab.embedded import CORE, Cluster, running
from datafab.flows.registry import last_requested_stage, localise, plan_new_job, then_stages
from datafab.settings import load
from workers import app

SOME_FAILED = 3
#: Seconds that a temporary cluster waits for the job that follows; after them the next cluster runs it.
FOLLOW_UP_SECONDS = 60.0

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's objects as JSON, one per line.")
inline_option = click.option("--inline", is_flag=True, help="Run in this process, without a cluster.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedJob:
    """A job that has ended, with its failures and log."""

    job: Job
    failures: Mapping[str, ItemError]
    log: Sequence[Mapping[str, Any]]
    #: the job that followed it, if that was waited for
    follow_up: Job | None = None

    @property
    def counts(self) -> Counts:
        """The sums over the job's items."""
        return self.job.counts or Counts(job=self.job.id)

    def report(self, *, as_json: bool, with_log: bool = False) -> None:
        """Print the job: its log if wanted, its failures and a summary."""
        if as_json:
            failures = {source: error.dump() for source, error in self.failures.items()}
            output.print_json_lines([self.job.dump() | {"failures": failures}])
        else:
            for line in self.log if with_log else ():
                output.stdout.print(line["event"], highlight=False, soft_wrap=True, markup=False)
            output.print_failures(self.failures)
            output.print_summary(self.job, self.counts)

    def exit(self) -> None:
        """Exit with the code for failed items, if there are any."""
        if self.counts.failed:
            click.get_current_context().exit(SOME_FAILED)


def run(
    flow: str,
    params: Mapping[str, Any],
    *,
    secrets: Mapping[str, str] | None = None,
    inline: bool = False,
    follow_up_seconds: float = 0.0,
) -> EndedJob:
    """Run a job to its end.

    Args:
        flow: name of the flow.
        params: parameters of the job.
        secrets: see ``api.enqueue``.
        inline: run the job in this process.
        follow_up_seconds: seconds to wait for the job that follows it.

    Raises:
        FlowError: the job cannot be enqueued, or failed inline.
        JobFailed: the job did not succeed, for another reason than its items.
    """
    if inline:
        return _inline(flow, params, secrets or {})
    with _cluster() as temporary:
        handle = api.enqueue(flow, secrets=secrets, **params)
        follow_up = None
        try:
            ended = _wait(handle)
        finally:
            if temporary or follow_up_seconds:
                follow_up = handle.wait_for_follow_up(max(follow_up_seconds, FOLLOW_UP_SECONDS))
        return replace(ended, follow_up=follow_up)


@contextmanager
def _cluster() -> Iterator[bool]:
    """Connect to the cluster, or run a temporary one for this command; yield whether it is temporary."""
    settings = load()
    if settings.url:
        yield False
        return
    if settings.redis_url or running(settings):
        api.connect(settings)
        yield False
        return
    with output.follow_start() as on_state:
        # A single worker of the queue `io` starts half a second sooner, and most commands process a few files only.
        here = Cluster(settings.model_copy(update={"io_processes": 1}), CORE, on_state=on_state)
        here.start()
    try:
        app.use(here.settings)
        yield True
    finally:
        here.stop()


def _wait(handle: api.JobHandle) -> EndedJob:
    """Follow a job to its end; after Ctrl-C it keeps running if its cluster does."""
    try:
        with output.follow_job() as on_progress:
            job = handle.wait_for_end(on_progress=on_progress)
    except KeyboardInterrupt:
        output.print_error(f"job {handle.id} keeps running on its cluster; `datafab jobs cancel {handle.id}` ends it")
        raise
    return EndedJob(job=job, failures=handle.failures, log=handle.logs)


def _inline(flow: str, params: Mapping[str, Any], secrets: Mapping[str, str]) -> EndedJob:
    settings = load()
    memory, memory_secrets = MemoryJobs(), MemorySecrets()
    services = Services(settings, jobs=memory, secrets=memory_secrets)
    try:
        params = localise(flow, params, services)
        source, stages = plan_new_job(flow, params)
        now = time.time()
        limit = now + settings.job_deadline
        job = Job(
            id=uuid.uuid4().hex, flow=flow, params=params, created=now, deadline=limit, asked=last_requested_stage(flow)
        )
        memory_secrets.put(job.id, secrets)
        with output.follow_job() as on_progress:
            look = lambda: on_progress(job.evolve(total=memory.total, progress=memory.progress()))  # noqa: E731
            counts = run_inline(stages, source, job, services, look, extra_stages=then_stages(flow, params))
    finally:
        services.close()
    job = job.evolve(ended=time.time(), total=memory.total, progress=memory.progress())
    status, error = job_result(counts, memory.failures())
    job = job.evolve(status=status, error=error)
    return EndedJob(job=job.evolve(counts=counts), failures=memory.failures(), log=memory.logs())
