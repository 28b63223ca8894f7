"""What another version has written is recognised and refused, never misread."""

import json

import pytest

from datafab.core.item import Batch, Item, read_value
from datafab.core.job import JobStatus
from datafab.errors import FlowError
from tests.workers.conftest import Bench
from workers.app import jobs

ITEM = {"source": "toy:0"}


@pytest.mark.parametrize(
    ("model", "value", "field"),
    [
        (Batch, {"v": 2, "job": "j", "flow": "f"}, "v"),
        (Batch, {"v": "1", "job": "j", "flow": "f"}, "v"),
        (Batch, {"job": "j", "flow": "f", "items": [ITEM | {"v": 2}]}, "items"),
        (Batch, {"job": "j", "flow": "f", "colour": "red"}, "colour"),
        (Batch, {"job": "j"}, "flow"),
        (Item, ITEM | {"v": 0}, "v"),
        (Item, ITEM | {"ckan": {"url": "u", "resource": "r", "later": 1}}, "ckan.later"),
    ],
)
def test_a_value_of_another_version_is_refused_by_its_field(model, value, field):
    with pytest.raises(FlowError, match="another version of datafab") as refused:
        read_value(model, value)
    assert refused.value.code == "version"
    assert str(refused.value.field).startswith(field)


def test_a_value_of_this_version_is_taken():
    batch = Batch(job="j", flow="f", items=(Item(**ITEM),))
    assert read_value(Batch, json.loads(batch.model_dump_json())) == batch


def test_a_message_of_another_version_fails_its_job_with_the_reason(bench: Bench, monkeypatch):
    """Such as a producer that was upgraded before the workers."""
    monkeypatch.setattr(Batch, "dump", lambda self: {"v": 2, "job": self.job, "flow": self.flow, "shape": "new"})
    job = bench.start("noop5")
    monkeypatch.undo()
    ended = bench.end(job)
    assert ended.status == JobStatus.FAILED
    assert ended.error
    assert (ended.error.type, ended.error.field) == ("version", "v")


def test_keys_of_another_version_are_left_alone(bench: Bench):
    """A job that stands there is neither listed nor run, and what runs here touches nothing of it."""
    client = bench.redis
    other = {"flow": "noop5", "status": "queued", "created": "1", "deadline": "2", "shape": "new"}
    client.hset("datafab:2:job:other", mapping=other)
    client.zadd("datafab:2:jobs", {"other": 1})
    client.zadd("datafab:2:due", {"datafab.noop0:other": 1})
    client.zadd("datafab:2:deadlines", {"other": 2})
    assert bench.run("noop5").status == JobStatus.SUCCEEDED
    assert "other" not in {job.id for job in jobs().newest(limit=500)}
    assert client.hgetall("datafab:2:job:other") == other
    assert client.zcard("datafab:2:due") == client.zcard("datafab:2:deadlines") == 1
    client.delete(*client.keys("datafab:2:*"))
