"""Many ended and running jobs in a Redis, as the scripts of the ledger leave them, but written at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from datafab.core.job_lists import JobLists
from datafab.core.redis import ClusterRedis

#: What jobs of the filled Redis are, in turn: status, flow and caller.
KINDS = (
    ("succeeded", "push", ""),
    ("failed", "push", "harvester"),
    ("running", "collect", "harvester"),
    ("succeeded", "collect", ""),
    ("queued", "source", ""),
)
#: Jobs of one request.
BATCH = 1000


def fill(client: ClusterRedis, count: int, began: float | None = None) -> list[str]:
    """Write jobs, one for each second up to now, and put them into their lists; return their ids, newest first."""
    began = time.time() - count if began is None else began
    ids: list[str] = []
    for numbers in _batches(count):
        with client.pipeline(transaction=False) as pipe:
            for number in numbers:
                ids.append(f"{number:032x}")
                _write(pipe, client.prefix, number, began + number)
            pipe.execute()
    JobLists(client).index()
    return ids[::-1]


def _batches(count: int) -> Iterator[range]:
    for first in range(0, count, BATCH):
        yield range(first, min(first + BATCH, count))


def _write(pipe: Any, prefix: str, number: int, created: float) -> None:
    job = f"{number:032x}"
    status, flow, caller = KINDS[number % len(KINDS)]
    metadata = {"ckan_url": "https://catalogue.example.org", "resource_id": job, "set_url_type": False}
    params = {"metadata": metadata, "result_url": "https://catalogue.example.org/hook", "job_id": job}
    fields = {"flow": flow, "params": json.dumps(params), "stages": "fetch,datastore", "busy": 0, "waits": 0}
    fields |= {"status": status, "created": repr(created), "deadline": repr(created + 86400)}
    fields |= {"key": f"datapusher:{job}"} if flow == "push" else {}
    fields |= {"caller": caller} if caller else {}
    if status in {"queued", "running"}:
        pipe.zadd(f"{prefix}deadlines", {job: created + 86400})
        pipe.hset(f"{prefix}row:datafab.fetch:{job}", mapping={"job": job, "state": "sent", "fence": 0, "sig": "{}"})
        pipe.sadd(f"{prefix}job:{job}:rows", f"datafab.fetch:{job}")
        pipe.zadd(f"{prefix}due", {f"datafab.fetch:{job}": created + 1e9})
    else:
        fields |= {"started": repr(created + 0.1), "ended": repr(created + 1), "stage": "report", "total": 1}
        fields |= {"s:fetch": repr(created), "l:fetch": repr(created + 1), "n:fetch:ok": 1, "b:fetch": 4000}
        fields |= {"s:datastore": repr(created), "l:datastore": repr(created + 1), "n:datastore:ok": 1}
    if status == "failed":
        fields |= {"error": json.dumps({"type": "ckan_409", "message": "CKAN answered 409: the table is locked"})}
    pipe.hset(f"{prefix}job:{job}", mapping=fields)
    pipe.zadd(f"{prefix}jobs", {job: created})
