"""Ownership of entities in an entrepôt: find those that datafab created for an integration, refuse all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datafab.archive.entrepot import Datastore, Document
from datafab.archive.integration import Integration
from datafab.archive.mark import TAG, Mark, content_of, earlier_output, foreign_output, foreign_upload, tags_of
from datafab.archive.upload_content import was_filled

ARCHIVE = "ARCHIVE"


@dataclass(frozen=True, slots=True)
class Claims:
    """The entities that one integration owns: its upload, its stored data, and the execution between them.

    An entity is ours if it has the integration's mark. One without any mark is only ours if datafab certainly created
    it, and died before it could tag it.
    """

    store: Datastore
    mark: Mark

    def upload(self, name: str) -> Document | None:
        """Find our upload of this name.

        Raises:
            Fatal: all uploads of this name belong to others; they are left unchanged.
        """
        others: list[Document] = []
        for listed in self.store.uploads(name):
            whole = self.store.upload(str(listed["_id"]))
            if whole is not None:
                if self._is_marked(whole) or self._is_signed(whole):
                    return whole
                others.append(whole)
        if others:
            raise foreign_upload(others[0], self.mark)
        return None

    def known_upload(self, upload: str) -> Document | None:
        """Return the upload that this job has recorded; None if it was deleted.

        Raises:
            Fatal: it does not have the mark.
        """
        whole = self.store.upload(upload)
        if whole is None or self._is_marked(whole) or self._is_signed(whole):
            return whole
        if self._was_filled_untagged(whole):
            return self._tag("uploads", whole)
        raise foreign_upload(whole, self.mark)

    def create_upload(self, integration: Integration, content: str) -> Document:
        """Create our upload for this content, and tag it."""
        made = self.store.create_upload(
            integration.name, self.mark.signed(integration.description), integration.srs, ARCHIVE
        )
        whole = made if "status" in made else self.store.upload(str(made["_id"])) or made
        return self._tag("uploads", whole, content)

    def tag_content(self, upload: str, content: str) -> None:
        """Tag our upload with the content that it will be filled with."""
        self.store.tag("uploads", upload, self.mark.tags(content))

    def output(self, name: str) -> Document | None:
        """Find our stored data of this name.

        Raises:
            Fatal: the stored data of this name belong to others.
        """
        return next(iter(self._outputs(name, None)), None)

    def execution(self, integration: Integration, upload: Mapping[str, Any], *, requested: bool) -> Document | None:
        """Find the execution that creates the integration's output from our upload.

        Args:
            integration: the integration.
            upload: our upload.
            requested: whether this job has already sent a request to create it, the answer to which may be lost.

        Raises:
            Fatal: stored data of the output's name are not ours, or were created from another upload.
        """
        wanted = (integration.processing, str(upload["_id"])) if requested else None
        outputs = self._outputs(integration.output.name, wanted)
        for stored in outputs:
            for execution in self.store.executions_of(str(stored["_id"])):
                if _uploads_of(execution) == [str(upload["_id"])]:
                    self._tag("stored_data", stored, content_of(upload))
                    return execution
        if outputs:
            raise earlier_output(outputs[0])
        return None

    def tagged_output(self, stored: Document, content: str) -> Document:
        """Tag the stored data of an execution that this job has created.

        Raises:
            Fatal: they have the mark of another plan.
        """
        if self.mark.on(stored):
            return stored
        if TAG in tags_of(stored):
            raise foreign_output(stored, self.mark)
        return self._tag("stored_data", stored, content)

    def _outputs(self, name: str, wanted: tuple[str, str] | None) -> list[Document]:
        """Return our stored data of this name, including those that a request with a lost answer may have created."""
        found = [self.store.stored_data(str(each["_id"])) for each in self.store.stored_data_named(name)]
        whole = [each for each in found if each is not None]
        ours = [each for each in whole if self.mark.on(each) or (wanted and self._just_made(each, *wanted))]
        if whole and not ours:
            raise foreign_output(whole[0], self.mark)
        return ours

    def _just_made(self, stored: Mapping[str, Any], processing: str, upload: str) -> bool:
        """Tell whether stored data are the unchanged output of one new execution of our upload."""
        if tags_of(stored) or stored.get("status") != "CREATED":
            return False
        executions = self.store.executions_of(str(stored["_id"]))
        return [
            (each.get("status"), each.get("processing", {}).get("_id"), _uploads_of(each)) for each in executions
        ] == [("CREATED", processing, [upload])]

    def _is_marked(self, upload: Mapping[str, Any]) -> bool:
        return upload.get("type") == ARCHIVE and self.mark.on(upload)

    def _is_signed(self, upload: Mapping[str, Any]) -> bool:
        """Tell whether an upload was created with our mark in its description, and is still empty and unchanged."""
        untouched = upload.get("type") == ARCHIVE and upload.get("status") in {"CREATED", "OPEN"}
        return untouched and self.mark.signs(upload) and not self.store.tree(str(upload["_id"]))

    def _was_filled_untagged(self, upload: Mapping[str, Any]) -> bool:
        """Tell whether an upload was filled by a version of datafab that did not tag uploads yet."""
        untagged = upload.get("type") == ARCHIVE and TAG not in tags_of(upload)
        return untagged and was_filled(self.store.tree(str(upload["_id"])))

    def _tag(self, kind: Any, entity: Document, content: str = "") -> Document:
        """Tag an entity unless it has our mark; return it with its tags."""
        if self.mark.on(entity):
            return entity
        tags = self.mark.tags(content)
        self.store.tag(kind, str(entity["_id"]), tags)
        return {**entity, "tags": {**tags_of(entity), **tags}}


def _uploads_of(execution: Mapping[str, Any]) -> list[str]:
    return [str(each.get("_id")) for each in execution.get("inputs", {}).get("upload") or ()]
