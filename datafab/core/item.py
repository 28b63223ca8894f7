"""The values that cross the queue: items, batches and counts. They hold references, never data or secrets."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from datafab.errors import DatafabError, FlowError, Unsuitable
from datafab.urls import hide_secrets, without_credentials

#: The size below which messages stay.
MAX_MESSAGE_BYTES = 8 * 1024
#: The size below which batches stay, as Celery adds base64 and headers; a longer item list goes to the store.
MAX_INLINE_BYTES = 4 * 1024


class Value(BaseModel):
    """A frozen value. Unknown keys are refused, so that what another version has written is never misread."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        return self.model_copy(update=changes)

    def dump(self) -> dict[str, Any]:
        """Return the JSON form, without unset fields."""
        return self.model_dump(mode="json", exclude_none=True)


V = TypeVar("V", bound=Value)


def read_value(model: type[V], value: Any) -> V:
    """Return a value from its JSON form, as it came over the queue or was kept by another process.

    Raises:
        FlowError: another version has written it: another ``v``, or an unknown key.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        msg = f"{where}: {first['msg']}: written by another version of datafab; have all hosts run the same, and retry"
        raise FlowError(msg, code="version", field=where) from error


class Status(StrEnum):
    """The state of an item."""

    OK = "ok"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    FAILED = "failed"


#: A text for people, in which the secrets of URLs are hidden.
ShownText = Annotated[str, AfterValidator(hide_secrets)]


class ItemError(Value):
    """The reason why an item failed or was skipped."""

    type: str
    message: ShownText
    field: ShownText | None = None
    #: the stage that refused the content of an item that has not failed
    stage: str | None = None

    @classmethod
    def of(cls, error: DatafabError) -> Self:
        """Return the value for an exception."""
        # The message may quote a file name that is not UTF-8.
        message = error.message.encode(errors="backslashreplace").decode()
        return cls(type=error.code, message=message, field=error.field)


class Stopped(Value):
    """The stage that stopped an item after the requested stages were done, and why."""

    stage: str
    #: the item's status for the stages after it, and in the index
    status: Status
    error: ItemError
    #: see ``errors.Unsuitable``
    another_kind: bool = False

    @classmethod
    def by(cls, stage: str, error: DatafabError) -> Self:
        """Return the value for what a stage raised."""
        status = Status.FAILED if isinstance(error, Unsuitable) else Status.SKIPPED
        other = isinstance(error, Unsuitable) and error.another_kind
        return cls(stage=stage, status=status, error=ItemError.of(error), another_kind=other)

    @property
    def outcome(self) -> Status:
        """The status as which the stage counts the item."""
        return Status.SKIPPED if self.another_kind else self.status


class Dataset(Value):
    """The dataset that an item belongs to, as its portal names it."""

    id: str | None = None
    title: str | None = None
    #: its publisher
    organisation: str | None = None


class CollectFacts(Value):
    """A row of ``endpoint.csv`` and the result of its fetch, in digital-land's words."""

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
    #: the HTTP status of the response, if there was one
    http_status: int | None = None


class CkanFacts(Value):
    """The CKAN resource into which a file is loaded, and the state of that."""

    #: root of the CKAN
    url: str
    #: id of the resource
    resource: str
    #: load the file even if CKAN's hash says that it is loaded already
    ignore_hash: bool = False
    #: set the resource's ``url_type`` to ``datapusher`` afterwards
    set_url_type: bool = False
    #: whether the file is uploaded to CKAN, and so needs the key
    upload: bool = False
    #: the resource's hash in CKAN, if its table exists
    hash: str | None = None
    #: of the file, for CKAN's ``hash``
    md5: str | None = None
    #: digest of the load plan (``push/column_types.py``), a list in the default store
    plan: str | None = None


class CatalogueFacts(Value):
    """A file's entry in a catalogue, and what is remembered for the next look."""

    #: changes whenever the file may have changed
    fingerprint: str | None = None
    #: the file's title in the catalogue
    title: str | None = None
    #: whether it is one of several files that link-proxy found at the source's address; link-proxy's copy is fetched
    part: bool = False
    #: the URL of link-proxy's copy
    download: str | None = None
    #: digest of all copies that link-proxy has of it
    downloads: str | None = None
    #: names of the further files at its address, one a line
    parts: str | None = None
    #: when it was modified, according to the catalogue
    dated: datetime | None = None
    #: of the response with its bytes
    etag: str | None = None
    #: Last-Modified of that response
    modified: str | None = None


class Wis2Facts(Value):
    """A file's entry in an event, and its announcement over WIS2."""

    #: id of the event that the file comes from
    event: str | None = None
    #: the file's checksum in the event: multihash, hex
    checksum: str | None = None
    #: its size in bytes, in the event
    size: int | None = None
    #: the ``data_id`` that the event gives the file
    named: str | None = None
    #: GeoJSON
    geometry: dict[str, Any] | None = None
    #: its box in the event
    bbox: list[Any] | None = None
    #: properties of the message that the event gives
    properties: dict[str, Any] | None = None
    #: access control of the file: OpenAPI security schemes
    security: dict[str, Any] | None = None
    #: ``datetime``, or ``start_datetime`` and ``end_datetime``; None when unknown
    times: dict[str, str] | None = None
    topic: str | None = None
    data_id: str | None = None
    #: the message's id
    message: str | None = None
    #: canonical, update or deletion
    rel: str | None = None
    #: the result of the libraries' own test suites: ``passed``, or why they did not run
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
    #: what it comes from: ``endpoint:<hash>``, ``datagouv:<uuid>``, ``ckan:<host>/<uuid>``, ``file:<path or url>``
    source: Annotated[str, AfterValidator(without_credentials)]
    url: str | None = None
    #: root URL of the store that holds ``resource/<sha256>``
    store: str | None = None
    sha256: str | None = None
    #: bytes
    size: int | None = None
    media_type: str | None = None
    filename: str | None = None
    #: name or number of the sheet that was chosen of a workbook; None: the largest visible one
    sheet: str | None = None
    dataset: Dataset | None = None
    #: sha256 of the analysed resource's analysis document (``analysis/<sha256>/<version>.json``)
    analysis: str | None = None
    #: the result of the stages that its job asked for; the stages after them are counted apart
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
        """Return the item for the next stage and the index: with the status and error of the stage that stopped it."""
        if self.stopped is None or self.status not in {Status.OK, Status.UNCHANGED}:
            return self
        return self.evolve(status=self.stopped.status, error=self.stopped.error)

    @property
    def listed_error(self) -> ItemError | None:
        """The error that the job's failures list; None: there is none, or the content is of another kind."""
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
    #: its number among a fan-out's batches; None: the job has no other
    number: int | None = None
    #: the items, or the sha256 of their list in the store
    items: tuple[Item, ...] | str = ()


class Counts(Value):
    """Sums over items, which a fan-out's branch returns to the join. ``bytes`` counts stored resources."""

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
        """The number of all items."""
        return self.ok + self.unchanged + self.skipped + self.failed
