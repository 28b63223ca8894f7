"""The base of all tasks with a ledger row: takes the row before the task runs, and ends it afterwards."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

import structlog
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery import Task, signals, states
from celery.canvas import Signature
from celery.exceptions import Ignore, Retry
from celery.worker.request import Request
from celery.worker.state import task_ready
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps, loads
from redis.exceptions import RedisError

from datafab.cancellation import Cancelled
from datafab.core.item import ItemError
from datafab.core.job import JobStatus
from datafab.core.lease import Lease
from datafab.core.ledger import NewRow, row_id
from datafab.errors import DatafabError, Lost, Parked, Wait
from datafab.urls import hide_all_secrets
from workers.app import app, jobs
from workers.canvas import new_row, new_rows, publishable
from workers.leases import lease_keeper
from workers.shutdown import is_stopping

log = structlog.get_logger()

#: Redis, or the broker in it, cannot be reached, which says nothing about the task.
REDIS_ERRORS = (RedisError, OperationalError)


class LedgerRequest(Request):
    """Celery's view of a message in the worker's parent process, which sees children die."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Make a dead child's row due at once. Its message is not put back: that copy would be stale until then."""
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt) and self._release_row(str(error)):
            task_ready(self)
            self.acknowledge()
            return None
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's signature
        """Send an event for Flower. A traceback may quote the URLs of other libraries' exceptions."""
        super().send_event(type, **hide_all_secrets(fields))

    def _release_row(self, reason: str) -> bool:
        """Make the row due, and count a death unless this worker is stopping; return False where Redis is away."""
        row, attempt = row_id(self.task_name, self.id), self._context.retries
        ledger = lease_keeper().ledger
        try:
            if is_stopping():  # a supervisor such as systemd stops the children as well
                ledger.give_back([(row, attempt)])
            else:
                ledger.count_death(row, attempt, f"its worker died: {reason}")
        except RedisError:
            return False  # Celery puts the message back, and the lease runs out
        return True


@signals.task_postrun.connect
def _drop_lease(task: Any = None, **_: Any) -> None:
    """Stop renewing the lease of a task that has ended, however it did."""
    lease: Lease | None = getattr(task.request, "lease", None)
    if lease is not None:
        lease_keeper().drop(lease)


class LedgerTask(Task):
    """A task that runs only while it holds a lease on its row in the ledger.

    Its first positional argument is a batch (``{"job": ..., ...}``) or a job's id.
    """

    abstract = True
    Request = "workers.base:LedgerRequest"
    #: characters of a result that logs and events show: more of a batch says no more, and takes time
    resultrepr_maxsize = 80
    #: seconds without progress after which an attempt is given up: see ``RetryPolicy.deadline``
    attempt_deadline = 3600.0
    #: whether the task ends its job, and with it its own row
    ends_job = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take the row, run the task, end the row."""
        lease = self._take_row()
        try:
            with lease_keeper().interruptible(lease):
                result = self.run(*args, **kwargs)
        except Wait as wait:
            self._wait(lease, wait)
        except (Lost, Cancelled) as lost:
            log.info("ended: it no longer counts", task=self.name, row=lease.row_id, attempt=lease.attempt)
            raise Ignore("it no longer counts") from lost
        except REDIS_ERRORS as error:
            self._abandon(lease, error)
        return self._end_row(lease, result)

    def _take_row(self) -> Lease:
        request = self.request
        try:
            lease = lease_keeper().take(
                row_id(self.name, request.id),
                request.retries,
                stage=self.name.removeprefix("datafab."),
                deadline=self.attempt_deadline,
                done_key=self.done_key(),
                give_up_reason=(request.headers or {}).get("park"),
            )
        except REDIS_ERRORS as error:
            raise Ignore("redis is away") from error  # the row is unchanged, and the tick sends it again
        if lease is None:
            log.info("stale copy dropped", task=self.name, id=request.id, attempt=request.retries)
            raise Ignore("stale copy")
        request.lease = lease
        return lease

    def _wait(self, lease: Lease, wait: Wait) -> NoReturn:
        """Let the row wait. ``Retry`` without publishing: the chain does not go on, and Flower shows RETRY."""
        try:
            lease_keeper().ledger.wait(lease, wait.delay, wait.message)
        except REDIS_ERRORS as error:
            self._abandon(lease, error)
        raise Retry(exc=wait, when=wait.delay)

    def _abandon(self, lease: Lease, error: Exception) -> NoReturn:
        self._wait_for_redis(lease, error)
        raise Ignore("redis is away") from error

    def _wait_for_redis(self, lease: Lease, error: Exception) -> None:
        """Let the row wait a second once Redis is back, unless its lease runs out before."""
        log.warning("redis is away", task=self.name, row=lease.row_id, error=str(error))
        keeper = lease_keeper()
        keeper.drop(lease)
        keeper.run_later(partial(keeper.ledger.wait, lease, 1, "redis was away"))

    def _end_row(self, lease: Lease, result: Any) -> Any:
        """End the row before Celery sends the successor, whose row is made in the same step: neither can be lost.

        A chord's header part is counted after this, when its result is stored; its row ends in ``after_return``.
        """
        if self.ends_job:
            return result
        if self.request.chord:
            if lease_keeper().is_lost(lease):
                raise Ignore("stale")
            return result
        try:
            ended = lease_keeper().ledger.end(lease, self._successors(result), done_key=self.done_key())
        except REDIS_ERRORS as error:
            self._abandon(lease, error)
        if not ended:
            raise Ignore("stale")
        return result

    def _successors(self, result: Any) -> list[NewRow]:
        chain = self.request.chain
        if not chain:
            return []
        following = dict(chain[-1])
        if not following.get("immutable"):
            following["args"] = [result, *following["args"]]
        parents = {"chain": chain[:-1], "parent_id": self.request.id, "root_id": self.request.root_id}
        following["options"] = {**following["options"], **parents}
        return [new_row([following])]

    def done_key(self) -> str:
        """Return the key of what the task keeps of its batch, to be deleted at its end; empty: it keeps nothing."""
        return ""

    def after_return(self, status: str, *_: Any) -> None:
        """End a header part's row, or confirm the successor: Celery has stored the result and sent the successor."""
        lease: Lease | None = getattr(self.request, "lease", None)
        if lease is None:
            return
        keeper = lease_keeper()
        if self.request.chord or status == states.FAILURE:
            keeper.ledger.end(lease, done_key=self.done_key())
        elif self.request.chain:
            following = self.request.chain[-1]
            keeper.confirm_later(row_id(following["task"], following["options"]["task_id"]))

    def on_failure(self, exc: Exception, _task_id: str, args: Any, *_: Any) -> None:
        """End the job: what fails a task natively fails the whole job. The runner fails single items."""
        lease: Lease | None = getattr(self.request, "lease", None)
        if isinstance(exc, REDIS_ERRORS):
            # This says nothing about the task. A successor that was not sent has its row; so has this task, unless it
            # has ended.
            if lease is not None:
                self._wait_for_redis(lease, exc)
                self.request.lease = None
            return
        job = args[0]["job"] if isinstance(args[0], dict) else args[0]
        error = exc if isinstance(exc, DatafabError) else DatafabError(f"{type(exc).__name__}: {exc}", code="internal")
        if isinstance(exc, Parked) and lease is not None:
            jobs().end(job, JobStatus.PARKED, ItemError.of(error), park=lease)
        else:
            jobs().end(job, JobStatus.FAILED, ItemError.of(error))

    def on_replace(self, sig: Signature) -> NoReturn:
        """Keep the canvas that replaces this task before it is published, so that a second attempt publishes the same.

        The canvas has its ids already: a message that is published twice is dropped as stale.
        """
        lease: Lease = self.request.lease
        ledger = lease_keeper().ledger
        canvas = publishable(sig)
        text = ledger.split(lease, dumps(dict(canvas)), new_rows(canvas))
        if text is None:
            raise Ignore("stale")
        kept_first = app.signature(loads(text))
        kept_first.apply_async()
        ledger.confirm([(row.row_id, 0) for row in new_rows(kept_first)])
        ledger.end(lease, done_key=self.done_key())
        raise Ignore("replaced")
