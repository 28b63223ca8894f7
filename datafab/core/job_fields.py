"""What Redis keeps of a job, as fields of a hash: written from records, read as a ``Job``.

``n:<stage>:<status>`` counts the items by their status after the stage, ``d:<stage>:<status>:<outcome>`` those of them
that the stage counts as something else, since it was not asked for, and ``b:<stage>`` the bytes of their resources.
``s:<stage>`` and ``l:<stage>`` are the times at which the stage began, and at which it last finished with an item.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from datafab.core.item import Item, ItemError
from datafab.core.job import FINAL, Job, JobStatus, StageSums, counts_of


class Record(NamedTuple):
    """One item that a stage has finished with."""

    position: int
    item: Item
    #: whether the stage worked on it; otherwise it passed through
    touched: bool
    #: what the stage counts it as: a status, or ``PASSED``; empty: the item's status
    outcome: str = ""


def records_json(records: Sequence[Record], lines: Sequence[Mapping[str, Any]]) -> str:
    """Return records and log lines in the form that the script ``record_items`` reads."""
    work = {
        "records": [_record_fields(record) for record in records],
        "lines": [json.dumps(line, ensure_ascii=False, default=str) for line in lines],
    }
    return json.dumps(work, ensure_ascii=False)


def _record_fields(record: Record) -> list[Any]:
    item = record.item
    text = item.model_dump_json(exclude_none=True)
    status = item.status.value
    fields: list[Any] = [record.position, text, status, item.size or 0, record.touched, str(record.outcome or status)]
    if record.touched and item.listed_error:
        fields += [item.source, item.listed_error.model_dump_json(exclude_none=True)]
    return fields


def read_job(job: str, fields: Mapping[str, str]) -> Job:
    """Return a job from the fields of its hash."""
    numbers = {name: float(fields[name]) for name in ("created", "started", "ended", "deadline") if name in fields}
    total = int(fields["total"]) if "total" in fields else None
    sums = read_sums(fields)
    durations = {name: float(fields.get(f"l:{name}", 0)) - float(fields.get(f"s:{name}", 0)) for name in sums}
    status = JobStatus(fields["status"])
    return Job(
        id=job,
        flow=fields["flow"],
        params=json.loads(fields.get("params", "{}")),
        key=fields.get("key"),
        caller=fields.get("caller"),
        status=status,
        stage=fields.get("stage"),
        asked=fields.get("asked"),
        doing=fields.get("doing"),
        total=total,
        progress=tuple(one.progress(name).with_pace(durations[name], total) for name, one in sums.items()),
        error=ItemError.model_validate_json(fields["error"]) if "error" in fields else None,
        counts=counts_of(job, sums, fields.get("asked")) if status in FINAL and sums else None,
        **numbers,
    )


def read_sums(fields: Mapping[str, str]) -> dict[str, StageSums]:
    """Return what each stage has counted, in the order of the stages."""
    stages: defaultdict[str, StageSums] = defaultdict(StageSums)
    for name, value in fields.items():
        match name.split(":"):
            case ["n", stage, status]:
                stages[stage].items[status] = int(value)
            case ["d", stage, status, outcome]:
                stages[stage].counted_as[status, outcome] = int(value)
            case ["b", stage]:
                stages[stage].bytes = int(value)
    order = fields.get("stages", "").split(",")
    names = sorted(stages, key=lambda name: order.index(name) if name in order else len(order))
    return {name: stages[name] for name in names}
