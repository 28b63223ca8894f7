"""Migrate to a new Elasticsearch index behind the same aliases, while others read and write.

1. The new index is created, and the write alias is moved to it: from then on it receives all new documents.
2. The old index is blocked for writing. The server completes the requests in progress; later ones get a temporary
   error, and are repeated by their clients on the new index. So nothing is written to the old index after this step.
3. Its documents are copied. The server refuses those that the new index has in the same or a newer version, and those
   that were deleted meanwhile.
4. The read alias is moved. Until then, readers see the old index unchanged, and never an empty one.

A migration that was interrupted continues when it is started again: the aliases show its state, and documents that have
been copied are refused, which is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from elasticsearch.helpers import streaming_bulk

from datafab.errors import FlowError, Retriable
from datafab.index import elastic_indices
from datafab.index.elastic import MAX_REQUEST_BYTES, ElasticIndex
from datafab.index.elastic_errors import put_result
from datafab.index.elastic_mapping import bulk_action
from datafab.index.interface import PutOutcome

#: How long the server remembers deletions during a migration; the default is a minute.
DELETIONS_RETENTION = "7d"
#: Number of documents after which progress is reported.
PROGRESS_STEP_DOCUMENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationResult:
    """The result of a migration."""

    #: indexes behind the alias before and after; equal if there was nothing to do
    old: str
    new: str
    #: number of documents that were copied, and that the new index had already
    copied: int = 0
    known: int = 0


def migrate(index: ElasticIndex, on_progress: Callable[[int, int], None], *, force: bool = False) -> MigrationResult:
    """Upgrade an index to the mapping of this datafab and to the analyzers of its server.

    Args:
        index: the index to migrate; it is created if it is missing.
        on_progress: called with the number of documents done and their total.
        force: create a new index even if nothing has changed.

    Raises:
        FlowError: the new index refuses a document; the old one is still used for reading.
        Retriable: the server is unavailable; start the migration again.
    """
    if not index.aliases():
        index.ensure_index()
    with index.translating_errors():
        aliases_by_index = index.aliases()
        (old,) = (name for name, aliases in aliases_by_index.items() if index.name in aliases)
        (new,) = (name for name, aliases in aliases_by_index.items() if index.write_alias in aliases)
        if old == new:
            meta = elastic_indices.put_template(index)
            if elastic_indices.read_index_meta(index, old) == meta and not force:
                return MigrationResult(old=old, new=old)
            elastic_indices.log_missing_analyzer(index, meta)
            new = elastic_indices.next_index_name(index.name, old)
            elastic_indices.create_index(index, new, {}, **{"index.gc_deletes": DELETIONS_RETENTION})
            _move_alias(index, index.write_alias, old, new, is_write_index=True)
        index.client.indices.add_block(index=old, block="write")
        index.client.indices.refresh(index=old)
        done = _copy_documents(index, old, new, on_progress)
        index.client.indices.refresh(index=new)
        _move_alias(index, index.name, old, new)
        index.client.indices.put_settings(index=new, settings={"index.gc_deletes": None})
    return done


def _move_alias(index: ElasticIndex, alias: str, old: str, new: str, **more: bool) -> None:
    """Move an alias atomically."""
    add = {"add": {"index": new, "alias": alias, **more}}
    index.client.indices.update_aliases(actions=[{"remove": {"index": old, "alias": alias}}, add])


def _copy_documents(
    index: ElasticIndex, old: str, new: str, on_progress: Callable[[int, int], None]
) -> MigrationResult:
    total = int(index.client.count(index=old)["count"])
    copied = known = 0
    documents = elastic_indices.stored_documents(index, old)
    actions = (bulk_action(new, document, "external") for document in documents)
    for _, item in streaming_bulk(
        index.client, actions, max_chunk_bytes=MAX_REQUEST_BYTES, raise_on_error=False, raise_on_exception=False
    ):
        result = put_result(item["index"], index.display_url)
        if isinstance(result, Retriable):
            raise result
        if not isinstance(result, PutOutcome):
            msg = f"{new} does not take {item['index'].get('_id')}: {result.message}; {old} is still read"
            raise FlowError(msg, code="index", field=result.field)
        copied += result is PutOutcome.OK
        known += result is PutOutcome.STALE
        if (copied + known) % PROGRESS_STEP_DOCUMENTS == 0:
            on_progress(copied + known, total)
    on_progress(copied + known, total)
    return MigrationResult(old=old, new=new, copied=copied, known=known)
