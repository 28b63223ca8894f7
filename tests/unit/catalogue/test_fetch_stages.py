"""How long link-proxy is waited for, and what the several files at one address are called."""

from __future__ import annotations

import pytest

from datafab.catalogue.fetch_stages import _poll_delay
from datafab.catalogue.linkproxy_checks import Download, name_parts
from datafab.core.stage import refuse_to_enqueue
from datafab.errors import FlowError


def download(name: str | None, kind: str | None = "csv", number: int = 0) -> Download:
    where = f"http://s3/{number}/{name}"
    return Download(id=str(number), url=where, name=name, type=kind, archive=False, version="v")


def test_looks_grow_apart():
    assert [_poll_delay(looks) for looks in (0, 1, 2, 3, 8, 9, 10**6)] == [2, 4, 8, 16, 512, 600, 600]


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ([], []),
        ([download("b"), download("a")], ["a", "b"]),
        ([download("a", "xls", 1), download("a", "csv", 2), download("b")], ["a", "a/2", "b"]),
        ([download(None, "csv"), download(None, None)], ["file", "csv"]),
        ([download("été 2026/x")], ["été 2026/x"]),
    ],
)
def test_files_at_one_address_have_names_of_their_own(found: list[Download], names: list[str]):
    parts = list(name_parts("datagouv:1", found))
    assert [source for source, _ in parts] == [f"datagouv:1/{name}" for name in names]
    again = list(name_parts("datagouv:1", found[::-1]))
    assert {(source, each.id) for source, each in parts} == {(source, each.id) for source, each in again}


def test_without_a_cluster_nothing_is_enqueued():
    with pytest.raises(FlowError, match="flow 'source' is to be enqueued, which needs a cluster") as raised:
        refuse_to_enqueue("source", {}, "key")
    assert raised.value.code == "no_cluster"
