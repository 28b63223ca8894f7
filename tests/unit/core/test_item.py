from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datafab.collect.batching import by_host, deal_in_order
from datafab.core.backoff import RetryPolicy
from datafab.core.item import Batch, CollectFacts, Counts, Item, Status
from datafab.errors import Fatal, Retriable, Wait

texts = st.text(max_size=20)
items = st.builds(
    Item,
    source=texts,
    url=st.none() | texts,
    size=st.none() | st.integers(0, 2**40),
    status=st.sampled_from(Status),
    collect=st.none() | st.builds(CollectFacts, endpoint=texts, parameters=st.none() | st.dictionaries(texts, texts)),
)


@given(st.builds(Batch, job=texts, flow=texts, number=st.none() | st.integers(0), items=st.lists(items).map(tuple)))
def test_a_batch_survives_json(batch: Batch):
    assert Batch.model_validate(json.loads(json.dumps(batch.dump()))) == batch


@pytest.mark.parametrize(
    "message",
    [
        {"v": 2, "job": "j", "flow": "f"},
        {"v": 1, "job": "j", "flow": "f", "secret": "x"},
        {"v": 1, "job": "j", "flow": "f", "items": [{"source": "s", "v": 2}]},
        {"v": 1, "flow": "f"},
    ],
)
def test_another_version_or_an_unknown_key_is_refused(message: dict):
    with pytest.raises(ValidationError):
        Batch.model_validate(message)


def test_counts_sum_up():
    batch = Batch(job="j", flow="f", number=3)
    one = [Item(source="a", size=5), Item(source="b", status=Status.FAILED), Item(source="c", status=Status.UNCHANGED)]
    counts = Counts.of(batch, one)
    assert counts == Counts(job="j", number=3, ok=1, failed=1, unchanged=1, bytes=5)
    assert counts.plus(counts).total == 6
    assert counts.plus(counts).bytes == 10


@given(st.lists(st.integers(0, 4), max_size=300), st.integers(1, 20), st.integers(1, 6))
def test_dealing_by_host_keeps_every_item_and_the_limit_of_each_host(hosts: list[int], size: int, per_host: int):
    given_items = [Item(source=str(n), url=f"http://host{host}/{n}") for n, host in enumerate(hosts)]
    batches = list(by_host(given_items, size, per_host))
    assert sorted(item.source for batch in batches for item in batch) == sorted(item.source for item in given_items)
    for host in set(hosts):
        holding = [batch for batch in batches if any(f"//host{host}/" in item.url for item in batch)]
        assert len(holding) <= per_host


@pytest.mark.parametrize(("n", "size", "sizes"), [(0, 3, []), (3, 3, [3]), (7, 3, [3, 3, 1])])
def test_dealing_in_order(n: int, size: int, sizes: list[int]):
    given_items = [Item(source=str(number)) for number in range(n)]
    batches = list(deal_in_order(given_items, size))
    assert [len(batch) for batch in batches] == sizes
    assert [item for batch in batches for item in batch] == given_items


@pytest.mark.parametrize(
    ("failures", "retries", "delay"), [(1, 3, 2), (2, 3, 6), (3, 3, 18), (4, 3, None), (1, 0, None), (20, 99, 600)]
)
def test_backoff(failures: int, retries: int, delay: float | None):
    assert RetryPolicy(retries=retries).next_delay(failures) == delay


@pytest.mark.parametrize(
    ("error", "code", "message", "delay"),
    [
        (Fatal(), "fatal", "The item failed, and retries cannot help.", None),
        (Fatal("no", code="http_404"), "http_404", "no", None),
        (Wait(), "wait", "The item is not ready yet.", 5),
        (Wait("soon", delay=1), "wait", "soon", 1),
        (Retriable("busy"), "retriable", "busy", None),
    ],
)
def test_errors_say_what_they_are(error, code, message, delay):
    assert (error.code, error.message, getattr(error, "delay", None)) == (code, message, delay)
