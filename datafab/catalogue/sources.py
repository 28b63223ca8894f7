"""What is known of sources between two jobs: how each was last seen, how far a catalogue was read, who waits for whom.

Keys, all below ``datafab:1:``

| key | type | holds |
| --- | --- | --- |
| ``source:<id>`` | hash | how a source was seen, about 700 bytes; kept a year after the last look |
| ``catalogue:<digest>`` | hash | its ``url`` and ``cursor`` |
| ``catalogue:<digest>:seen`` | sorted set | its sources, by when the last pass began that saw them |
| ``again`` | sorted set | sources, by when they are to be looked at whatever their catalogue says |
| ``link:<id>`` | set | jobs that wait for a link of link-proxy |
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import redis

from datafab.core.document import document_id
from datafab.core.services import Client, Services
from datafab.settings import PREFIX, Settings

#: Seconds that a source is remembered after it was last looked at.
KEPT = 365 * 24 * 3600
#: Longer ones are not kept: the next fetch is compared by its digest then.
MAX_ETAG, MAX_DATE = 200, 64
#: Sources that are asked about at once.
MANY = 500
AGAIN = f"{PREFIX}again"
#: Looks at a source that are kept, the last one first, each in a field of its own of at most so many characters: Redis
#: keeps a hash packed, in a third of the bytes, while none of its values is longer than 64.
LOOKS, MAX_LOOK = 5, 64
#: Characters of the names of its parts that are kept: what is not there cannot be withdrawn one day.
MAX_PARTS = 1_000_000

# Of two jobs on one source the one that was made later knows better, whichever ends last; of one that was withdrawn
# since, none does. The looks are told in any case, the last one first.
_REMEMBER = """
local known = redis.call('HMGET', KEYS[1], 'a', 'g', '0', '1', '2', '3', '4')
if (tonumber(known[2]) or 0) >= tonumber(ARGV[1]) then return -1 end
local looks = {ARGV[3]}
for i = 3, 7 do
  if known[i] and known[i] ~= ARGV[3] and #looks < 5 then looks[#looks + 1] = known[i] end
end
for i, look in ipairs(looks) do redis.call('HSET', KEYS[1], i - 1, look) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
if (tonumber(known[1]) or 0) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'a', ARGV[1])
redis.call('HDEL', KEYS[1], 'g')
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i])
  else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 1
"""

_FORGET = """
local known = redis.call('HMGET', KEYS[1], 'a', 'g')
if (tonumber(known[1]) or 0) > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'g', (tonumber(known[2]) or 0) > tonumber(ARGV[1]) and known[2] or ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[3])
return 1
"""

# Unless a later look has told its own.
_TOLD = """
if redis.call('HGET', KEYS[1], 'a') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'n')
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'f', ARGV[2]) end
return 1
"""

_UNSEE = """
if (tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1])) or 0) <= tonumber(ARGV[2]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
"""

# What this very pass has seen before it died and began again is not left out.
_SAW = """
local found, at, but = {}, tonumber(ARGV[2]), tonumber(ARGV[4])
for id, source in string.gmatch(ARGV[1], '([^\\n]+)\\n([^\\n]+)') do
  local seen = tonumber(redis.call('ZSCORE', KEYS[1], source)) or 0
  local known = redis.call('HMGET', ARGV[3] .. id, 'f', 'g')
  if (tonumber(known[2]) or -1) >= but then
    found[#found + 1] = '-'
  else
    redis.call('ZADD', KEYS[1], 'GT', ARGV[2], source)
    found[#found + 1] = known[1] and seen >= but and seen ~= at and '-' or known[1] or ''
  end
end
return table.concat(found, '\\n')
"""

# A pass that began earlier may end later.
_MOVE = """
if tonumber(ARGV[2]) <= (tonumber(redis.call('HGET', KEYS[1], 'cursor')) or 0) then return 0 end
redis.call('HSET', KEYS[1], 'url', ARGV[1], 'cursor', ARGV[2])
return 1
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How a source was last seen.

    Attributes:
        fingerprint: what its catalogue said of it when it was last looked at, to an end.
        address: digest of the URL that the following are about.
        etag: of the answer; None: none, or too long a one.
        modified: the answer's Last-Modified.
        sha256: of its content.
        media_type: of its content.
        downloads: digest of what link-proxy kept of it.
        changed: Unix time at which its content was found to be another than before.
        parts: names of the further files at its address, each a source of its own; one a line.
        catalogue: root of its catalogue's API, if it is not that of the settings.
        untold: set while its catalogue has not been told of the last news.
    """

    fingerprint: str | None = None
    address: str | None = None
    etag: str | None = None
    modified: str | None = None
    sha256: str | None = None
    media_type: str | None = None
    downloads: str | None = None
    parts: str | None = None
    changed: str | None = None
    catalogue: str | None = None
    untold: str | None = None


class Look(NamedTuple):
    """A job that looked at a source."""

    #: Unix time at which it was made; it is kept to the second
    at: float
    status: str
    job: str
    #: type of its error, its first letters where that is long
    error: str | None = None

    @classmethod
    def read(cls, line: str) -> Self:
        """Read one as it is kept."""
        at, status, job, *error = line.split(" ")
        return cls(float(at), status, job, error[0] if error else None)

    def __str__(self) -> str:
        """Return it as it is kept."""
        return f"{self.at:.0f} {self.status} {self.job}{f' {self.error}' if self.error else ''}"[:MAX_LOOK]


_LETTERS = dict(zip((field.name for field in fields(Facts)), "fuemstdpcon", strict=True))


def address(url: str) -> str:
    """Return a digest by which a URL is known again."""
    return hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()[:16]


class Sources(Client):
    """What is known of sources, in one Redis."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._patience = int(settings.job_deadline)
        self._remember = client.register_script(_REMEMBER)
        self._told = client.register_script(_TOLD)
        self._move = client.register_script(_MOVE)
        self._saw = client.register_script(_SAW)
        self._forget = client.register_script(_FORGET)
        self._unsee = client.register_script(_UNSEE)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings, services.redis())

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def facts(self, source: str) -> Facts:
        """Return how a source was last seen; of one that never was, all is None."""
        values = self._redis.hmget(_source(source), list(_LETTERS.values()))
        return Facts(**dict(zip(_LETTERS, values, strict=True)))

    def looks(self, source: str) -> list[Look]:
        """Return the last looks at a source, the last one first."""
        found = self._redis.hmget(_source(source), [str(number) for number in range(LOOKS)])
        return [Look.read(line) for line in found if line]

    def remember(self, source: str, look: Look, **facts: str | None) -> bool:
        """Keep a look at a source, and some facts unless a later look has told its own.

        False: it was withdrawn meanwhile, and nothing is kept.
        """
        if len(facts.get("etag") or "") > MAX_ETAG:
            facts["etag"] = None
        if len(facts.get("modified") or "") > MAX_DATE:
            facts["modified"] = None
        if len(parts := facts.get("parts") or "") > MAX_PARTS:
            facts["parts"] = parts[:MAX_PARTS].rpartition("\n")[0]
        args: list[Any] = [look.at, KEPT, str(look)]
        for name, value in facts.items():
            args += [_LETTERS[name], value or ""]
        return int(self._remember(keys=[_source(source)], args=args)) >= 0

    def is_last(self, source: str, at: float) -> bool:
        """Tell whether no look at a source is known of a job that was made after ``at``."""
        return float(self._redis.hget(_source(source), "a") or 0) <= at

    def told(self, source: str, at: float, fingerprint: str | None) -> None:
        """Note that the catalogue was told of the look of a job that was made at ``at``: that look is settled now."""
        self._told(keys=[_source(source)], args=[at, fingerprint or ""])

    def cursor(self, catalogue: str) -> float | None:
        """Return when the last pass over a catalogue began that came to a good end, Unix time; None: none did."""
        value = self._redis.hget(_catalogue(catalogue), "cursor")
        return None if value is None else float(value)

    def move(self, catalogue: str, at: float) -> bool:
        """Note that a pass over a catalogue has come to a good end that began at ``at``; False: a later one did."""
        return bool(self._move(keys=[_catalogue(catalogue)], args=[catalogue, at]))

    def saw(
        self, catalogue: str, sources: Sequence[str], at: float, *, but: float = float("inf")
    ) -> dict[str, str | None]:
        """Note that a pass that began at ``at`` has seen these sources; return their fingerprints of the last look.

        Those that were looked at and seen before, or withdrawn, at ``but`` or later are left out: what was seen now
        may be older.
        """
        found: dict[str, str | None] = {}
        for first in range(0, len(sources), MANY):
            some = sources[first : first + MANY]
            # One text each way: a command for each of them costs the client ten times as much.
            names = "\n".join(f"{document_id(source)}\n{source}" for source in some)
            prints = self._saw(keys=[f"{_catalogue(catalogue)}:seen"], args=[names, at, f"{PREFIX}source:", but])
            known = zip(some, prints.split("\n"), strict=True)
            found |= {source: value or None for source, value in known if value != "-"}
        return found

    def seen(self, catalogue: str) -> int:
        """Return how many sources a catalogue has, as far as passes have seen."""
        return int(self._redis.zcard(f"{_catalogue(catalogue)}:seen"))

    def names(self) -> Iterator[str]:
        """Yield the sources of all catalogues, some of them twice."""
        for key in self._redis.scan_iter(match=f"{PREFIX}catalogue:*:seen", count=MANY):
            yield from (name for name, _ in self._redis.zscan_iter(key, count=MANY))

    def look_anew(self, source: str) -> bool:
        """Let the next pass that sees a source take it for changed; False: it would do so anyway."""
        return bool(self._redis.hdel(_source(source), _LETTERS["fingerprint"], _LETTERS["downloads"]))

    def vanished(self, catalogue: str, before: float) -> int:
        """Return how many of them no pass has seen that began at ``before`` or later."""
        return int(self._redis.zcount(f"{_catalogue(catalogue)}:seen", "-inf", f"({before!r}"))

    def some_vanished(self, catalogue: str, before: float, limit: int = MANY) -> list[str]:
        """Return some of those."""
        key = f"{_catalogue(catalogue)}:seen"
        found: list[str] = self._redis.zrangebyscore(key, "-inf", f"({before!r}", start=0, num=limit)
        return found

    def forget(self, source: str, at: float) -> bool:
        """Forget a source that was gone at ``at``; jobs that were made before know nothing. False: a later one does."""
        args: list[Any] = [at, 2 * self._patience, source]
        return bool(self._forget(keys=[_source(source), AGAIN], args=args))

    def unsee(self, catalogue: str, source: str, at: float) -> None:
        """Forget that a catalogue had a source, unless it was seen after ``at``."""
        self._unsee(keys=[f"{_catalogue(catalogue)}:seen"], args=[source, at])

    def look_at(self, source: str, at: float | None) -> None:
        """Say when a source is to be looked at again; None: no more."""
        if at is None:
            self._redis.zrem(AGAIN, source)
        else:
            self._redis.zadd(AGAIN, {source: at})

    def due(self, now: float, limit: int) -> list[str]:
        """Return sources that are to be looked at by now, those first that have been for the longest time."""
        found: list[str] = self._redis.zrangebyscore(AGAIN, "-inf", now, start=0, num=limit) if limit else []
        return found

    def due_at(self, source: str) -> float | None:
        """Return when a source is to be looked at again; None: nobody knows."""
        at: float | None = self._redis.zscore(AGAIN, source)
        return at

    def await_link(self, link: str, job: str) -> None:
        """Note that a job waits for a link."""
        with self._redis.pipeline() as pipe:
            pipe.sadd(f"{PREFIX}link:{link}", job)
            pipe.expire(f"{PREFIX}link:{link}", self._patience)
            pipe.execute()

    def leave_link(self, link: str, job: str) -> None:
        """Note that a job waits no longer."""
        self._redis.srem(f"{PREFIX}link:{link}", job)

    def waiting(self, links: Iterable[str]) -> list[str]:
        """Return the jobs that wait for any of these links."""
        keys = [f"{PREFIX}link:{link}" for link in links]
        return sorted(self._redis.sunion(keys)) if keys else []


def _source(source: str) -> str:
    return f"{PREFIX}source:{document_id(source)}"


def _catalogue(url: str) -> str:
    return f"{PREFIX}catalogue:{hashlib.sha256(url.encode()).hexdigest()[:32]}"
