"""What is stored about sources between two jobs: their states, cursors of catalogues, due revisits, waiting jobs.

Keys, all below ``datafab:1:``

| key | type | holds |
| --- | --- | --- |
| ``source:<id>`` | hash | state of a source (``source_state.py``), about 700 bytes; kept a year after the last look |
| ``catalogue:<digest>`` | hash | its ``url`` and ``cursor`` |
| ``catalogue:<digest>:seen`` | sorted set | its sources, by the start of the last pass that saw them |
| ``again`` | sorted set | sources, by the time of their next revisit |
| ``link:<id>`` | set | jobs that wait for a link of link-proxy |
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from datafab.catalogue.source_state import (
    LATEST_FIELD,
    LOOK_FIELDS,
    LUA_FIELDS,
    MAX_DATE_CHARS,
    MAX_ETAG_CHARS,
    MAX_PARTS_CHARS,
    STATE_FIELDS,
    Look,
    SourceState,
)
from datafab.core.document import document_id
from datafab.core.redis import ClusterRedis
from datafab.core.services import Client, Services
from datafab.settings import Settings

#: Seconds for which a source is remembered after the last look at it.
RETENTION_SECONDS = 365 * 24 * 3600
#: Sources of one request to Redis.
BATCH_SOURCES = 500

# Of two jobs on one source, the state of the job that was created later wins, whichever ends last. A job created before
# the source was withdrawn records nothing. Looks are recorded in any case, the latest first.
_RECORD_LOOK = (
    LUA_FIELDS
    + """
local known = redis.call('HMGET', KEYS[1], F.latest, F.withdrawn, '0', '1', '2', '3', '4')
if (tonumber(known[2]) or 0) >= tonumber(ARGV[1]) then return -1 end
local looks = {ARGV[3]}
for i = 3, 7 do
  if known[i] and known[i] ~= ARGV[3] and #looks < 5 then looks[#looks + 1] = known[i] end
end
for i, look in ipairs(looks) do redis.call('HSET', KEYS[1], i - 1, look) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
if (tonumber(known[1]) or 0) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], F.latest, ARGV[1])
redis.call('HDEL', KEYS[1], F.withdrawn)
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
  else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
"""
)

_FORGET = (
    LUA_FIELDS
    + """
local known = redis.call('HMGET', KEYS[1], F.latest, F.withdrawn)
if (tonumber(known[1]) or 0) > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], F.withdrawn, (tonumber(known[2]) or 0) > tonumber(ARGV[1]) and known[2] or ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[3])
return 1
"""
)

# Does nothing if a later look has reported its own facts.
_MARK_REPORTED = (
    LUA_FIELDS
    + """
if redis.call('HGET', KEYS[1], F.latest) ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], F.untold)
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], F.fingerprint, ARGV[2]) end
return 1
"""
)

_REMOVE = """
if (tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1])) or 0) <= tonumber(ARGV[2]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
"""

# A source that an earlier attempt of the same pass has seen (``seen == at``) is not left out.
_MARK_SEEN = (
    LUA_FIELDS
    + """
local found, at, since = {}, tonumber(ARGV[2]), tonumber(ARGV[4])
for id, source in string.gmatch(ARGV[1], '([^\\n]+)\\n([^\\n]+)') do
  local seen = tonumber(redis.call('ZSCORE', KEYS[1], source)) or 0
  local known = redis.call('HMGET', ARGV[3] .. id, F.fingerprint, F.withdrawn)
  if (tonumber(known[2]) or -1) >= since then
    found[#found + 1] = '-'
  else
    redis.call('ZADD', KEYS[1], 'GT', ARGV[2], source)
    found[#found + 1] = known[1] and seen >= since and seen ~= at and '-' or known[1] or ''
  end
end
return table.concat(found, '\\n')
"""
)

# A pass that started earlier may end later.
_ADVANCE_CURSOR = """
if tonumber(ARGV[2]) <= (tonumber(redis.call('HGET', KEYS[1], 'cursor')) or 0) then return 0 end
redis.call('HSET', KEYS[1], 'url', ARGV[1], 'cursor', ARGV[2])
return 1
"""


class SourceRegistry(Client):
    """The sources that one Redis knows."""

    def __init__(self, settings: Settings, client: ClusterRedis) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._prefix = client.prefix
        #: the sorted set of due revisits
        self._revisits_key = f"{client.prefix}again"
        self._job_seconds = int(settings.job_deadline)
        self._record_look = client.register_script(_RECORD_LOOK)
        self._mark_reported = client.register_script(_MARK_REPORTED)
        self._advance_cursor = client.register_script(_ADVANCE_CURSOR)
        self._mark_seen = client.register_script(_MARK_SEEN)
        self._forget = client.register_script(_FORGET)
        self._remove = client.register_script(_REMOVE)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings, services.redis())

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def state(self, source: str) -> SourceState:
        """Return the state of a source; all fields are None if it was never seen."""
        values = self._redis.hmget(self._source_key(source), list(STATE_FIELDS.values()))
        return SourceState(**dict(zip(STATE_FIELDS, values, strict=True)))

    def looks(self, source: str) -> list[Look]:
        """Return the last looks at a source, the latest first."""
        found = self._redis.hmget(self._source_key(source), list(LOOK_FIELDS))
        return [Look.read(line) for line in found if line]

    def record_look(self, source: str, look: Look, **state: str | None) -> bool:
        """Record a look at a source, and fields of its state unless a later look has recorded its own.

        Return False, and record nothing, if the source has been withdrawn since the job was created.
        """
        if len(state.get("etag") or "") > MAX_ETAG_CHARS:
            state["etag"] = None
        if len(state.get("modified") or "") > MAX_DATE_CHARS:
            state["modified"] = None
        if len(parts := state.get("parts") or "") > MAX_PARTS_CHARS:
            state["parts"] = parts[:MAX_PARTS_CHARS].rpartition("\n")[0]
        args: list[Any] = [look.at, RETENTION_SECONDS, str(look)]
        for name, value in state.items():
            args += [STATE_FIELDS[name], value or ""]
        return int(self._record_look(keys=[self._source_key(source)], args=args)) >= 0

    def is_latest(self, source: str, at: float) -> bool:
        """Tell whether no job created after ``at`` has looked at a source."""
        return float(self._redis.hget(self._source_key(source), LATEST_FIELD) or 0) <= at

    def mark_reported(self, source: str, at: float, fingerprint: str | None) -> None:
        """Record that the look of the job created at ``at`` was reported to the catalogue, and its fingerprint."""
        self._mark_reported(keys=[self._source_key(source)], args=[at, fingerprint or ""])

    def cursor(self, catalogue: str) -> float | None:
        """Return the start of the last complete pass over a catalogue as Unix time; None if there was none."""
        value = self._redis.hget(self._catalogue_key(catalogue), "cursor")
        return None if value is None else float(value)

    def advance_cursor(self, catalogue: str, at: float) -> bool:
        """Record a complete pass over a catalogue that started at ``at``; return False if a later one is recorded."""
        return bool(self._advance_cursor(keys=[self._catalogue_key(catalogue)], args=[catalogue, at]))

    def mark_seen(
        self, catalogue: str, sources: Sequence[str], at: float, *, unless_since: float = float("inf")
    ) -> dict[str, str | None]:
        """Record that a pass started at ``at`` has seen these sources; return the stored fingerprint of each.

        Sources that were withdrawn, or looked at and seen, at ``unless_since`` or later are left out: what this pass
        read may be older than that.
        """
        found: dict[str, str | None] = {}
        for first in range(0, len(sources), BATCH_SOURCES):
            batch = sources[first : first + BATCH_SOURCES]
            # One string each way: a command for each source costs the client ten times as much.
            names = "\n".join(f"{document_id(source)}\n{source}" for source in batch)
            args: list[Any] = [names, at, f"{self._prefix}source:", unless_since]
            fingerprints = self._mark_seen(keys=[self._seen_key(catalogue)], args=args).split("\n")
            known = zip(batch, fingerprints, strict=True)
            found |= {source: value or None for source, value in known if value != "-"}
        return found

    def count(self, catalogue: str) -> int:
        """Return the number of sources that passes have seen in a catalogue."""
        return int(self._redis.zcard(self._seen_key(catalogue)))

    def names(self) -> Iterator[str]:
        """Yield the sources of all catalogues; some may be yielded twice."""
        for key in self._redis.scan_iter(match=f"{self._prefix}catalogue:*:seen", count=BATCH_SOURCES):
            yield from (name for name, _ in self._redis.zscan_iter(key, count=BATCH_SOURCES))

    def forget_fingerprint(self, source: str) -> bool:
        """Let the next pass treat a source as changed; return False if it would do so anyway."""
        return bool(self._redis.hdel(self._source_key(source), STATE_FIELDS["fingerprint"], STATE_FIELDS["downloads"]))

    def count_missing(self, catalogue: str, before: float) -> int:
        """Return the number of sources that no pass started at ``before`` or later has seen."""
        return int(self._redis.zcount(self._seen_key(catalogue), "-inf", f"({before!r}"))

    def missing(self, catalogue: str, before: float, limit: int = BATCH_SOURCES) -> list[str]:
        """Return at most ``limit`` of the sources that ``count_missing`` counts."""
        key = self._seen_key(catalogue)
        found: list[str] = self._redis.zrangebyscore(key, "-inf", f"({before!r}", start=0, num=limit)
        return found

    def forget(self, source: str, at: float) -> bool:
        """Delete the state of a source withdrawn at ``at``; return False if a job created later has looked at it.

        The time of the withdrawal stays for as long as jobs that were created before it may run.
        """
        args: list[Any] = [at, 2 * self._job_seconds, source]
        return bool(self._forget(keys=[self._source_key(source), self._revisits_key], args=args))

    def remove(self, catalogue: str, source: str, at: float) -> None:
        """Remove a source from those of a catalogue, unless it was seen after ``at``."""
        self._remove(keys=[self._seen_key(catalogue)], args=[source, at])

    def schedule_revisit(self, source: str, at: float | None) -> None:
        """Set when a source is revisited; None: not any more."""
        if at is None:
            self._redis.zrem(self._revisits_key, source)
        else:
            self._redis.zadd(self._revisits_key, {source: at})

    def due_revisits(self, now: float, limit: int) -> list[str]:
        """Return at most ``limit`` sources whose revisit is due, the longest overdue first."""
        if not limit:
            return []
        found: list[str] = self._redis.zrangebyscore(self._revisits_key, "-inf", now, start=0, num=limit)
        return found

    def next_revisit(self, source: str) -> float | None:
        """Return when a source is revisited; None if no revisit is scheduled."""
        at: float | None = self._redis.zscore(self._revisits_key, source)
        return at

    def add_waiting_job(self, link: str, job: str) -> None:
        """Record that a job waits for a link of link-proxy."""
        with self._redis.pipeline() as pipe:
            pipe.sadd(self._link_key(link), job)
            pipe.expire(self._link_key(link), self._job_seconds)
            pipe.execute()

    def remove_waiting_job(self, link: str, job: str) -> None:
        """Record that a job no longer waits for a link."""
        self._redis.srem(self._link_key(link), job)

    def waiting_jobs(self, links: Iterable[str]) -> list[str]:
        """Return the jobs that wait for any of these links."""
        keys = [self._link_key(link) for link in links]
        return sorted(self._redis.sunion(keys)) if keys else []

    def _source_key(self, source: str) -> str:
        return f"{self._prefix}source:{document_id(source)}"

    def _catalogue_key(self, url: str) -> str:
        return f"{self._prefix}catalogue:{hashlib.sha256(url.encode()).hexdigest()[:32]}"

    def _seen_key(self, catalogue: str) -> str:
        return f"{self._catalogue_key(catalogue)}:seen"

    def _link_key(self, link: str) -> str:
        return f"{self._prefix}link:{link}"
