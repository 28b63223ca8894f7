"""What was announced: the last message of each data_id, so that no file is announced twice, and none overlooked.

Key, below ``datafab:1:``: ``wis2:<sha256 of the data_id>``, a hash with ``hash`` (of the file), ``id``, ``pubtime``,
``rel`` and ``sent`` (Unix time, once the broker has acknowledged). It is kept for the retention of jobs after its last
use; then the same file would be announced as new. Some 400 bytes of Redis per data_id.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import redis

from datafab.clients.jobs import PREAMBLE
from datafab.domain.notification import Frozen
from datafab.settings import PREFIX, Settings

# The same file again: the message that it has, sent or not. Another file: a new message, an update of the one before.
_CLAIM = (
    PREAMBLE
    + """
local known = redis.call('HMGET', KEYS[1], 'hash', 'id', 'pubtime', 'rel', 'sent')
redis.call('EXPIRE', KEYS[1], ARGV[4])
if known[1] == ARGV[1] then return known end
local rel = known[1] and 'update' or 'canonical'
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'hash', ARGV[1], 'id', ARGV[2], 'pubtime', ARGV[3], 'rel', rel)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {ARGV[1], ARGV[2], ARGV[3], rel, false}
"""
)

_SENT = (
    PREAMBLE
    + """
if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then redis.call('HSET', KEYS[1], 'sent', now) end
"""
)


class Claim(NamedTuple):
    """The one message for a state of a file."""

    frozen: Frozen
    #: whether the broker has acknowledged it
    sent: bool


class Publications:
    """The announcements of a cluster."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis: Any = client
        self._seconds = settings.retention_days * 24 * 3600
        self._claim: Any = client.register_script(_CLAIM)
        self._sent: Any = client.register_script(_SENT)

    def claim(self, data_id: str, sha256: str, message: str, pubtime: str) -> Claim:
        """Return the message for a file with this content: the known one, else a new one with this id and time."""
        answer = self._claim(keys=[_key(data_id)], args=[sha256, message, pubtime, self._seconds])
        _, known, when, rel, sent = answer
        return Claim(Frozen(id=known, pubtime=when, rel=rel), bool(sent))

    def last(self, data_id: str) -> Claim | None:
        """Return the last message for a file, whatever its content was; None when there is none."""
        known, when, rel, sent = self._redis.hmget(_key(data_id), ["id", "pubtime", "rel", "sent"])
        return Claim(Frozen(id=known, pubtime=when, rel=rel), bool(sent)) if known else None

    def sent(self, data_id: str, message: str) -> None:
        """Say that a message was acknowledged; nothing is changed when a later one has taken its place."""
        self._sent(keys=[_key(data_id)], args=[message])

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def _key(data_id: str) -> str:
    return f"{PREFIX}wis2:{hashlib.sha256(data_id.encode()).hexdigest()}"
