"""The distribution of a job's items over batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datafab.core.item import Item
from datafab.core.stage import deal_in_order
from datafab.urls import host_of


def by_host(items: Iterable[Item], size: int, per_host: int) -> Iterator[list[Item]]:
    """Group items by host, so that the requests of a batch share connections that stay open.

    The items of a host with more than ``per_host`` are divided among that many batches, whatever their length: the
    host never has more connections at once. Smaller hosts share batches of at most ``size``.
    """
    hosts: dict[str, list[Item]] = {}
    for item in items:
        hosts.setdefault(host_of(item.url), []).append(item)
    small: list[Item] = []
    for mine in hosts.values():
        if len(mine) > per_host:
            yield from deal_in_order(mine, -(-len(mine) // per_host))
        else:
            small += mine
    yield from deal_in_order(small, size)
