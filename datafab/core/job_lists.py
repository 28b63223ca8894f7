"""The lists of jobs in Redis: by status and flow, by caller, and by the kind of their dedupe key.

The scripts that change a job's status move it between the lists in the same step (``scripts/jobs.lua``). So a page of
jobs, or their number, costs the same however many are kept. Jobs that a version without lists has written are put into
theirs by the first request that misses them, and what such a version has changed is put right by ``repair``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from datafab.core.job import JobStatus
from datafab.core.redis import LISTED_KEYS, ClusterRedis, script

#: Jobs that one call of a script reads, so that Redis is busy with it for a few milliseconds only.
JOBS_PER_CALL = 500
#: Jobs of which one call only compares the parameters with a text.
TEXTS_PER_CALL = 2000
#: Row states that have a set of their own.
COUNTED_STATES = ("run", "wait", "held")


class Position(NamedTuple):
    """A place in a list: the creation time and id of the job before it."""

    score: str = "+inf"
    job: str = ""


class Page(NamedTuple):
    """A part of a list.

    Attributes:
        ids: of its jobs, newest first.
        end: where the next part starts; None: this is the last.
    """

    ids: list[str]
    end: Position | None


class JobLists:
    """The lists of one Redis."""

    def __init__(self, client: ClusterRedis) -> None:
        self._redis: Any = client  # its types do not know that answers are decoded
        self._prefix = client.prefix
        names = ("list_jobs", "list_keyed", "find_keyed", "count_keyed", "index_jobs", "check_list", "check_keyed")
        self._scripts = {name: script(client, name, rows=True) for name in (*names, "check_rows")}

    def position_after(self, job: str) -> Position | None:
        """Return the place after a job; None: there is no such job."""
        score = self._redis.zscore(self._prefix + "jobs", job)
        return None if score is None else Position(repr(score), job)

    def page(self, start: Position, limit: int, *, status: str = "", flow: str = "", caller: str = "") -> Page:
        """Return up to ``limit`` jobs of a list, newest first. It may be fewer, since expired ones are left out."""
        arguments = (status, flow, caller, *start, limit)
        unlisted, read, score, job, ids = self._run("list_jobs", *arguments)
        if unlisted:
            self.index()
            _, read, score, job, ids = self._run("list_jobs", *arguments)
        return Page(ids, Position(score, job) if read == limit else None)

    def keyed(self, kind: str, outcome: str, first: int, limit: int) -> list[str]:
        """Return the ids of jobs with a kind of dedupe key, newest first.

        Args:
            kind: the kind, one of ``LISTED_KEYS``.
            outcome: ``pending``, ``complete`` or ``error``; empty: any.
            first: number of jobs to skip.
            limit: most jobs to return.
        """
        unlisted, ids = self._run("list_keyed", kind, outcome, first, limit)
        if unlisted:
            self.index()
            _, ids = self._run("list_keyed", kind, outcome, first, limit)
        found: list[str] = ids
        return found

    def find_keyed(self, kind: str, outcome: str, texts: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield the ids of jobs with a kind of dedupe key whose parameters have some texts, newest first.

        Args:
            kind: as for ``keyed``.
            outcome: as for ``keyed``.
            texts: parts of the parameters' JSON; of each list, one text is enough.
        """
        start, read = 0, TEXTS_PER_CALL
        while read == TEXTS_PER_CALL:
            arguments = (kind, outcome, start, start + TEXTS_PER_CALL - 1, json.dumps(texts, ensure_ascii=False))
            unlisted, read, ids = self._run("find_keyed", *arguments)
            if unlisted:
                self.index()
                _, read, ids = self._run("find_keyed", *arguments)
            start += read
            yield from ids

    def count_keyed(self, kind: str) -> dict[str, int]:
        """Return the numbers of jobs with a kind of dedupe key, by outcome."""
        unlisted, *counts = self._run("count_keyed", kind)
        if unlisted:
            self.index()
            _, *counts = self._run("count_keyed", kind)
        return dict(zip(("pending", "complete", "error"), map(int, counts), strict=True))

    def index(self) -> None:
        """Put jobs into their lists that are in none, the newest first: a host of another version may make more."""
        start, unlisted, read = 0, 1, JOBS_PER_CALL
        while unlisted and read == JOBS_PER_CALL:
            read, expired, unlisted = self._run("index_jobs", start, start + JOBS_PER_CALL - 1)
            start += read - expired

    def repair(self) -> int:
        """Take expired jobs from all lists, and put right what another version has changed; return how many expired."""
        self.index()
        expired = 0
        for status, flow, caller in self._names():
            start, read = 0, JOBS_PER_CALL
            while read == JOBS_PER_CALL:
                read, kept, gone = self._run("check_list", status, flow, caller, start, start + JOBS_PER_CALL - 1)
                start, expired = start + kept, expired + gone
        for kind in LISTED_KEYS:
            start, read = 0, JOBS_PER_CALL
            while read == JOBS_PER_CALL:
                read, kept = self._run("check_keyed", kind, start, start + JOBS_PER_CALL - 1)
                start += kept
        for state in COUNTED_STATES:
            cursor = self._run("check_rows", state, 0, JOBS_PER_CALL)
            while cursor:
                cursor = self._run("check_rows", state, cursor, JOBS_PER_CALL)
        return expired

    def _names(self) -> Iterator[tuple[str, str, str]]:
        """Yield status, flow and caller of each list; an empty caller stands for all."""
        callers = ["", *sorted(self._redis.smembers(self._prefix + "callers"))]
        for flow in sorted(self._redis.smembers(self._prefix + "flows")):
            yield from ((status.value, flow, caller) for caller in callers for status in JobStatus)

    def _run(self, script: str, *args: Any) -> Any:
        return self._scripts[script](args=args)
