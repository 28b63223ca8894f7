"""Another index of Elasticsearch behind the same aliases, while others read and write.

1. The new index is made, and the alias that is written is moved to it: from then on it has all that is new.
2. The old one is closed for writing. The server waits for what is on its way; whoever comes too late is told to try
   again, and writes to the new one then. So nothing is written to the old one after it was copied.
3. Its documents are copied. The server refuses those that the new index has in the same version or a newer one, and
   those that were deleted meanwhile.
4. The alias that is read is moved. Until then readers see the old index as it was, and never an empty one.

One that was broken off goes on when it is started again: the aliases tell how far it was. What is copied already is
refused, which is quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from elasticsearch.helpers import streaming_bulk

from datafab.errors import FlowError, Retriable
from datafab.index import elastic_indices as making
from datafab.index.elastic import MAX_REQUEST, ElasticIndex
from datafab.index.elastic_errors import outcome
from datafab.index.elastic_mapping import action
from datafab.index.interface import Outcome

#: How long the server remembers what was deleted while a migration lasts; usually it is a minute.
DELETIONS = "7d"
#: Documents after which progress is told.
STEP = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """What a migration has done."""

    #: indexes behind the alias before and after; the same: there was nothing to do
    old: str
    new: str
    #: documents brought over, and those that the new index had already
    copied: int = 0
    known: int = 0


def migrate(index: ElasticIndex, told: Callable[[int, int], None], *, force: bool = False) -> Migrated:
    """Bring an index to the mapping of this datafab, and of what its server understands now.

    Args:
        index: the one to migrate; made when it is missing.
        told: (documents done, documents in all).
        force: make it anew although nothing has changed.

    Raises:
        FlowError: the new index refuses a document; the old one is still read.
        Retriable: the server is away; start it again.
    """
    if not index.aliases():
        index.make()
    with index.telling():
        standing = index.aliases()
        (old,) = (name for name, aliases in standing.items() if index.name in aliases)
        (new,) = (name for name, aliases in standing.items() if index.write in aliases)
        if old == new:
            wanted = making.put_template(index)
            if making.told(index, old) == wanted and not force:
                return Migrated(old=old, new=old)
            making.tell(index, wanted)
            new = making.after(index.name, old)
            making.create(index, new, {}, **{"index.gc_deletes": DELETIONS})
            _move(index, index.write, old, new, is_write_index=True)
        index.client.indices.add_block(index=old, block="write")
        index.client.indices.refresh(index=old)
        done = _copy(index, old, new, told)
        index.client.indices.refresh(index=new)
        _move(index, index.name, old, new)
        index.client.indices.put_settings(index=new, settings={"index.gc_deletes": None})
    return done


def _move(index: ElasticIndex, alias: str, old: str, new: str, **more: bool) -> None:
    """Move an alias in one step."""
    add = {"add": {"index": new, "alias": alias, **more}}
    index.client.indices.update_aliases(actions=[{"remove": {"index": old, "alias": alias}}, add])


def _copy(index: ElasticIndex, old: str, new: str, told: Callable[[int, int], None]) -> Migrated:
    total = int(index.client.count(index=old)["count"])
    copied = known = 0
    documents = making.stored(index, old)
    actions = (action(new, document, "external") for document in documents)
    for _, item in streaming_bulk(
        index.client, actions, max_chunk_bytes=MAX_REQUEST, raise_on_error=False, raise_on_exception=False
    ):
        became = outcome(item["index"], index.shown)
        if isinstance(became, Retriable):
            raise became
        if not isinstance(became, Outcome):
            msg = f"{new} does not take {item['index'].get('_id')}: {became.message}; {old} is still read"
            raise FlowError(msg, code="index", field=became.field)
        copied += became is Outcome.OK
        known += became is Outcome.STALE
        if (copied + known) % STEP == 0:
            told(copied + known, total)
    told(copied + known, total)
    return Migrated(old=old, new=new, copied=copied, known=known)
