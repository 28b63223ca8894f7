"""Finds what datafab made for an integration in an entrepôt, and refuses what it did not make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datafab.archive.entrepot import Datastore, Document
from datafab.archive.integration import Integration
from datafab.archive.mark import TAG, Mark, content_of, earlier_output, foreign_output, foreign_upload, tags_of
from datafab.archive.upload_content import filled

ARCHIVE = "ARCHIVE"


@dataclass(frozen=True, slots=True)
class Claims:
    """The things of one integration: its upload, its stored data, and the execution between them.

    An entity is ours when it bears the mark. One without any mark is ours only where it is certain that datafab created
    it and died before it could tag it.
    """

    store: Datastore
    mark: Mark

    def upload(self, name: str) -> Document | None:
        """Find our upload of this name.

        Raises:
            Fatal: there are only others of this name; none of them is changed.
        """
        others: list[Document] = []
        for listed in self.store.uploads(name):
            whole = self.store.upload(str(listed["_id"]))
            if whole is not None:
                if self._bears(whole) or self._signed(whole):
                    return whole
                others.append(whole)
        if others:
            raise foreign_upload(others[0], self.mark)
        return None

    def known_upload(self, upload: str) -> Document | None:
        """Return the upload that this job has noted; None: it is gone.

        Raises:
            Fatal: it does not bear the mark.
        """
        whole = self.store.upload(upload)
        if whole is None or self._bears(whole) or self._signed(whole):
            return whole
        if self._filled(whole):
            return self._tagged("uploads", whole)
        raise foreign_upload(whole, self.mark)

    def create_upload(self, integration: Integration, content: str) -> Document:
        """Create our upload for this content, and tag it."""
        made = self.store.create_upload(
            integration.name, self.mark.signed(integration.description), integration.srs, ARCHIVE
        )
        whole = made if "status" in made else self.store.upload(str(made["_id"])) or made
        return self._tagged("uploads", whole, content)

    def tag_content(self, upload: str, content: str) -> None:
        """Tag our upload, with the content that it is filled with from here on."""
        self.store.tag("uploads", upload, self.mark.tags(content))

    def output(self, name: str) -> Document | None:
        """Find our stored data of this name.

        Raises:
            Fatal: there are others of this name.
        """
        return next(iter(self._outputs(name, None)), None)

    def execution(self, integration: Integration, upload: Mapping[str, Any], *, asked: bool) -> Document | None:
        """Find the execution that makes this integration's output of our upload.

        Args:
            integration: whose output it makes.
            upload: ours.
            asked: whether this job has already sent a request to create it, whose answer it may have lost.

        Raises:
            Fatal: there are stored data of the output's name that are not ours, or were made of another upload.
        """
        wanted = (integration.processing, str(upload["_id"])) if asked else None
        outputs = self._outputs(integration.output.name, wanted)
        for stored in outputs:
            for execution in self.store.executions_of(str(stored["_id"])):
                if _uploads_of(execution) == [str(upload["_id"])]:
                    self._tagged("stored_data", stored, content_of(upload))
                    return execution
        if outputs:
            raise earlier_output(outputs[0])
        return None

    def tagged_output(self, stored: Document, content: str) -> Document:
        """Tag the stored data of an execution that this job has created.

        Raises:
            Fatal: they bear another plan's mark.
        """
        if self.mark.on(stored):
            return stored
        if TAG in tags_of(stored):
            raise foreign_output(stored, self.mark)
        return self._tagged("stored_data", stored, content)

    def _outputs(self, name: str, wanted: tuple[str, str] | None) -> list[Document]:
        """Return our stored data of this name, with those that a lost answer may have created."""
        found = [self.store.stored_data(str(each["_id"])) for each in self.store.stored_data_named(name)]
        whole = [each for each in found if each is not None]
        ours = [each for each in whole if self.mark.on(each) or (wanted and self._just_made(each, *wanted))]
        if whole and not ours:
            raise foreign_output(whole[0], self.mark)
        return ours

    def _just_made(self, stored: Mapping[str, Any], processing: str, upload: str) -> bool:
        """Say whether stored data are those of one new execution of our upload, and nobody has touched them yet."""
        if tags_of(stored) or stored.get("status") != "CREATED":
            return False
        executions = self.store.executions_of(str(stored["_id"]))
        return [
            (each.get("status"), each.get("processing", {}).get("_id"), _uploads_of(each)) for each in executions
        ] == [("CREATED", processing, [upload])]

    def _bears(self, upload: Mapping[str, Any]) -> bool:
        return upload.get("type") == ARCHIVE and self.mark.on(upload)

    def _signed(self, upload: Mapping[str, Any]) -> bool:
        """Say whether an upload was created with our mark and nothing has happened to it since: files come later."""
        untouched = upload.get("type") == ARCHIVE and upload.get("status") in {"CREATED", "OPEN"}
        return untouched and self.mark.signs(upload) and not self.store.tree(str(upload["_id"]))

    def _filled(self, upload: Mapping[str, Any]) -> bool:
        """Say whether an upload was filled by a version of datafab that did not tag yet."""
        untagged = upload.get("type") == ARCHIVE and TAG not in tags_of(upload)
        return untagged and filled(self.store.tree(str(upload["_id"])))

    def _tagged(self, kind: Any, entity: Document, content: str = "") -> Document:
        """Tag an entity unless it is tagged; return it with its tags."""
        if self.mark.on(entity):
            return entity
        tags = self.mark.tags(content)
        self.store.tag(kind, str(entity["_id"]), tags)
        return {**entity, "tags": {**tags_of(entity), **tags}}


def _uploads_of(execution: Mapping[str, Any]) -> list[str]:
    return [str(each.get("_id")) for each in execution.get("inputs", {}).get("upload") or ()]
