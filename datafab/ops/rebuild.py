"""Rebuild an index from other data: jobs, sources, the logs and analyses of stores, or another index.

The stored jobs have the collections, whose logs describe their endpoints, and the files of catalogues, whose last known
facts are in Redis. Other files (``datafab analyse FILE``) are recorded only in the index itself.

Documents have versions, so their order does not matter, and a rebuild can be repeated: a newer version in the index
is kept.
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

#: Documents per request to the index, and jobs per request to Redis.
BATCH_SIZE = 500
#: Attempts to index a batch before the rebuild is given up.
MAX_ATTEMPTS = 6


@dataclass(slots=True, kw_only=True)
class RebuildCounts:
    """The numbers of documents that a rebuild has indexed, skipped and failed to index."""

    ok: int = 0
    #: not newer than the document in the index
    stale: int = 0
    refused: int = 0
    #: the error of the first refused document
    reason: str | None = None


def from_jobs(services: Services, jobs: RedisJobs) -> Iterator[Document | Fatal]:
    """Yield the documents of the sources and collections of jobs."""
    seen: set[str] = set()
    for job in _newest_first(jobs):
        root = job.params.get("collection")
        if job.flow == "source":
            params = SourceParams.model_validate(job.params)
            item = None if params.source in seen else _catalogue_item(params, services, jobs)
            seen.add(params.source)
            document = None if item is None else build_document(item, services, round(job.created * 1000))
            if document is not None:
                yield document
        elif isinstance(root, str) and root and root not in seen:
            seen.add(root)
            yield from from_logs(services, root_of(root))


def from_logs(services: Services, root: str) -> Iterator[Document | Fatal]:
    """Yield documents made from the last log of each endpoint in a store that is not in the index."""
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
            document = build_document(_endpoint_item(source, log, root, services), services, round(at * 1000))
            if document is not None:
                yield document


def put(
    index: Index, documents: Iterable[Document | Fatal], on_progress: Callable[[RebuildCounts], None]
) -> RebuildCounts:
    """Index documents, and retry those that the index cannot take at the moment.

    Raises:
        Retriable: the index has not recovered.
    """
    counts, documents = RebuildCounts(), iter(documents)
    while batch := list(islice(documents, BATCH_SIZE)):
        found = [one for one in batch if isinstance(one, Document)]
        failures = [one for one in batch if isinstance(one, Fatal)]
        for outcome in _put_with_retries(index, found):
            if isinstance(outcome, Fatal):
                failures.append(outcome)
            else:
                counts.ok += outcome is PutOutcome.OK
                counts.stale += outcome is PutOutcome.STALE
        counts.refused += len(failures)
        counts.reason = counts.reason or (failures[0].message if failures else None)
        on_progress(counts)
    return counts


def _put_with_retries(index: Index, documents: list[Document]) -> Iterator[PutOutcome | Fatal]:
    failures = 0
    while documents:
        outcomes = index.put_many(documents)
        yield from (outcome for outcome in outcomes if not isinstance(outcome, Retriable))
        pairs = zip(documents, outcomes, strict=True)
        retried = [(document, outcome) for document, outcome in pairs if isinstance(outcome, Retriable)]
        if retried:
            failures += 1
            delay = RetryPolicy(retries=MAX_ATTEMPTS).next_delay(failures)
            if delay is None:
                raise retried[0][1]
            time.sleep(delay)
        documents = [document for document, _ in retried]


def _newest_first(jobs: RedisJobs) -> Iterator[Job]:
    last: str | None = None
    while page := jobs.newest(after=last, limit=BATCH_SIZE):
        yield from page
        last = page[-1].id


def schedule_missing(services: Services) -> int:
    """Make the next full pass check the files of catalogues that are not in the index, and return their number.

    Their last check is so long ago that its job has been deleted. Their content is still in the store, so that another
    check costs little.
    """
    count = 0
    for name in services.get(SourceRegistry).names():
        parts = (services.get(SourceRegistry).state(name).parts or "").splitlines()
        missing = [
            each
            for each in (name, *(f"{name}/{part}" for part in parts))
            if services.get(IndexAccess).reading.get(each) is None
        ]
        # The job that checks the URL of a whole file enqueues those of its parts.
        found = [services.get(SourceRegistry).forget_fingerprint(each) for each in {name, *missing}] if missing else []
        count += any(found)
    return count


def _catalogue_item(params: SourceParams, services: Services, jobs: RedisJobs) -> Item | None:
    """Return a file of a catalogue as it was last seen; None: it was never seen, or has been withdrawn."""
    facts, looks = services.get(SourceRegistry).state(params.source), services.get(SourceRegistry).looks(params.source)
    dated = CatalogueFacts(title=params.title, dated=params.dated)
    item = Item(source=params.source, url=params.url, dataset=params.dataset, catalogue=dated)
    whole: Item | None = None
    if facts.sha256 is not None:
        root = services.settings.store
        size = services.store(root).size(facts.sha256)
        found = {"sha256": facts.sha256, "media_type": facts.media_type, "size": size}
        whole = _with_analysis(item.evolve(store=root, **found), services)
    if not looks or not looks[0].error:
        return whole
    error = next(iter(jobs.failures(looks[0].job).values()), None)
    error = error or ItemError(type=looks[0].error, message=f"job {looks[0].job} has the reason")
    if whole is not None and whole.error is not None and whole.error.type == error.type:
        return whole
    return item.evolve(status=Status.FAILED, error=error)  # the last check fetched nothing


def _with_analysis(item: Item, services: Services) -> Item:
    """Return an item that has a content with its analysis, or with the error of that."""
    assert item.store is not None
    assert item.sha256 is not None
    try:
        found = json.loads(services.store(item.store).read(analysis_name(item.sha256, item.sheet)) or b"{}")
        error = ItemError.model_validate(found["error"]) if found.get("status") == Status.FAILED else None
    except (ValueError, AttributeError, KeyError):  # an incomplete analysis, which `document_of` reports
        error = None
    if error is None:
        return item.evolve(analysis=item.sha256)
    error = error.evolve(message=f"{filename(item)}: {error.message}")
    return item.evolve(status=Status.FAILED, error=error)


def _endpoint_item(source: str, log: FetchLog, root: str, services: Services) -> Item:
    item = Item(source=source, url=log.url, store=root)
    if log.resource is not None:
        size = services.store(root).size(log.resource)
        kind = log.response_headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return _with_analysis(item.evolve(sha256=log.resource, size=size, media_type=kind or None), services)
    reason, message = log.failure
    error = ItemError(type=reason, message=message or f"{log.url}: {log.answered}")
    return item.evolve(status=Status.FAILED, error=error)
