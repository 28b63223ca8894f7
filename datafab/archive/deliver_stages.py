"""The stage ``deliver``, which brings the files of an integration into a closed and checked upload."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

from datafab.archive.claims import Claims
from datafab.archive.entrepot import Datastore
from datafab.archive.integration import File, Integration, Outcome, refused_by_checks, upload_outcome
from datafab.archive.mark import content_of, earlier_output
from datafab.archive.stage import MAX_CHECK_DELAY_SECONDS, QUOTED_LINES, archive_stage, load_plan, next_poll
from datafab.archive.upload import Open, empty, fill, measure
from datafab.archive.upload_content import Content, Part, foreign_lists
from datafab.core.item import Item
from datafab.core.stage import Context
from datafab.errors import Fatal
from datafab.fetch.session import Fetcher


def deliver(item: Item, ctx: Context) -> Item:
    """Send the files of an archive, and wait for the checks of the entrepôt."""
    facts, integration, claims = load_plan(item, ctx)
    files = _Files(integration, ctx)
    known = claims.known_upload(str(ctx.memo["upload"])) if "upload" in ctx.memo else None
    upload = known or claims.upload(integration.name)
    if known is None:
        stored = _existing_output(integration, upload, files, claims)
        if stored is not None:
            ctx.log.info("an earlier run has created this archive: nothing is sent", stored_data=stored)
            return item.evolve(entrepot=facts.evolve(upload=upload and str(upload["_id"]), stored_data=stored))
    if upload is None:
        # The content comes first: if a file cannot be fetched, no upload is created.
        upload = claims.create_upload(integration, files.content.digest)
    if ctx.memo.get("upload") != str(upload["_id"]):
        ctx.memo["upload"] = str(upload["_id"])
    _close_upload(upload, files, claims, ctx)
    return item.evolve(entrepot=facts.evolve(upload=str(upload["_id"])))


def _existing_output(
    integration: Integration, upload: Mapping[str, Any] | None, files: _Files, claims: Claims
) -> str | None:
    """Return the id of the stored data, if an earlier run of this plan created them from the same files.

    Raises:
        Fatal: there are stored data of that name that this plan must not change.
    """
    stored = claims.output(integration.output.name)
    if stored is None:
        return None
    if stored.get("status") == "GENERATED" and content_of(stored) == files.content.digest:
        return str(stored["_id"])
    if upload is None or stored.get("status") == "GENERATED":
        raise earlier_output(stored)
    return None


def _close_upload(upload: Mapping[str, Any], files: _Files, claims: Claims, ctx: Context) -> None:
    """Bring our upload to CLOSED with all checks passed, one step at each poll.

    Raises:
        Wait: it has not reached that state yet.
    """
    store, name, status = claims.store, str(upload["_id"]), str(upload.get("status"))
    what = f"{files.integration.name}: checks"
    if status in {"OPEN", "CREATED"} or (status == "UNSTABLE" and not ctx.memo.get("closed")):
        _refuse_foreign_lists(upload, store)
    if status == "UNSTABLE" and not ctx.memo.get("closed"):
        # Closed by an earlier job: any of its files may have been wrong, and may have been corrected.
        ctx.memo["anew"] = True
        store.open_upload(name)
        status = "OPEN"
    if status in {"OPEN", "CREATED"}:
        _fill_upload(upload, files, claims, ctx)
        # Recorded before the request, as its answer may be lost.
        ctx.memo["closed"] = True
        store.close_upload(name)
        raise next_poll(ctx, "CHECKING", what, MAX_CHECK_DELAY_SECONDS)
    if status in {"CHECKING", "CLOSED"} and not ctx.memo.get("closed"):
        _check_closed_content(upload, files, store)
        ctx.memo["closed"] = True
    checks = store.checks(name)
    match upload_outcome(status, checks):
        case Outcome.DONE:
            return
        case Outcome.FAILED:
            lines = [line for each in checks["failed"] for line in store.check_log(str(each["_id"]))]
            names = [str(each.get("check", {}).get("name")) for each in checks["failed"]]
            raise refused_by_checks(names, lines[-QUOTED_LINES:])
        case Outcome.UNKNOWN:
            ctx.log.warning("the upload has an unknown status", status=status)
    raise next_poll(ctx, status, what, MAX_CHECK_DELAY_SECONDS)


def _fill_upload(upload: Mapping[str, Any], files: _Files, claims: Claims, ctx: Context) -> None:
    """Fill our open upload with this content; files of it that an earlier run has sent stay."""
    store, name, content = claims.store, str(upload["_id"]), files.content
    if ctx.memo.get("anew") or content_of(upload) != content.digest:
        empty(store, name)
        claims.tag_content(name, content.digest)
        ctx.memo["anew"] = False
    fill(store, name, content, files.sources, lambda done: ctx.progress(done, len(content.parts), "files"))


def _refuse_foreign_lists(upload: Mapping[str, Any], store: Datastore) -> None:
    """Raise if our upload has a list of md5 sums of somebody else, to whom the files may belong as well."""
    lists = foreign_lists(store.tree(str(upload["_id"])))
    if lists:
        raise _other_files(upload, f"holds the md5 list {lists[0]!r}, which datafab did not send")


def _check_closed_content(upload: Mapping[str, Any], files: _Files, store: Datastore) -> None:
    """Raise unless our upload, which an earlier run has closed, has the content to deliver."""
    content = files.content
    if content_of(upload) != content.digest or not content.held(store.tree(str(upload["_id"]))):
        raise _other_files(upload, "holds other files")


def _other_files(upload: Mapping[str, Any], problem: str) -> Fatal:
    msg = (
        f"an upload called {upload.get('name')!r} exists already ({upload['_id']}, {upload.get('status')}) and "
        f"{problem}: delete it, or give this integration another name"
    )
    return Fatal(msg, code="entrepot_upload", field="name")


class _Files:
    """The files of an integration, which are fetched and measured at the first access."""

    def __init__(self, integration: Integration, ctx: Context) -> None:
        self.integration = integration
        self._ctx = ctx

    @cached_property
    def sources(self) -> dict[Part, Open]:
        """A function that opens each file."""
        return _sources(self.integration, self._ctx)

    @property
    def content(self) -> Content:
        """The content to deliver."""
        return Content(tuple(self.sources))


def _sources(integration: Integration, ctx: Context) -> dict[Part, Open]:
    """Return a function that opens each file; fetch the files at URLs."""
    for file in integration.files:
        if file not in integration.delivered_files:
            ctx.log.info("not delivered: the entrepôt ignores such names", file=file.name)
    sources: dict[Part, Open] = {}
    for number, file in enumerate(integration.delivered_files):
        ctx.progress(number, len(integration.delivered_files), "files measured")
        root, sha256 = _locate(file, ctx)
        if ctx.services.store(root).size(sha256) is None:
            raise Fatal(f"{file.name}: no resource {sha256} in {root}", code="missing_resource", field="files")
        opened = partial(ctx.services.store(root).open, sha256)
        sources[measure(file.name, opened)] = opened
    return sources


def _locate(file: File, ctx: Context) -> tuple[str, str]:
    """Return the store and the digest of a file; fetch it unless this job has fetched it already."""
    if file.sha256:
        return str(file.store), file.sha256
    root, url, fetched = ctx.services.settings.store, str(file.url), dict(ctx.memo.get("fetched") or {})
    if url not in fetched:
        result = ctx.services.get(Fetcher).fetch(url, ctx.services.store(root), accept_html=False)
        if result.sha256 is None:
            raise result.error("files")
        fetched[url] = result.sha256
        ctx.memo["fetched"] = fetched
    return root, fetched[url]


STAGES = (archive_stage("deliver", deliver, deadline=3600.0, provides=frozenset({"entrepot"})),)
