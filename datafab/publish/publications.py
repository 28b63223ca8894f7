"""The publications so far: the last message of each data_id, so that each state of a file is announced once.

Key, below ``datafab:1:``: ``wis2:<sha256 of the data_id>``, a hash:

| field | holds |
| --- | --- |
| ``hash`` | sha256 of the file |
| ``address`` | digest of its address |
| ``id``, ``pubtime``, ``rel`` | of the message |
| ``sent`` | Unix time, once the broker has acknowledged the message |
| ``before`` | the record that this one replaces, as JSON, until the broker has answered |
| ``data_id`` | of the message, if an earlier version has named the file |

It is kept for the retention of jobs after its last use; afterwards the same file is announced as new. It takes some
450 bytes of Redis per data_id.

Earlier versions named a file by the end of its path, so that two addresses could share a record, and stored no address.
Such a record is assigned to the address that the jobs of that version name (``of``). If none does, it is assigned to
the first address with the same bytes, or with a name that only an address of another host could share.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from datafab.core.item import Status
from datafab.core.redis import ClusterRedis, done_key, register
from datafab.core.services import Client, Services
from datafab.publish.data_id import FormerId, address_digest
from datafab.publish.notification import MessageIdentity
from datafab.settings import Settings

#: Set once the records of earlier versions have been assigned to their addresses.
_ADDRESSED = "wis2-addressed"

# KEYS: the record, the one of an earlier version. ARGV: 1 hash, 2 id, 3 pubtime, 4 retention, 5 address,
# 6 data_id of an earlier version, 7 whether that is the whole path, 8 id of the message that this job tried before,
# 9 whether an unchanged file is announced again.
_CLAIM = (
    f"local ADDRESSED = P .. '{_ADDRESSED}'"
    """
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

_SENT = """
if redis.call('HGET', KEYS[1], 'id') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'sent', now)
  redis.call('HDEL', KEYS[1], 'before')
end
"""

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

    identity: MessageIdentity
    #: whether the broker has acknowledged it
    sent: bool
    #: the data_id that the file keeps from an earlier version
    data_id: str | None = None


class Publications(Client):
    """The publications of a cluster."""

    def __init__(self, settings: Settings, client: ClusterRedis) -> None:
        self._redis: Any = client
        self._prefix = client.prefix
        self._seconds = settings.retention_days * 24 * 3600
        self._claim: Any = register(client, _CLAIM)
        self._sent: Any = register(client, _SENT)
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
        former: FormerId | None = None,
        previous_id: str = "",
        republish: bool = False,
    ) -> Claim | None:
        """Return the message for a file with this content at this address: the existing one, else a new one.

        Args:
            data_id: data_id of the file.
            sha256: digest of its content.
            message: id of a new message.
            pubtime: time of publication of a new message.
            address: digest of the file's address.
            former: data_id under which an earlier version may have announced the file.
            previous_id: id of the message that an earlier attempt of this job tried to send.
            republish: whether an unchanged file is announced again.

        Returns:
            None if a later state of the file was announced since the attempt with ``previous_id``.
        """
        named, whole = former or ("", False)
        args = [sha256, message, pubtime, self._seconds, address, named, int(whole), previous_id, int(republish)]
        answer = self._claim(keys=[self._key(data_id), self._key(named)], args=args)
        if answer == ["unaddressed"]:
            self._address_former()
            answer = self._claim(keys=[self._key(data_id), self._key(named)], args=args)
        if answer == ["superseded"]:
            return None
        known, when, rel, sent, kept = answer
        return Claim(MessageIdentity(id=known, pubtime=when, rel=rel), bool(sent), kept or None)

    def last(self, data_id: str) -> Claim | None:
        """Return the last message for a file, whatever its content; None if there is none."""
        known, when, rel, sent = self._redis.hmget(self._key(data_id), ["id", "pubtime", "rel", "sent"])
        return Claim(MessageIdentity(id=known, pubtime=when, rel=rel), bool(sent)) if known else None

    def sent(self, data_id: str, message: str) -> None:
        """Record that a message was acknowledged, unless a later one has replaced it."""
        self._sent(keys=[self._key(data_id)], args=[message])

    def forget(self, data_id: str, message: str) -> None:
        """Restore the record before a message that was certainly not sent."""
        self._forget(keys=[self._key(data_id)], args=[message])

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _address_former(self) -> None:
        """Assign the records of earlier versions to the addresses that jobs name, once per cluster."""
        for data_id, message, url in self._sent_by_jobs():
            self._address(keys=[self._key(data_id)], args=[message, address_digest(url)])
        self._redis.set(self._prefix + _ADDRESSED, 1, ex=self._seconds)

    def _sent_by_jobs(self) -> Iterator[tuple[str, str, str]]:
        """Yield data_id, message and URL of the files that jobs have announced.

        Files that a job found unchanged come last, as their data_id may belong to another file.
        """
        unchanged = []
        for key in self._redis.scan_iter(self._prefix + done_key("*", "publish", "*"), count=1000):
            for field, text in self._redis.hgetall(key).items():
                item = json.loads(text) if field.isdigit() else {}
                facts = item.get("wis2", {})
                if "message" not in facts or "url" not in item:
                    continue
                sent = (facts["data_id"], facts["message"], item["url"])
                if item.get("status") == Status.UNCHANGED:
                    unchanged.append(sent)
                else:
                    yield sent
        yield from unchanged

    def _key(self, data_id: str) -> str:
        return f"{self._prefix}wis2:{hashlib.sha256(data_id.encode()).hexdigest()}"
