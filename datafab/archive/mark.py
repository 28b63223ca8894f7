"""The mark on everything that datafab makes in an entrepôt: what does not bear it is left as it is.

The mark is the tag ``datafab``, whose value says for which integration a thing was made. Tags need a call of their own,
so the description of a new upload ends with the same value: an upload whose maker died before that call is recognised
by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datafab.archive.integration import Integration
from datafab.errors import Fatal

#: Names of tags: for which integration, and which content, a thing was made.
TAG, CONTENT_TAG = "datafab", "datafab_content"


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of one integration: equal for each run of the same plan, different for another plan."""

    key: str

    @classmethod
    def of(cls, datastore: str, integration: Integration) -> Mark:
        """Return an integration's mark.

        What decides which things are made counts, and what only describes them does not: after a correction of its
        description, edition or extent, or of the content of a file, a plan is still the same.
        """
        files = sorted([file.name, file.url or ""] for file in integration.files)
        output = integration.output
        made = [integration.name, integration.srs, integration.processing, output.name, sorted(output.storage_tags)]
        text = json.dumps([datastore, made, files], ensure_ascii=False)
        return cls(hashlib.sha256(text.encode()).hexdigest()[:20])

    def tags(self, content: str) -> dict[str, str]:
        """Return the tags of a thing with this content; empty: it has none yet."""
        return {TAG: self.key} | ({CONTENT_TAG: content} if content else {})

    def signed(self, description: str) -> str:
        """Return the description of a new upload."""
        return f"{description} [{TAG} {self.key}]"

    def on(self, entity: Mapping[str, Any]) -> bool:
        """Say whether an entity bears this mark."""
        return tags_of(entity).get(TAG) == self.key

    def signs(self, entity: Mapping[str, Any]) -> bool:
        """Say whether an entity without any mark was created with this one in its description."""
        return TAG not in tags_of(entity) and str(entity.get("description")).endswith(self.signed(""))


def tags_of(entity: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an entity's tags."""
    tags = entity.get("tags")
    return tags if isinstance(tags, Mapping) else {}


def content_of(entity: Mapping[str, Any]) -> str:
    """Return the content that an entity was made for."""
    return str(tags_of(entity).get(CONTENT_TAG, ""))


def foreign_upload(upload: Mapping[str, Any], mark: Mark) -> Fatal:
    """Return the refusal of an upload that is not ours."""
    msg = f"an upload called {_stated(upload, mark, 'is')}: delete it, or give this integration another name"
    return Fatal(msg, code="entrepot_upload", field="name")


def foreign_output(stored: Mapping[str, Any], mark: Mark) -> Fatal:
    """Return the refusal of stored data that are not ours."""
    msg = f"stored data called {_stated(stored, mark, 'are')}: delete them, or give this output another name"
    return Fatal(msg, code="entrepot_output", field="output.name")


def earlier_output(stored: Mapping[str, Any]) -> Fatal:
    """Return the refusal to write over stored data of an earlier run."""
    msg = (
        f"stored data called {stored.get('name')!r} are there already ({stored.get('_id')}, {stored.get('status')}), "
        "made by an earlier run of this plan from other files: delete them, or give this output another name"
    )
    return Fatal(msg, code="entrepot_output", field="output.name")


def _stated(entity: Mapping[str, Any], mark: Mark, verb: str) -> str:
    """Return an entity's name, id, type and status, and what is known of its maker."""
    bears = tags_of(entity).get(TAG)
    tag = f"the tag {TAG}={bears} is that of another plan" if bears else f"there is no tag {TAG}={mark.key}"
    facts = ", ".join(str(entity[key]) for key in ("_id", "type", "status") if entity.get(key))
    name = entity.get("name")
    return f"{name!r} {verb} there already ({facts}), not made by this plan ({tag}), and left unchanged"
