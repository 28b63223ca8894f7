"""Fill an index from what is known without it: jobs, sources, the logs and analyses of stores, another index.

The jobs that are kept name the collections, whose logs tell of their endpoints, and the files of catalogues, of which
Redis knows how they were last seen. Of other files (``datafab analyse FILE``) nothing is kept but in the index.

Versions make the order indifferent, and starting again harmless: what the index has in a newer version stays.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from itertools import islice

from datafab.catalogue.source_stages import SourceParams
from datafab.catalogue.sources import SourceRegistry
from datafab.collect.fetchlog import FetchLog
from datafab.core.backoff import RetryPolicy
from datafab.core.document import Document, analysis_name, filename
from datafab.core.item import CatalogueFacts, Item, ItemError, Status
from datafab.core.job import Job
from datafab.core.jobs import RedisJobs
from datafab.core.services import Services
from datafab.errors import Fatal, Retriable
from datafab.index import Index, PutOutcome
from datafab.index.access import IndexAccess
from datafab.index.stages import build_document
from datafab.store.store import root_of

#: Documents that are put at once, and how often what may pass is tried before all is given up.
AT_ONCE, TRIES = 500, 6


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """What was put."""

    ok: int = 0
    #: not newer than what stands there
    stale: int = 0
    refused: int = 0
    #: why the first was refused
    reason: str | None = None


def from_jobs(services: Services, jobs: RedisJobs) -> Iterator[Document | Fatal]:
    """Yield what is known of the sources and collections that jobs name."""
    seen: set[str] = set()
    for job in _newest_first(jobs):
        root = job.params.get("collection")
        if job.flow == "source":
            params = SourceParams.model_validate(job.params)
            item = None if params.source in seen else _of_catalogue(params, services, jobs)
            seen.add(params.source)
            made = None if item is None else build_document(item, services, round(job.created * 1000))
            if made is not None:
                yield made
        elif isinstance(root, str) and root and root not in seen:
            seen.add(root)
            yield from from_logs(services, root_of(root))


def from_logs(services: Services, root: str) -> Iterator[Document | Fatal]:
    """Yield what the last log of each endpoint in a store tells, of endpoints that the index knows nothing of."""
    last: dict[str, str] = {}
    store = services.store(root)
    for name in store.names("log"):
        endpoint = name.rpartition("/")[2].removesuffix(".json")
        last[endpoint] = max(name, last.get(endpoint, ""))
    for endpoint, name in last.items():
        log = FetchLog.decoded(store.read(name) or b"")
        source = f"endpoint:{endpoint}"
        if log is not None and services.get(IndexAccess).reading.get(source) is None:
            at = log.at.replace(tzinfo=UTC).timestamp()
            made = build_document(_fetched(source, log, root, services), services, round(at * 1000))
            if made is not None:
                yield made


def put(index: Index, documents: Iterable[Document | Fatal], told: Callable[[Rebuilt], None]) -> Rebuilt:
    """Put documents; wait for an index that is busy.

    Raises:
        Retriable: it stays away.
    """
    done, documents = Rebuilt(), iter(documents)
    while some := list(islice(documents, AT_ONCE)):
        found = [one for one in some if isinstance(one, Document)]
        failures = [one for one in some if isinstance(one, Fatal)]
        for became in _patiently(index, found):
            if isinstance(became, Fatal):
                failures.append(became)
            else:
                done.ok += became is PutOutcome.OK
                done.stale += became is PutOutcome.STALE
        done.refused += len(failures)
        done.reason = done.reason or (failures[0].message if failures else None)
        told(done)
    return done


def _patiently(index: Index, documents: list[Document]) -> Iterator[PutOutcome | Fatal]:
    failures = 0
    while documents:
        put = index.put_many(documents)
        yield from (became for became in put if not isinstance(became, Retriable))
        later = [(one, became) for one, became in zip(documents, put, strict=True) if isinstance(became, Retriable)]
        if later:
            failures += 1
            delay = RetryPolicy(retries=TRIES).next_delay(failures)
            if delay is None:
                raise later[0][1]
            time.sleep(delay)
        documents = [one for one, _ in later]


def _newest_first(jobs: RedisJobs) -> Iterator[Job]:
    last: str | None = None
    while page := jobs.newest(after=last, limit=AT_ONCE):
        yield from page
        last = page[-1].id


def look_anew(services: Services) -> int:
    """Have the next full pass look at files of catalogues that the index knows nothing of; return how many there are.

    They were looked at so long ago that no job is left that names them. Their content is in the store still, so that
    such a look costs little.
    """
    count = 0
    for name in services.get(SourceRegistry).names():
        parts = (services.get(SourceRegistry).state(name).parts or "").splitlines()
        missing = [
            each
            for each in (name, *(f"{name}/{part}" for part in parts))
            if services.get(IndexAccess).reading.get(each) is None
        ]
        # That of a part is enqueued by the job that looks at its address.
        found = [services.get(SourceRegistry).forget_fingerprint(each) for each in {name, *missing}] if missing else []
        count += any(found)
    return count


def _of_catalogue(params: SourceParams, services: Services, jobs: RedisJobs) -> Item | None:
    """Return a file of a catalogue as it was last seen; None: it was not, or it was withdrawn."""
    facts, looks = services.get(SourceRegistry).state(params.source), services.get(SourceRegistry).looks(params.source)
    dated = CatalogueFacts(title=params.title, dated=params.dated)
    item = Item(source=params.source, url=params.url, dataset=params.dataset, catalogue=dated)
    whole: Item | None = None
    if facts.sha256 is not None:
        root = services.settings.store
        size = services.store(root).size(facts.sha256)
        found = {"sha256": facts.sha256, "media_type": facts.media_type, "size": size}
        whole = _judged(item.evolve(store=root, **found), services)
    if not looks or not looks[0].error:
        return whole
    error = next(iter(jobs.failures(looks[0].job).values()), None)
    error = error or ItemError(type=looks[0].error, message=f"job {looks[0].job} has the reason")
    if whole is not None and whole.error is not None and whole.error.type == error.type:
        return whole
    return item.evolve(status=Status.FAILED, error=error)  # there was nothing to be had the last time


def _judged(item: Item, services: Services) -> Item:
    """Return an item that has a content with what its analysis says of that."""
    assert item.store is not None
    assert item.sha256 is not None
    try:
        found = json.loads(services.store(item.store).read(analysis_name(item.sha256)) or b"{}")
        error = ItemError.model_validate(found["error"]) if found.get("status") == Status.FAILED else None
    except (ValueError, AttributeError, KeyError):  # half of one: whoever makes the document says so
        error = None
    if error is None:
        return item.evolve(analysis=item.sha256)
    error = error.evolve(message=f"{filename(item)}: {error.message}")
    return item.evolve(status=Status.FAILED, error=error)


def _fetched(source: str, log: FetchLog, root: str, services: Services) -> Item:
    item = Item(source=source, url=log.url, store=root)
    if log.resource is not None:
        size = services.store(root).size(log.resource)
        kind = log.response_headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return _judged(item.evolve(sha256=log.resource, size=size, media_type=kind or None), services)
    reason, message = log.failure
    error = ItemError(type=reason, message=message or f"{log.url}: {log.answered}")
    return item.evolve(status=Status.FAILED, error=error)
