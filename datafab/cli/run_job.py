"""A command that runs one job: on the cluster that there is, on one of its own, or in this process."""

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
from datafab.core.job import Job, outcome
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import run_inline
from datafab.core.secrets import MemorySecrets
from datafab.core.services import Services
from datafab.embedded import CORE, Cluster, running
from datafab.flows.registry import last_requested_stage, localise, plan_new_job, then_stages
from datafab.settings import load
from workers import app

SOME_FAILED = 3
#: Seconds that a cluster which stops with its command waits for what follows a job: then the next one does it.
FOLLOWING = 60.0

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's objects, one a line.")
inline_option = click.option("--inline", is_flag=True, help="Run in this process, without a cluster.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job that has ended, with what is told of it."""

    job: Job
    failures: Mapping[str, ItemError]
    log: Sequence[Mapping[str, Any]]
    #: the job that followed it, where that was waited for
    followed: Job | None = None

    @property
    def counts(self) -> Counts:
        """The sums over its items."""
        return self.job.counts or Counts(job=self.job.id)

    def report(self, *, as_json: bool, with_log: bool = False) -> None:
        """Print it: what it said, where that is wanted, why items failed, and the sums."""
        if as_json:
            failures = {source: error.dump() for source, error in self.failures.items()}
            output.print_json_lines([self.job.dump() | {"failures": failures}])
        else:
            for line in self.log if with_log else ():
                output.stdout.print(line["event"], highlight=False, soft_wrap=True, markup=False)
            output.print_failures(self.failures)
            output.print_summary(self.job, self.counts)

    def exit(self) -> None:
        """End the command with the code for failed items, where there are some."""
        if self.counts.failed:
            click.get_current_context().exit(SOME_FAILED)


def run(
    flow: str,
    params: Mapping[str, Any],
    *,
    secrets: Mapping[str, str] | None = None,
    inline: bool = False,
    settle: float = 0.0,
) -> Ended:
    """Run a job to its end.

    Args:
        flow: its name.
        params: its parameters.
        secrets: see ``api.enqueue``.
        inline: run it in this process.
        settle: seconds to wait for what follows it.

    Raises:
        FlowError: it cannot be enqueued, or failed inline.
        JobFailed: it did not succeed, for another reason than its items.
    """
    if inline:
        return _inline(flow, params, secrets or {})
    with _cluster() as own:
        handle = api.enqueue(flow, secrets=secrets, **params)
        followed = None
        try:
            ended = _wait(handle)
        finally:
            if own or settle:
                followed = handle.wait_for_follow_up(max(settle, FOLLOWING))
        return replace(ended, followed=followed)


@contextmanager
def _cluster() -> Iterator[bool]:
    """Join the cluster, or run one for as long as this command takes; gives whether it is its own."""
    settings = load()
    if settings.redis_url or running(settings):
        api.connect(settings)
        yield False
        return
    with output.follow_start() as on_state:
        # One worker less begins half a second sooner, and most commands are for a few files.
        here = Cluster(settings.model_copy(update={"io_processes": 1}), CORE, on_state=on_state)
        here.start()
    try:
        app.use(here.settings)
        yield True
    finally:
        here.stop()


def _wait(handle: api.JobHandle) -> Ended:
    """Follow a job to its end; Ctrl-C leaves it running where the cluster goes on."""
    try:
        with output.follow_job() as on_progress:
            job = handle.wait_for_end(on_progress=on_progress)
    except KeyboardInterrupt:
        output.print_error(f"job {handle.id} goes on where its cluster does; `datafab jobs cancel {handle.id}` ends it")
        raise
    return Ended(job=job, failures=handle.failures, log=handle.logs)


def _inline(flow: str, params: Mapping[str, Any], secrets: Mapping[str, str]) -> Ended:
    settings = load()
    memory, kept = MemoryJobs(), MemorySecrets()
    services = Services(settings, jobs=memory, secrets=kept)
    try:
        params = localise(flow, params, services)
        source, stages = plan_new_job(flow, params)
        now = time.time()
        limit = now + settings.job_deadline
        job = Job(
            id=uuid.uuid4().hex, flow=flow, params=params, created=now, deadline=limit, asked=last_requested_stage(flow)
        )
        kept.put(job.id, secrets)
        with output.follow_job() as told:
            look = lambda: told(job.evolve(total=memory.total, progress=memory.progress()))  # noqa: E731
            counts = run_inline(stages, source, job, services, look, later=then_stages(flow, params))
    finally:
        services.close()
    job = job.evolve(ended=time.time(), total=memory.total, progress=memory.progress())
    status, error = outcome(counts, memory.failures())
    job = job.evolve(status=status, error=error)
    return Ended(job=job.evolve(counts=counts), failures=memory.failures(), log=memory.logs())
