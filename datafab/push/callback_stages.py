"""The stages of the flow ``callback``: report the end of a push to CKAN in DataPusher's format, then erase the keys.

It is a flow of its own, which runs after each push, whatever its outcome, so that its failures are not the push's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from datafab.core.backoff import RetryPolicy
from datafab.core.item import CkanFacts, Item, Status
from datafab.core.jobs import RedisJobs
from datafab.core.stage import Context, Stage
from datafab.errors import FlowError
from datafab.push.callback import Callback
from datafab.push.datapusher import job_dict, requested_resource

#: CKAN gets a callback even if the former table could not be restored.
CALLBACK_STATUSES = frozenset({Status.OK, Status.FAILED})
#: A callback carries the last lines of the log, at most this number.
MAX_LOG_LINES = 1000


def ended_push(ctx: Context) -> Iterator[Item]:
    """Yield the push that has ended."""
    of = str(ctx.params["of"])
    job = _jobs(ctx).get(of)
    if not job.final:
        raise FlowError(f"job {of} has not ended: there is no callback before its end", code="not_ended", field="of")
    yield Item(source=f"job:{of}", url=job.params.get("result_url") or None, ckan=_resource(job.params))


def _resource(params: Mapping[str, Any]) -> CkanFacts | None:
    """Return the resource of a push; None if its parameters do not name one."""
    try:
        return requested_resource(params)
    except FlowError:
        return None


def _jobs(ctx: Context) -> RedisJobs:
    jobs = ctx.services.jobs
    assert isinstance(jobs, RedisJobs), "callbacks exist in a cluster only"
    return jobs


def callback(item: Item, ctx: Context) -> Item:
    """Post the job to its ``result_url``, if it has one."""
    if item.url is None:
        return item
    of = str(ctx.params["of"])
    jobs, secrets = _jobs(ctx), ctx.services.secrets
    job = jobs.get(of)
    job_key = secrets.get(of, "job_key") if "authorization" in job.params else None
    body = job_dict(job, jobs.failures(of), jobs.logs(of, MAX_LOG_LINES), job_key=job_key)
    ctx.services.get(Callback).post(item.url, body, secrets.get(of, "api_key"))
    return item


def forget_key(item: Item, ctx: Context) -> Item:
    """Erase the keys of a push, whether the callback was sent or not."""
    ctx.services.secrets.erase(str(ctx.params["of"]))
    return item


STAGES = (
    Stage(
        name="ended_push", params=frozenset({"of"}), queue="io", expand=ended_push, provides=frozenset({"url", "ckan"})
    ),
    # Ten attempts within an hour, in which a CKAN can be restarted.
    Stage(
        name="callback",
        params=frozenset({"of"}),
        queue="io",
        run=callback,
        wants=CALLBACK_STATUSES,
        retry=RetryPolicy(retries=9),
    ),
    Stage(name="forget_key", params=frozenset({"of"}), queue="io", run=forget_key, wants=frozenset(Status)),
)
