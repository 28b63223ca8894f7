"""Archive: bring the files of an integration into an upload of the entrepôt that is closed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

from datafab.archive.claims import Claims
from datafab.archive.entrepot import Datastore
from datafab.archive.integration import File, Integration, Outcome, delivered, refused_by_checks
from datafab.archive.mark import content_of, earlier_output
from datafab.archive.stage import CHECKS, QUOTED, archive_stage, next_look, planned
from datafab.archive.upload import Open, empty, fill, weighed
from datafab.archive.upload_content import Content, Part, foreign_lists
from datafab.core.item import Item
from datafab.core.stage import Context
from datafab.errors import Fatal
from datafab.fetch.session import Fetcher


def deliver(item: Item, ctx: Context) -> Item:
    """Send the files of an archive, and wait for their checks."""
    facts, integration, claims = planned(item, ctx)
    files = _Files(integration, ctx)
    known = claims.known_upload(str(ctx.memo["upload"])) if "upload" in ctx.memo else None
    upload = known or claims.upload(integration.name)
    if known is None:
        stored = _made_before(integration, upload, files, claims)
        if stored is not None:
            ctx.log.info("an earlier run has made this archive: nothing is sent", stored_data=stored)
            return item.evolve(entrepot=facts.evolve(upload=upload and str(upload["_id"]), stored_data=stored))
    if upload is None:
        # What cannot be fetched leaves no upload behind: the content comes first.
        upload = claims.create_upload(integration, files.content.digest)
    if ctx.memo.get("upload") != str(upload["_id"]):
        ctx.memo["upload"] = str(upload["_id"])
    _closed(upload, files, claims, ctx)
    return item.evolve(entrepot=facts.evolve(upload=str(upload["_id"])))


def _made_before(
    integration: Integration, upload: Mapping[str, Any] | None, files: _Files, claims: Claims
) -> str | None:
    """Return the id of the stored data, if an earlier run of this plan made them from the same files.

    Raises:
        Fatal: there are stored data of that name which this plan cannot make, and must not change.
    """
    stored = claims.output(integration.output.name)
    if stored is None:
        return None
    if stored.get("status") == "GENERATED" and content_of(stored) == files.content.digest:
        return str(stored["_id"])
    if upload is None or stored.get("status") == "GENERATED":
        raise earlier_output(stored)
    return None


def _closed(upload: Mapping[str, Any], files: _Files, claims: Claims, ctx: Context) -> None:
    """Bring our upload to CLOSED with all checks passed, one step further at each look.

    Raises:
        Wait: it is not there yet.
    """
    store, name, status = claims.store, str(upload["_id"]), str(upload.get("status"))
    what = f"{files.integration.name}: checks"
    if status in {"OPEN", "CREATED"} or (status == "UNSTABLE" and not ctx.memo.get("closed")):
        _without_lists_of_others(upload, store)
    if status == "UNSTABLE" and not ctx.memo.get("closed"):
        # By a job before this one: what was wrong may have been mended, and may be any of its files.
        ctx.memo["anew"] = True
        store.open_upload(name)
        status = "OPEN"
    if status in {"OPEN", "CREATED"}:
        _filled(upload, files, claims, ctx)
        # Noted before it is done, as the answer may be lost.
        ctx.memo["closed"] = True
        store.close_upload(name)
        raise next_look(ctx, "CHECKING", what, CHECKS)
    if status in {"CHECKING", "CLOSED"} and not ctx.memo.get("closed"):
        _recognised(upload, files, store)
        ctx.memo["closed"] = True
    checks = store.checks(name)
    match delivered(status, checks):
        case Outcome.DONE:
            return
        case Outcome.FAILED:
            lines = [line for each in checks["failed"] for line in store.check_log(str(each["_id"]))]
            names = [str(each.get("check", {}).get("name")) for each in checks["failed"]]
            raise refused_by_checks(names, lines[-QUOTED:])
        case Outcome.UNKNOWN:
            ctx.log.warning("an upload has a status that is not known", status=status)
    raise next_look(ctx, status, what, CHECKS)


def _filled(upload: Mapping[str, Any], files: _Files, claims: Claims, ctx: Context) -> None:
    """Fill our open upload with this content; what an earlier run has sent of it stays."""
    store, name, content = claims.store, str(upload["_id"]), files.content
    if ctx.memo.get("anew") or content_of(upload) != content.digest:
        empty(store, name)
        claims.tag_content(name, content.digest)
        ctx.memo["anew"] = False
    fill(store, name, content, files.sources, lambda done: ctx.progress(done, len(content.parts), "files"))


def _without_lists_of_others(upload: Mapping[str, Any], store: Datastore) -> None:
    """Raise if somebody else has put a list of md5 sums into our upload: the files may be theirs, too."""
    lists = foreign_lists(store.tree(str(upload["_id"])))
    if lists:
        raise _other_files(upload, f"holds the md5 list {lists[0]!r}, which datafab did not send")


def _recognised(upload: Mapping[str, Any], files: _Files, store: Datastore) -> None:
    """Raise unless our upload, which an earlier run has closed, holds what is to be delivered."""
    content = files.content
    if content_of(upload) != content.digest or not content.held(store.tree(str(upload["_id"]))):
        raise _other_files(upload, "holds other files")


def _other_files(upload: Mapping[str, Any], problem: str) -> Fatal:
    msg = (
        f"an upload called {upload.get('name')!r} is there already ({upload['_id']}, {upload.get('status')}) and "
        f"{problem}: delete it, or give this integration another name"
    )
    return Fatal(msg, code="entrepot_upload", field="name")


class _Files:
    """The files of an integration; they are fetched and weighed when they are asked for."""

    def __init__(self, integration: Integration, ctx: Context) -> None:
        self.integration = integration
        self._ctx = ctx

    @cached_property
    def sources(self) -> dict[Part, Open]:
        """How each file is opened."""
        return _sources(self.integration, self._ctx)

    @property
    def content(self) -> Content:
        """What is to be delivered."""
        return Content(tuple(self.sources))


def _sources(integration: Integration, ctx: Context) -> dict[Part, Open]:
    """Return how each file is opened; those at URLs are fetched."""
    for file in integration.files:
        if file not in integration.delivered:
            ctx.log.info("passed over: the entrepôt ignores such names", file=file.name)
    sources: dict[Part, Open] = {}
    for number, file in enumerate(integration.delivered):
        ctx.progress(number, len(integration.delivered), "files weighed")
        root, sha256 = _place(file, ctx)
        if ctx.services.store(root).size(sha256) is None:
            raise Fatal(f"{file.name}: no resource {sha256} in {root}", code="missing_resource", field="files")
        opened = partial(ctx.services.store(root).open, sha256)
        sources[weighed(file.name, opened)] = opened
    return sources


def _place(file: File, ctx: Context) -> tuple[str, str]:
    """Return the store and the digest of a file; what was fetched for this job is not fetched again."""
    if file.sha256:
        return str(file.store), file.sha256
    root, url, fetched = ctx.services.settings.store, str(file.url), dict(ctx.memo.get("fetched") or {})
    if url not in fetched:
        came = ctx.services.get(Fetcher).fetch(url, ctx.services.store(root), accept_html=False)
        if came.sha256 is None:
            raise came.error("files")
        fetched[url] = came.sha256
        ctx.memo["fetched"] = fetched
    return root, fetched[url]


STAGES = (archive_stage("deliver", deliver, deadline=3600.0, provides=frozenset({"entrepot"})),)
