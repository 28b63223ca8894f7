"""The mark on every entity that datafab creates in an entrepôt. Entities without it are left unchanged.

The mark is the tag ``datafab``, whose value identifies the integration. Tags need a separate request, so the
description of a new upload ends with the same value: it identifies an upload if the job died before that request.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datafab.archive.integration import Integration
from datafab.errors import Fatal

#: Names of the tags with the integration and the content for which an entity was created.
TAG, CONTENT_TAG = "datafab", "datafab_content"


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of one integration: equal for each run of the same plan, and different for other plans."""

    key: str

    @classmethod
    def of(cls, datastore: str, integration: Integration) -> Mark:
        """Return the mark of an integration.

        It depends on the members that decide which entities are created, and not on those that only describe them: with
        another description, edition or extent, or another content of a file, a plan is still the same.
        """
        files = sorted([file.name, file.url or ""] for file in integration.files)
        output = integration.output
        identity = [integration.name, integration.srs, integration.processing, output.name, sorted(output.storage_tags)]
        text = json.dumps([datastore, identity, files], ensure_ascii=False)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:20])

    def tags(self, content: str) -> dict[str, str]:
        """Return the tags of an entity with this content; empty content: it has none yet."""
        return {TAG: self.key} | ({CONTENT_TAG: content} if content else {})

    def signed(self, description: str) -> str:
        """Return a description with the mark, for a new upload."""
        return f"{description} [{TAG} {self.key}]"

    def on(self, entity: Mapping[str, Any]) -> bool:
        """Tell whether an entity has this mark."""
        return tags_of(entity).get(TAG) == self.key

    def signs(self, entity: Mapping[str, Any]) -> bool:
        """Tell whether an untagged entity was created with this mark in its description."""
        return TAG not in tags_of(entity) and str(entity.get("description")).endswith(self.signed(""))


def tags_of(entity: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tags of an entity."""
    tags = entity.get("tags")
    return tags if isinstance(tags, Mapping) else {}


def content_of(entity: Mapping[str, Any]) -> str:
    """Return the digest of the content for which an entity was created."""
    return str(tags_of(entity).get(CONTENT_TAG, ""))


def foreign_upload(upload: Mapping[str, Any], mark: Mark) -> Fatal:
    """Return the error for an upload that is not ours."""
    msg = f"an upload called {_stated(upload, mark, 'exists')}: delete it, or give this integration another name"
    return Fatal(msg, code="entrepot_upload", field="name")


def foreign_output(stored: Mapping[str, Any], mark: Mark) -> Fatal:
    """Return the error for stored data that are not ours."""
    msg = f"stored data called {_stated(stored, mark, 'exist')}: delete them, or give this output another name"
    return Fatal(msg, code="entrepot_output", field="output.name")


def earlier_output(stored: Mapping[str, Any]) -> Fatal:
    """Return the error for stored data of an earlier run, which are not overwritten."""
    msg = (
        f"stored data called {stored.get('name')!r} exist already ({stored.get('_id')}, {stored.get('status')}), "
        "created by an earlier run of this plan from other files: delete them, or give this output another name"
    )
    return Fatal(msg, code="entrepot_output", field="output.name")


def _stated(entity: Mapping[str, Any], mark: Mark, verb: str) -> str:
    """Return the name, id, type and status of an entity, and why it does not belong to this plan."""
    other = tags_of(entity).get(TAG)
    tag = f"its tag {TAG}={other} is the one of another plan" if other else f"it has no tag {TAG}={mark.key}"
    facts = ", ".join(str(entity[key]) for key in ("_id", "type", "status") if entity.get(key))
    name = entity.get("name")
    return f"{name!r} {verb} already ({facts}), not created by this plan ({tag}), and left unchanged"
