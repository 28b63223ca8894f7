"""What was announced: the last message of each data_id, so that no file is announced twice, and none overlooked.

Key, below ``datafab:1:``: ``wis2:<sha256 of the data_id>``, a hash:

| field | holds |
| --- | --- |
| ``hash`` | sha256 of the file |
| ``address`` | digest of its address |
| ``id``, ``pubtime``, ``rel`` | of the message |
| ``sent`` | Unix time, once the broker has acknowledged the message |
| ``before`` | the record that this one took the place of, as JSON, until the broker has answered |
| ``data_id`` | of the message, where an earlier version named the file |

It is kept for the retention of jobs after its last use; then the same file would be announced as new. Some 450 bytes
of Redis per data_id.

Earlier versions named a file by the end of its path, so that two addresses could share a record, and kept no address.
Such a record goes to the address that the jobs of that version tell (``of``); where none does, to the first address
that has the same bytes, or that only another host could share the name with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import redis

from datafab.core.item import Status
from datafab.core.redis import PREAMBLE, done_key
from datafab.core.services import Client, Services
from datafab.publish.data_id import Former, address_digest
from datafab.publish.notification import Frozen
from datafab.settings import PREFIX, Settings

#: Set once the records of earlier versions have been given their addresses.
_ADDRESSED = f"{PREFIX}wis2-addressed"

# KEYS: the record, the one of an earlier version. ARGV: 1 hash, 2 id, 3 pubtime, 4 retention, 5 address,
# 6 data_id of an earlier version, 7 whether that was the whole path, 8 the message that this job froze before,
# 9 whether the same file is to be announced again.
_CLAIM = (
    PREAMBLE
    + f"local ADDRESSED = '{_ADDRESSED}'"
    + """
local NAMES = {'hash', 'id', 'pubtime', 'rel', 'sent', 'address', 'data_id'}
local function record(key)
  local found = {}
  for i, value in ipairs(redis.call('HMGET', key, unpack(NAMES))) do
    if value and value ~= '' then found[NAMES[i]] = value end
  end
  return found.id and found
end
local function answer(r)
  return {r.id, r.pubtime, r.rel, r.sent or '', r.data_id or ''}
end
if ARGV[6] ~= '' and redis.call('EXISTS', KEYS[1]) == 0 then
  local old, of = record(KEYS[2]), redis.call('HGET', KEYS[2], 'of')
  if old and not old.address then
    if redis.call('EXISTS', ADDRESSED) == 0 then return {'unaddressed'} end
    if of == ARGV[5] or not of and (old.hash == ARGV[1] or ARGV[7] == '1' or ARGV[8] ~= '') then
      redis.call('RENAME', KEYS[2], KEYS[1])
      redis.call('HSET', KEYS[1], 'address', ARGV[5], 'data_id', ARGV[6])
      redis.call('HDEL', KEYS[1], 'of')
    end
  end
end
local known = record(KEYS[1])
if known then
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  local same = known.hash == ARGV[1] and (known.address or ARGV[5]) == ARGV[5]
  if known.id == ARGV[8] then return answer(known) end
  if ARGV[8] ~= '' and not same then return {'superseded'} end
  if same and not (known.sent and ARGV[9] == '1') then return answer(known) end
end
local new = {hash = ARGV[1], id = ARGV[2], pubtime = ARGV[3], address = ARGV[5]}
new.rel = known and 'update' or 'canonical'
redis.call('HDEL', KEYS[1], 'sent', 'before')
for name, value in pairs(new) do redis.call('HSET', KEYS[1], name, value) end
if known then redis.call('HSET', KEYS[1], 'before', cjson.encode(known)) end
redis.call('EXPIRE', KEYS[1], ARGV[4])
new.data_id = known and known.data_id
return answer(new)
"""
)

_SENT = (
    PREAMBLE
    + """
if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'sent', now)
  redis.call('HDEL', KEYS[1], 'before')
end
"""
)

_FORGET = """
local known = redis.call('HMGET', KEYS[1], 'id', 'sent', 'before')
if known[1] ~= ARGV[1] or known[2] then return end
local left = redis.call('TTL', KEYS[1])
redis.call('DEL', KEYS[1])
if not known[3] then return end
for name, value in pairs(cjson.decode(known[3])) do redis.call('HSET', KEYS[1], name, value) end
redis.call('EXPIRE', KEYS[1], left)
"""

_ADDRESS = """
if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then redis.call('HSETNX', KEYS[1], 'of', ARGV[2]) end
"""


class Claim(NamedTuple):
    """The one message for a state of a file."""

    frozen: Frozen
    #: whether the broker has acknowledged it
    sent: bool
    #: the name that the file keeps from an earlier version
    data_id: str | None = None


class Publications(Client):
    """The announcements of a cluster."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis: Any = client
        self._seconds = settings.retention_days * 24 * 3600
        self._claim: Any = client.register_script(_CLAIM)
        self._sent: Any = client.register_script(_SENT)
        self._forget: Any = client.register_script(_FORGET)
        self._address: Any = client.register_script(_ADDRESS)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings, services.redis())

    def claim(
        self,
        data_id: str,
        sha256: str,
        message: str,
        pubtime: str,
        *,
        address: str = "",
        former: Former | None = None,
        frozen: str = "",
        again: bool = False,
    ) -> Claim | None:
        """Return the message for a file with this content at this address: the known one, else a new one.

        Args:
            data_id: of the file.
            sha256: of its content.
            message: id of the new message.
            pubtime: of the new message.
            address: digest of the file's address.
            former: what an earlier version may have announced the file as.
            frozen: id of the message that this job tried to send before.
            again: whether what was sent before is announced once more.

        Returns:
            None where ``frozen`` is out of date: a later state of the file was announced meanwhile.
        """
        named, whole = former or ("", False)
        args = [sha256, message, pubtime, self._seconds, address, named, int(whole), frozen, int(again)]
        answer = self._claim(keys=[_key(data_id), _key(named)], args=args)
        if answer == ["unaddressed"]:
            self._address_former()
            answer = self._claim(keys=[_key(data_id), _key(named)], args=args)
        if answer == ["superseded"]:
            return None
        known, when, rel, sent, kept = answer
        return Claim(Frozen(id=known, pubtime=when, rel=rel), bool(sent), kept or None)

    def last(self, data_id: str) -> Claim | None:
        """Return the last message for a file, whatever its content was; None when there is none."""
        known, when, rel, sent = self._redis.hmget(_key(data_id), ["id", "pubtime", "rel", "sent"])
        return Claim(Frozen(id=known, pubtime=when, rel=rel), bool(sent)) if known else None

    def sent(self, data_id: str, message: str) -> None:
        """Say that a message was acknowledged; nothing is changed when a later one has taken its place."""
        self._sent(keys=[_key(data_id)], args=[message])

    def forget(self, data_id: str, message: str) -> None:
        """Say that a message has certainly not gone out: the one before it is the last one again."""
        self._forget(keys=[_key(data_id)], args=[message])

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _address_former(self) -> None:
        """Give the records of earlier versions their addresses, as far as jobs tell them. Done once in a cluster."""
        for data_id, message, url in self._told_by_jobs():
            self._address(keys=[_key(data_id)], args=[message, address_digest(url)])
        self._redis.set(_ADDRESSED, 1, ex=self._seconds)

    def _told_by_jobs(self) -> Iterator[tuple[str, str, str]]:
        """Yield data_id, message and URL of the files that jobs have announced.

        Those that a job found announced already come last: theirs may be the name of another file.
        """
        unchanged = []
        for key in self._redis.scan_iter(PREFIX + done_key("*", "publish", "*"), count=1000):
            for field, text in self._redis.hgetall(key).items():
                item = json.loads(text) if field.isdigit() else {}
                facts = item.get("wis2", {})
                if "message" not in facts or "url" not in item:
                    continue
                told = (facts["data_id"], facts["message"], item["url"])
                if item.get("status") == Status.UNCHANGED:
                    unchanged.append(told)
                else:
                    yield told
        yield from unchanged


def _key(data_id: str) -> str:
    return f"{PREFIX}wis2:{hashlib.sha256(data_id.encode()).hexdigest()}"
