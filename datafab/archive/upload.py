"""Filling an upload of an entrepôt from stores, whatever it contains already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import BinaryIO

from datafab.archive.entrepot import Datastore
from datafab.archive.upload_content import Content, Part, Steps
from datafab.cancellation import check
from datafab.errors import Retriable

BLOCK_BYTES = 1024 * 1024
#: Attempts to send a file that does not arrive completely.
MAX_SEND_ATTEMPTS = 5
Open = Callable[[], BinaryIO]


def measure(name: str, open_file: Open) -> Part:
    """Read a file, and return its size and md5 sum."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with open_file() as file:
        while block := file.read(BLOCK_BYTES):
            check()
            digest.update(block)
            size += len(block)
    return Part(name, size, digest.hexdigest())


def empty(datastore: Datastore, upload: str) -> None:
    """Delete all files of an open upload."""
    _remove(datastore, upload, Content(()).steps(datastore.tree(upload)))


def fill(
    datastore: Datastore,
    upload: str,
    content: Content,
    sources: Mapping[Part, Open],
    progress: Callable[[int], None],
) -> None:
    """Delete foreign files of an open upload, send the missing ones, and check that all have arrived.

    Raises:
        Retriable: a file has another size in the upload.
    """
    steps = content.steps(datastore.tree(upload))
    _remove(datastore, upload, steps)
    for part in steps.push:
        progress(len(content.parts) - len(steps.push) + steps.push.index(part))
        datastore.push(upload, part.path, sources[part], part.size)
    if steps.push_sums:
        datastore.push_md5(upload, content.lines, content.sums)
    tree = datastore.tree(upload)
    for part in content.missing(tree):
        msg = f"{part.path} has {tree.get(part.path, 0)} bytes in the upload, but {part.size} were sent"
        raise Retriable(msg, retries=MAX_SEND_ATTEMPTS, code="entrepot_size", field="files")


def _remove(datastore: Datastore, upload: str, steps: Steps) -> None:
    for path in steps.remove:
        datastore.remove(upload, path)
    for path in steps.remove_sums:
        datastore.remove(upload, path, "md5")
