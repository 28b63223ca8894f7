"""Callback: tell CKAN how a push has ended, in the words of its DataPusher, then forget the keys.

A flow of its own, run whenever a push has ended, however: so its failures cannot be taken for the push's.
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
from datafab.push.datapusher import job_dict, wanted

#: CKAN is told even if the former table could not be put back.
TOLD = frozenset({Status.OK, Status.FAILED})
#: Log lines that a callback carries: the last ones.
LINES = 1000


def ended_push(ctx: Context) -> Iterator[Item]:
    """Find the push that has ended; yield it."""
    of = str(ctx.params["of"])
    job = _jobs(ctx).get(of)
    if not job.final:
        raise FlowError(f"job {of} has not ended: there is nothing to tell yet", code="not_ended", field="of")
    yield Item(source=f"job:{of}", url=job.params.get("result_url") or None, ckan=_resource(job.params))


def _resource(params: Mapping[str, Any]) -> CkanFacts | None:
    """Return which resource a push was about; None: it did not say."""
    try:
        return wanted(params)
    except FlowError:
        return None


def _jobs(ctx: Context) -> RedisJobs:
    jobs = ctx.services.jobs
    assert isinstance(jobs, RedisJobs), "without a cluster nobody waits for a callback"
    return jobs


def callback(item: Item, ctx: Context) -> Item:
    """Post the job to its result_url, where it has one."""
    if item.url is None:
        return item
    of = str(ctx.params["of"])
    jobs, secrets = _jobs(ctx), ctx.services.secrets
    job = jobs.get(of)
    job_key = secrets.get(of, "job_key") if "authorization" in job.params else None
    body = job_dict(job, jobs.failures(of), jobs.logs(of, LINES), job_key=job_key)
    ctx.services.get(Callback).post(item.url, body, secrets.get(of, "api_key"))
    return item


def forget_key(item: Item, ctx: Context) -> Item:
    """Erase the keys of a push: sent or not, nobody needs them any more."""
    ctx.services.secrets.erase(str(ctx.params["of"]))
    return item


STAGES = (
    Stage(
        name="ended_push", params=frozenset({"of"}), queue="io", expand=ended_push, provides=frozenset({"url", "ckan"})
    ),
    # Ten tries in an hour: as long as it takes to bring a CKAN up again.
    Stage(
        name="callback", params=frozenset({"of"}), queue="io", run=callback, wants=TOLD, retry=RetryPolicy(retries=9)
    ),
    Stage(name="forget_key", params=frozenset({"of"}), queue="io", run=forget_key, wants=frozenset(Status)),
)
