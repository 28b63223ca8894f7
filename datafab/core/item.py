"""What crosses the queue: items, batches and counts. References only, never data, never a secret."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from datafab.errors import DatafabError, FlowError, Unsuitable

#: What crosses the queue stays below this many bytes.
MAX_MESSAGE_BYTES = 8 * 1024
#: So a batch, which Celery wraps in base64 and headers, stays below this; a longer item list goes to the store.
MAX_INLINE_BYTES = 4 * 1024


class Value(BaseModel):
    """A frozen value; keys that it does not know are refused, so that versions are never misread."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return self.model_copy(update=changes)

    def dump(self) -> dict[str, Any]:
        """Return the JSON form, without the fields that are unset."""
        return self.model_dump(mode="json", exclude_none=True)


V = TypeVar("V", bound=Value)


def read_value(model: type[V], value: Any) -> V:
    """Return a value that came over the queue, or was kept by another process.

    Raises:
        FlowError: it is not what this version writes: another ``v``, or a key that is not known here.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{where}: {first['msg']}: written by another version of datafab; have all hosts run the same, and retry"
        raise FlowError(msg, code="version", field=where) from error


class Status(StrEnum):
    """What has become of an item."""

    OK = "ok"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"


class ItemError(Value):
    """Why an item failed or was skipped."""

    type: str
    message: str
    field: str | None = None
    #: the stage that refused the content of an item that has not failed
    stage: str | None = None

    @classmethod
    def of(cls, error: DatafabError) -> Self:
        """Make the value of an exception."""
        # A file name that is no UTF-8 must not make the whole message unwritable.
        message = error.message.encode(errors="backslashreplace").decode()
        return cls(type=error.code, message=message, field=error.field)


class Stopped(Value):
    """The stage that could do nothing with an item after what was asked for was done, and why."""

    stage: str
    #: what the item counts as for the stages after it, and in the index
    status: Status
    error: ItemError
    #: see ``errors.Unsuitable``
    another_kind: bool = False

    @classmethod
    def by(cls, stage: str, error: DatafabError) -> Self:
        """Make the value of what a stage raised."""
        status = Status.FAILED if isinstance(error, Unsuitable) else Status.SKIPPED
        other = isinstance(error, Unsuitable) and error.another_kind
        return cls(stage=stage, status=status, error=ItemError.of(error), another_kind=other)

    @property
    def outcome(self) -> Status:
        """What the stage counts it as."""
        return Status.SKIPPED if self.another_kind else self.status


class Dataset(Value):
    """The dataset that an item belongs to, as its portal names it."""

    id: str | None = None
    title: str | None = None
    #: who publishes it
    organisation: str | None = None


class CollectFacts(Value):
    """What a row of ``endpoint.csv`` says and what its fetch gave (digital-land's words)."""

    #: the ``endpoint`` key: sha256 of the URL, as given in the file or computed
    endpoint: str
    plugin: str | None = None
    #: the JSON object of the column ``parameters``
    parameters: dict[str, Any] | None = None
    #: digest of the text of the query that a sparql endpoint names, a list in the default store
    query: str | None = None
    #: ``YYYY-MM-DD``, as written in the file
    end_date: str | None = None
    #: OK, EXPIRED, HASH_FAILURE, ALREADY_FETCHED or FAILED, once known
    status: str | None = None
    #: the HTTP status of the answer, where one came
    http_status: int | None = None


class CkanFacts(Value):
    """The CKAN resource that a file is to be loaded into, and how far that is."""

    #: root of the CKAN
    url: str
    #: id of the resource
    resource: str
    #: load even what CKAN's hash says is loaded already
    ignore_hash: bool = False
    #: make the resource's ``url_type`` ``datapusher`` afterwards
    set_url_type: bool = False
    #: whether the file lies in CKAN and is to be had with the key only
    upload: bool = False
    #: the resource's hash in CKAN, where its table is there
    hash: str | None = None
    #: of the file, as CKAN wants it
    md5: str | None = None
    #: digest of the load plan (``push/column_types.py``), a list in the default store
    plan: str | None = None


class CatalogueFacts(Value):
    """What a catalogue says of a file, and what is to be remembered of it for the next time."""

    #: changes when the file may have
    fingerprint: str | None = None
    #: what the catalogue calls the file
    title: str | None = None
    #: one of several files that link-proxy found at the source's address: fetched where link-proxy keeps it
    part: bool = False
    #: where link-proxy keeps it
    download: str | None = None
    #: digest of all that link-proxy keeps of it
    downloads: str | None = None
    #: names of the further files at its address, one a line
    parts: str | None = None
    #: when it was modified, as the catalogue says
    dated: datetime | None = None
    #: of the answer that gave its bytes
    etag: str | None = None
    #: Last-Modified of that answer
    modified: str | None = None


class Wis2Facts(Value):
    """What an event says of a file, and how it was announced over WIS2."""

    #: id of the event that the file comes from
    event: str | None = None
    #: the file's checksum as the event has it: multihash, hex
    checksum: str | None = None
    #: its bytes, as the event has them
    size: int | None = None
    #: the ``data_id`` that the event gives the file
    named: str | None = None
    #: GeoJSON
    geometry: dict[str, Any] | None = None
    #: ``datetime``, or ``start_datetime`` and ``end_datetime``; None when unknown
    times: dict[str, str] | None = None
    topic: str | None = None
    data_id: str | None = None
    #: the message's id
    message: str | None = None
    #: canonical, update or deletion
    rel: str | None = None
    #: what the libraries' own suites said: ``passed``, or why they did not run
    suites: str | None = None


class EntrepotFacts(Value):
    """An archive on its way into a Géoplateforme entrepôt; ids are the entrepôt's."""

    #: digest of the integration (``archive/integration.py``), a list in the default store
    plan: str
    datastore: str
    upload: str | None = None
    execution: str | None = None
    stored_data: str | None = None


class Item(Value):
    """One file or record on its way through a flow."""

    v: Literal[1] = 1
    #: what has an address: ``endpoint:<hash>``, ``datagouv:<uuid>``, ``ckan:<host>/<uuid>``, ``file:<path or url>``
    source: str
    url: str | None = None
    #: root URL of the store that holds ``resource/<sha256>``
    store: str | None = None
    sha256: str | None = None
    #: bytes
    size: int | None = None
    media_type: str | None = None
    filename: str | None = None
    dataset: Dataset | None = None
    #: sha256 of the analysed resource's analysis document (``analysis/<sha256>/<version>.json``)
    analysis: str | None = None
    #: of what its job asked for; stages that follow are counted apart
    status: Status = Status.OK
    error: ItemError | None = None
    stopped: Stopped | None = None
    collect: CollectFacts | None = None
    catalogue: CatalogueFacts | None = None
    ckan: CkanFacts | None = None
    entrepot: EntrepotFacts | None = None
    wis2: Wis2Facts | None = None

    def failed(self, error: DatafabError, status: Status = Status.FAILED) -> Self:
        """Return the item with this error and status."""
        return self.evolve(status=status, error=ItemError.of(error))

    def effective(self) -> Self:
        """Return the item as the next stage and the index see it: with the status and error of what stopped it."""
        if self.stopped is None or self.status not in {Status.OK, Status.UNCHANGED}:
            return self
        return self.evolve(status=self.stopped.status, error=self.stopped.error)

    @property
    def listed_error(self) -> ItemError | None:
        """The error that is listed with the job's failures; None: there is none, or the content is of another kind."""
        if self.status is Status.FAILED:
            return self.error
        if self.stopped is not None and self.stopped.outcome is Status.FAILED:
            return self.stopped.error.evolve(stage=self.stopped.stage)
        return None


class Batch(Value):
    """A few items of one job, travelling together."""

    v: Literal[1] = 1
    job: str
    flow: str
    params: dict[str, Any] = {}
    #: which one of a fan-out's batches; None where the job has only this one
    number: int | None = None
    #: the items, or the sha256 of their list in the store
    items: tuple[Item, ...] | str = ()


class Counts(Value):
    """What a fan-out's branch returns to the join; sums over items. ``bytes`` counts stored resources."""

    v: Literal[1] = 1
    job: str
    number: int | None = None
    ok: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, batch: Batch, items: Iterable[Item]) -> Self:
        """Count a batch's items."""
        sums = dict.fromkeys(Status, 0)
        size = 0
        for item in items:
            sums[item.status] += 1
            size += item.size or 0
        return cls(job=batch.job, number=batch.number, bytes=size, **{status.value: n for status, n in sums.items()})

    def plus(self, other: Counts) -> Self:
        """Return the sums of both."""
        names = (*(status.value for status in Status), "bytes")
        return self.evolve(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def total(self) -> int:
        """All items."""
        return self.ok + self.unchanged + self.skipped + self.failed
