"""The task base: takes a task's row before it runs, ends it after. Tasks themselves hold none of this."""

from __future__ import annotations

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

from datafab.core.item import ItemError
from datafab.core.job import JobStatus
from datafab.core.ledger import Row
from datafab.errors import DatafabError, Lost, Parked, Wait
from workers import shutdown as stopping
from workers.app import app, jobs
from workers.canvas import publishable, row_id, row_of, rows_of
from workers.leases import Held, keeper

log = structlog.get_logger()

#: Redis is away: no verdict on the task.
AWAY = (RedisError, OperationalError)


class LedgerRequest(Request):
    """Celery's view of a message in the worker's parent process, which sees children die."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Make a dead child's row due at once. Its message is not put back: that copy would be stale until then."""
        error = exc_info.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt) and self._tell(str(error)):
            task_ready(self)
            self.acknowledge()
            return None
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _tell(self, reason: str) -> bool:
        rid = row_id(self.task_name, self.id)
        ledger, fence = keeper().ledger, self._context.retries
        try:
            if stopping.begun():  # systemd, for one, tells the children as well
                ledger.give_back([(rid, fence)])
            else:
                ledger.died(rid, fence, f"its worker died: {reason}")
        except RedisError:
            return False  # Celery puts the message back, and the lease runs out
        return True


@signals.task_postrun.connect
def _keep_no_longer(task: Any = None, **_: Any) -> None:
    """Whatever way a task went, its process holds nothing of it any more."""
    held: Held | None = getattr(task.request, "held", None)
    if held is not None:
        keeper().drop(held)


class LedgerTask(Task):
    """A task that runs only while it holds its row in the ledger.

    Its first positional argument is a batch (``{"job": ..., ...}``) or a job's id.
    """

    abstract = True
    Request = "workers.base:LedgerRequest"
    #: characters of a result that go into logs and events: a batch's end tells nobody anything, and costs as it goes on
    resultrepr_maxsize = 80
    #: the stage's, seconds: see ``Stage.deadline``
    attempt_deadline = 3600.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Take the row, run, end the row: the one way a task goes."""
        held = self._take()
        try:
            result = self.run(*args, **kwargs)
        except Wait as wait:
            self._wait(held, wait)
        except Lost as lost:
            raise Ignore(str(lost)) from lost
        except AWAY as error:
            self._abandon(held, error)
        return self._hand_over(held, result)

    def _take(self) -> Held:
        request = self.request
        stage = self.name.removeprefix("datafab.")
        try:
            held = keeper().take(row_id(self.name, request.id), request.retries, stage, self.done_key())
        except AWAY as error:
            raise Ignore("redis is away") from error  # the row is as it was, and the tick sends it again
        if held is None:
            log.info("stale copy dropped", task=self.name, id=request.id, attempt=request.retries)
            raise Ignore("stale copy")
        held.deadline = self.attempt_deadline
        held.park = (request.headers or {}).get("park")
        request.held = held
        return held

    def _wait(self, held: Held, wait: Wait) -> NoReturn:
        """Leave the row waiting. ``Retry`` without publishing: silence towards the chain, RETRY in Flower."""
        try:
            keeper().ledger.wait(held.rid, held.by, wait.delay, wait.message)
        except AWAY as error:
            self._abandon(held, error)
        raise Retry(exc=wait, when=wait.delay)

    def _abandon(self, held: Held, error: Exception) -> NoReturn:
        self._let_wait(held, error)
        raise Ignore("redis is away") from error

    def _let_wait(self, held: Held, error: Exception) -> None:
        """Redis is away: as soon as it is back the row waits a second, or its lease runs out before."""
        log.warning("redis is away", task=self.name, row=held.rid, error=str(error))
        kept = keeper()
        kept.drop(held)
        kept.later(lambda: kept.ledger.wait(held.rid, held.by, 1, "redis was away"))

    def _hand_over(self, held: Held, result: Any) -> Any:
        """End the row before Celery sends the successor, whose row is made in the same step: neither can be lost.

        A chord's header part is counted after this, when its result is stored; its row ends in ``after_return``.
        """
        if held.ended:
            return result
        if self.request.chord:
            if keeper().stale(held):
                raise Ignore("stale")
            return result
        try:
            ended = keeper().ledger.end(held.rid, held.by, self._successors(result), done=self.done_key())
        except AWAY as error:
            self._abandon(held, error)
        if not ended:
            raise Ignore("stale")
        return result

    def _successors(self, result: Any) -> list[Row]:
        chain = self.request.chain
        if not chain:
            return []
        following = dict(chain[-1])
        if not following.get("immutable"):
            following["args"] = [result, *following["args"]]
        parents = {"chain": chain[:-1], "parent_id": self.request.id, "root_id": self.request.root_id}
        following["options"] = {**following["options"], **parents}
        return [row_of([following])]

    def done_key(self) -> str:
        """Return the key that holds what is done of this task's batch, to be dropped at its end; empty for none."""
        return ""

    def after_return(self, status: str, *_: Any) -> None:
        """Celery has stored the result and sent the successors."""
        held: Held | None = getattr(self.request, "held", None)
        if held is None:
            return
        kept = keeper()
        if self.request.chord or status == states.FAILURE:
            kept.ledger.end(held.rid, held.by, done=self.done_key())
        elif self.request.chain:
            following = self.request.chain[-1]
            kept.published(row_id(following["task"], following["options"]["task_id"]))

    def on_failure(self, exc: Exception, _task_id: str, args: Any, *_: Any) -> None:
        """End the job: what fails a task natively fails the whole job. Items fail in the runner instead."""
        held: Held | None = getattr(self.request, "held", None)
        if isinstance(exc, AWAY):
            # No verdict. The row of what was not sent is there; this one's too, unless it has ended.
            if held is not None:
                self._let_wait(held, exc)
                self.request.held = None
            return
        job = args[0]["job"] if isinstance(args[0], dict) else args[0]
        error = exc if isinstance(exc, DatafabError) else DatafabError(f"{type(exc).__name__}: {exc}", code="internal")
        if isinstance(exc, Parked) and held is not None:
            jobs().end(job, JobStatus.PARKED, ItemError.of(error), parking=(held.rid, held.by))
        else:
            jobs().end(job, JobStatus.FAILED, ItemError.of(error))

    def on_replace(self, sig: Signature) -> NoReturn:
        """Keep the canvas that replaces this task before it is published, so that a second try publishes the same.

        The canvas's ids are frozen in it: whatever is published twice is dropped as stale.
        """
        held: Held = self.request.held
        kept = keeper()
        canvas = publishable(sig)
        rows = rows_of(canvas)
        text = kept.ledger.split(held.rid, held.by, dumps(dict(canvas)), rows)
        if text is None:
            raise Ignore("stale")
        kept_first = app.signature(loads(text))
        kept_first.apply_async()
        kept.ledger.confirm([(row.rid, 0) for row in rows_of(kept_first)])
        kept.ledger.end(held.rid, held.by)
        raise Ignore("replaced")
