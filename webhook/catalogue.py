"""udata's notifications of resources, below ``/hydra``: set its ``RESOURCES_ANALYSER_URI`` to ``http://<here>/hydra``.

A resource that was added or changed is checked at once, whatever a pass has enqueued; one that was deleted is withdrawn
from the index. Requests need the key of ``DATAFAB_CATALOGUE_PUSH_KEY``; if that is not set, all are refused.

Source of the routes and bodies: datagouv/hydra, ``udata_hydra/routes/resources.py`` and ``schemas/resource.py``; what
sends them: opendatateam/udata, ``udata/core/dataset/events.py``. Of an answer udata reads only the status.
"""

from __future__ import annotations

import hashlib
import hmac
from http import HTTPStatus
from typing import Annotated, Any

from flask import Blueprint, request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from werkzeug.exceptions import Unauthorized

from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.dataset import MAX_TITLE_CHARS, Resource, fingerprint, is_fetchable, matching_pattern
from datafab.catalogue.sources import SourceRegistry
from datafab.errors import FlowError
from webhook.body import body
from webhook.site import backend

routes = Blueprint("hydra", __name__, url_prefix="/hydra/api")

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class _Input(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Described(_Input):
    """A resource as udata describes it in a notification; unusual values are read as those of its API are."""

    url: str = Field(min_length=1, max_length=2000)
    title: Any = None
    format: Any = None
    mime: Any = None
    filesize: Any = None
    checksum_type: Any = None
    checksum_value: Any = None
    last_modified: Any = None
    harvest: Any = None


class PushedResource(_Input):
    """The body of a notification."""

    resource_id: Id
    dataset_id: Id
    document: Described

    def raw(self) -> dict[str, Any]:
        """Return the resource in the form of udata's API."""
        fields = self.document.model_dump()
        checksum = {"type": fields.pop("checksum_type"), "value": fields.pop("checksum_value")}
        return fields | {"id": self.resource_id, "checksum": checksum}


@routes.before_request
def check_key() -> None:
    """Refuse requests without the key."""
    key = backend().services.settings.catalogue_push_key
    sent = request.headers.get("Authorization", "").encode("latin-1", "replace")
    if key is None or not hmac.compare_digest(sent, f"Bearer {key}".encode()):
        raise Unauthorized("send the header Authorization: Bearer <key>, with the key of DATAFAB_CATALOGUE_PUSH_KEY")


@routes.post("/resources", strict_slashes=False)
def create() -> tuple[dict[str, str], HTTPStatus]:
    """Check a new resource."""
    return {"message": "created", "job": _enqueue_check(body(PushedResource))}, HTTPStatus.CREATED


@routes.put("/resources/<resource>", strict_slashes=False)
def update(resource: str) -> dict[str, str]:
    """Check a resource that has changed."""
    pushed = body(PushedResource)
    if pushed.resource_id != resource:
        msg = f"resource_id: it is {resource!r} in the URL, but {pushed.resource_id!r} in the body"
        raise FlowError(msg, code="bad_request", field="resource_id")
    return {"message": "updated", "job": _enqueue_check(pushed)}


@routes.delete("/resources/<resource>", strict_slashes=False)
def delete(resource: str) -> tuple[dict[str, str], HTTPStatus]:
    """Withdraw a deleted resource from the index."""
    job, _ = backend().start("withdraw", {"source": f"datagouv:{resource}"})
    return {"message": "deleted", "job": job.id}, HTTPStatus.OK


def _enqueue_check(pushed: PushedResource) -> str:
    """Enqueue a check of a resource, unless one is running already, and return the job's id."""
    raw, services = pushed.raw(), backend().services
    resource = Resource.parse({"id": pushed.dataset_id}, raw)
    url = resource.url or ""
    if not is_fetchable(url) or matching_pattern(url, services.settings.catalogue_exclude):
        msg = f"document.url: {url!r} is not fetched: it is not http or https, or DATAFAB_CATALOGUE_EXCLUDE has it"
        raise FlowError(msg, code="not_fetched", field="document.url")
    seen, source = fingerprint(raw), f"datagouv:{resource.id}"
    params: dict[str, Any] = {"source": source, "url": url, "fingerprint": seen, "dataset": resource.dataset.dump()}
    params |= {"force": True} | ({"format": resource.format[:20]} if resource.format else {})
    params |= {"title": resource.title[:MAX_TITLE_CHARS]} if resource.title else {}
    params |= {"dated": resource.last_modified.isoformat()} if resource.last_modified else {}
    # Recorded as seen, so that a full pass notices when it has vanished, even if no notification says so.
    services.get(SourceRegistry).mark_seen(services.get(Datagouv).url, [source], services.clock.now())
    key = f"push:{resource.id}:{hashlib.sha256(url.encode()).hexdigest()[:16]}:{seen}"
    job, new = backend().start("source", params, key)
    if not new and backend().jobs.get(job.id).final:
        # A repeated notification is checked again; only a check that is still running is not doubled.
        backend().jobs.release_key(job.id, key)
        job, _ = backend().start("source", params, key)
    return job.id
