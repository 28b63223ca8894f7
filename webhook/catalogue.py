"""What udata tells of its resources below ``/hydra``: set its ``RESOURCES_ANALYSER_URI`` to ``http://<here>/hydra``.

A resource that was added or changed is looked at at once, whatever a pass has enqueued; one that was deleted is
withdrawn. Whoever tells shows the key of ``DATAFAB_CATALOGUE_PUSH_KEY``; without that setting nobody may.

Source of the routes and bodies: datagouv/hydra, ``udata_hydra/routes/resources.py`` and ``schemas/resource.py``; what
sends them: opendatateam/udata, ``udata/core/dataset/events.py``. Answers name the job; udata reads their status only.
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
from webhook.site import site

routes = Blueprint("hydra", __name__, url_prefix="/hydra/api")

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class _Input(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Described(_Input):
    """A resource as udata describes it when it pushes; odd values are read as those of its API are."""

    url: str = Field(min_length=1, max_length=2000)
    title: Any = None
    format: Any = None
    mime: Any = None
    filesize: Any = None
    checksum_type: Any = None
    checksum_value: Any = None
    last_modified: Any = None
    harvest: Any = None


class Pushed(_Input):
    """The body of a push."""

    resource_id: Id
    dataset_id: Id
    document: Described

    def raw(self) -> dict[str, Any]:
        """Return the resource as the API has it."""
        told = self.document.model_dump()
        checksum = {"type": told.pop("checksum_type"), "value": told.pop("checksum_value")}
        return told | {"id": self.resource_id, "checksum": checksum}


@routes.before_request
def authenticated() -> None:
    """Refuse whoever does not show the key."""
    key = site().services.settings.catalogue_push_key
    sent = request.headers.get("Authorization", "").encode("latin-1", "replace")
    if key is None or not hmac.compare_digest(sent, f"Bearer {key}".encode()):
        raise Unauthorized("Authorization: Bearer, followed by the key of DATAFAB_CATALOGUE_PUSH_KEY, is needed")


@routes.post("/resources", strict_slashes=False)
def created() -> tuple[dict[str, str], HTTPStatus]:
    """Look at a new resource."""
    return {"message": "created", "job": _look(body(Pushed))}, HTTPStatus.CREATED


@routes.put("/resources/<resource>", strict_slashes=False)
def changed(resource: str) -> dict[str, str]:
    """Look at a resource that has changed."""
    told = body(Pushed)
    if told.resource_id != resource:
        msg = f"resource_id: the address says {resource!r}, the body {told.resource_id!r}"
        raise FlowError(msg, code="bad_request", field="resource_id")
    return {"message": "updated", "job": _look(told)}


@routes.delete("/resources/<resource>", strict_slashes=False)
def deleted(resource: str) -> tuple[dict[str, str], HTTPStatus]:
    """Withdraw a resource."""
    job, _ = site().start("withdraw", {"source": f"datagouv:{resource}"})
    return {"message": "deleted", "job": job.id}, HTTPStatus.OK


def _look(told: Pushed) -> str:
    """Enqueue a look at a resource, unless one is on its way; return the job's id."""
    raw, services = told.raw(), site().services
    resource = Resource.parse({"id": told.dataset_id}, raw)
    url = resource.url or ""
    if not is_fetchable(url) or matching_pattern(url, services.settings.catalogue_exclude):
        msg = f"document.url: {url!r} is not fetched: it is not http or https, or excluded"
        raise FlowError(msg, code="not_fetched", field="document.url")
    seen, source = fingerprint(raw), f"datagouv:{resource.id}"
    params: dict[str, Any] = {"source": source, "url": url, "fingerprint": seen, "dataset": resource.dataset.dump()}
    params |= {"force": True} | ({"format": resource.format[:20]} if resource.format else {})
    params |= {"title": resource.title[:MAX_TITLE_CHARS]} if resource.title else {}
    params |= {"dated": resource.last_modified.isoformat()} if resource.last_modified else {}
    # So that a full pass sees that it has vanished, should nobody push that.
    services.get(SourceRegistry).mark_seen(services.get(Datagouv).url, [source], services.clock.now())
    key = f"push:{resource.id}:{hashlib.sha256(url.encode()).hexdigest()[:16]}:{seen}"
    job, new = site().start("source", params, key)
    if not new and site().jobs.get(job.id).final:
        # Whoever tells twice has a reason: only what is still on its way is not doubled.
        site().jobs.release_key(job.id, key)
        job, _ = site().start("source", params, key)
    return job.id
