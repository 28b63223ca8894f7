"""Removes resources that nothing names any more, and their analyses.

What looks like a digest is taken for a reference, wherever it stands: in Redis (jobs, tasks, what is known of sources
and publications), in the index, and in the store's logs, histories, lists and tables. Too much is kept rather than too
little. What is younger than any job can be is never removed: its job may not have named it yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import redis

from datafab.index import Index
from datafab.settings import PREFIX
from datafab.store.store import Store

#: At every place: what stands before a digest may look like a part of it.
_DIGEST = re.compile(rb"(?=([0-9a-f]{64}))")
_NAME = re.compile(r"[0-9a-f]{64}")
#: Folders of a store whose files name resources, and tables at its root that do.
NAMING, TABLES = ("log", "history", "batch"), ("log.csv", "resource.csv")
#: Bytes of a table that are read at once.
PIECE = 1024 * 1024
#: Keys of Redis that are read at once.
MANY = 500


class Old(NamedTuple):
    """A file of a store that nothing names."""

    name: str
    #: bytes
    size: int


def unnamed(store: Store, client: redis.Redis, index: Index, before: float) -> Iterator[Old]:
    """Yield the resources last written before this Unix time that nothing names, and their analyses."""
    named = _in_store(store) | {bytes.fromhex(doc.sha256) for doc in index.documents() if doc.sha256}
    named |= in_redis(client)
    found = [
        (digest, Old(name, size))
        for folder in ("resource", "analysis")
        for name, size, written in store.files_with_age(folder)
        if written < before and (digest := _of(name)) is not None and digest not in named
    ]
    # A task may have handed its items on while it was read, from what had not been to what had been.
    named = in_redis(client)
    yield from (old for digest, old in found if digest not in named)


def _of(name: str) -> bytes | None:
    """Return the digest of the resource that a file is about: ``resource/<sha256>``, ``analysis/<sha256>/…``."""
    part = name.split("/")[1]
    return bytes.fromhex(part) if _NAME.fullmatch(part) else None


def _digests(data: bytes) -> set[bytes]:
    return {bytes.fromhex(found.decode()) for found in _DIGEST.findall(data)}


def _in_store(store: Store) -> set[bytes]:
    named: set[bytes] = set()
    for folder in NAMING:
        for data in store.map_names(store.read, store.names(folder)):
            named |= _digests(data or b"")
    for table in TABLES:
        with store.local_file(table) as path:
            if path is None:
                continue
            with path.open("rb") as file:
                rest = b""
                while piece := file.read(PIECE):
                    named |= _digests(rest + piece)
                    rest = piece[-63:]  # a digest may stand across the end
    return named


def in_redis(client: redis.Redis) -> set[bytes]:
    """Return every digest that stands below our prefix."""
    named: set[bytes] = set()
    keys = client.scan_iter(match=PREFIX + "*", count=MANY)
    while some := list(islice(keys, MANY)):
        with client.pipeline(transaction=False) as pipe:
            for key in some:
                pipe.type(key)
            kinds = pipe.execute()
            for key, kind in zip(some, kinds, strict=True):
                _read(pipe, key, kind)
            # One that went meanwhile is an empty answer, one of another type by now an error: neither names anything.
            named |= _digests(repr((some, pipe.execute(raise_on_error=False))).encode())
    return named


def _read(pipe: Any, key: str, kind: str) -> None:
    match kind:
        case "string":
            pipe.get(key)
        case "hash":
            pipe.hgetall(key)
        case "list":
            pipe.lrange(key, 0, -1)
        case "set":
            pipe.smembers(key)
        case "zset":
            pipe.zrange(key, 0, -1)
