"""Find resources that nothing refers to any more, and their analyses, so that they can be removed.

Everything that looks like a digest counts as a reference, wherever it is found: in Redis (jobs, tasks, facts of sources
and publications), in the index, and in the store's logs, histories, lists and tables. Keeping too much is better than
keeping too little. A file that is younger than the oldest possible job is never removed, because its job may not have
recorded a reference yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from datafab.core.redis import ClusterRedis
from datafab.index import Index
from datafab.store.store import Store

#: With a lookahead, so that it is tried at every position: hexadecimal digits may precede a digest.
_DIGEST = re.compile(rb"(?=([0-9a-f]{64}))")
_NAME = re.compile(r"[0-9a-f]{64}")
#: Folders of a store whose files refer to resources, and tables at its root that do.
FOLDERS, TABLES = ("log", "history", "batch"), ("log.csv", "resource.csv")
#: Bytes of a table per read.
READ_BYTES = 1024 * 1024
#: Keys of Redis per request.
KEYS_PER_REQUEST = 500


class UnreferencedFile(NamedTuple):
    """A file of a store that nothing refers to."""

    name: str
    #: bytes
    size: int


def find_unreferenced(store: Store, client: ClusterRedis, index: Index, before: float) -> Iterator[UnreferencedFile]:
    """Yield the resources last written before this Unix time that nothing refers to, and their analyses."""
    known = _digests_in_store(store) | {bytes.fromhex(doc.sha256) for doc in index.documents() if doc.sha256}
    known |= digests_in_redis(client)
    found = [
        (digest, UnreferencedFile(name, size))
        for folder in ("resource", "analysis")
        for name, size, written in store.files_with_age(folder)
        if written < before and (digest := _digest_of(name)) is not None and digest not in known
    ]
    # Read Redis again: during the first scan a task may have moved its items from a key that had not been scanned yet
    # to one that had been.
    known = digests_in_redis(client)
    yield from (file for digest, file in found if digest not in known)


def _digest_of(name: str) -> bytes | None:
    """Return the digest of the resource that a file belongs to: ``resource/<sha256>``, ``analysis/<sha256>/…``."""
    part = name.split("/")[1]
    return bytes.fromhex(part) if _NAME.fullmatch(part) else None


def _digests(data: bytes) -> set[bytes]:
    return {bytes.fromhex(found.decode()) for found in _DIGEST.findall(data)}


def _digests_in_store(store: Store) -> set[bytes]:
    known: set[bytes] = set()
    for folder in FOLDERS:
        for data in store.map_names(store.read, store.names(folder)):
            known |= _digests(data or b"")
    for table in TABLES:
        with store.local_file(table) as path:
            if path is None:
                continue
            with path.open("rb") as file:
                rest = b""
                while piece := file.read(READ_BYTES):
                    known |= _digests(rest + piece)
                    rest = piece[-63:]  # a digest may be cut in two by the read
    return known


def digests_in_redis(client: ClusterRedis) -> set[bytes]:
    """Return every digest in keys and values with our prefix."""
    known: set[bytes] = set()
    keys = client.scan_iter(match=client.prefix + "*", count=KEYS_PER_REQUEST)
    while some := list(islice(keys, KEYS_PER_REQUEST)):
        with client.pipeline(transaction=False) as pipe:
            for key in some:
                pipe.type(key)
            kinds = pipe.execute()
            for key, kind in zip(some, kinds, strict=True):
                _read(pipe, key, kind)
            # A key that has been deleted meanwhile gives an empty answer, one of another type by now an error.
            known |= _digests(repr((some, pipe.execute(raise_on_error=False))).encode())
    return known


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
