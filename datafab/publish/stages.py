"""The stages of the flow ``publish``: fetch each file of an event, compare it with the event, announce it over WIS2.

Parameters of a job:

| name | holds |
| --- | --- |
| ``event`` | the event (CloudEvents 1.0 with a STAC item), or ``list:<sha256>`` if it is in the default store |
| ``topic`` | WIS2 topic to announce on; default: DATAFAB_WIS2_TOPIC |
| ``metadata_id`` | WCMP2 record of the files; default: DATAFAB_WIS2_METADATA_ID |
| ``inline`` | inline files of at most 4096 bytes into their messages; default: false |

On the ``metadata`` topic of a centre only its WCMP2 records are announced, and each time that they are published.

``publish`` alone announces any item with a URL and bytes in a store, such as one that ``collect`` has fetched.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from hmac import compare_digest
from typing import Any

from datafab.core import strict_json as strictjson
from datafab.core.backoff import RetryPolicy
from datafab.core.item import Item, Status, Wis2Facts
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal, FlowError, Lost, Retriable, Skippable
from datafab.fetch.filename import filename, media_type
from datafab.fetch.result import FetchResult
from datafab.fetch.session import Fetcher
from datafab.publish import notification as wnm
from datafab.publish.cloudevent import with_data
from datafab.publish.data_id import address_digest, data_id, former
from datafab.publish.event import HASHLIB, Checksum, assets, envelope, geometry, multihash, times
from datafab.publish.finding import Finding, errors
from datafab.publish.location import box_geometry, message_geometry
from datafab.publish.notification import MessageIdentity, Subject
from datafab.publish.notification_advice import advise
from datafab.publish.notification_rules import check
from datafab.publish.publications import Claim, Publications
from datafab.publish.record import MAX_RECORD_BYTES, judge_file
from datafab.publish.topic import check_topic, is_metadata
from datafab.publish.wis2_suite import Wis2Suite
from datafab.urls import without_credentials


def event(ctx: Context) -> Iterator[Item]:
    """Yield each file that an event announces."""
    document = with_data(_document(ctx))
    head = envelope(document)
    if "delet" in str(document.get("type")).lower():
        msg = f"the event {head.id} is of type {document['type']!r}: announcing deletions is not supported yet"
        raise FlowError(msg, code="not_supported", field="type")
    bbox = document["data"].get("bbox")
    facts = Wis2Facts(
        event=head.id,
        geometry=geometry(document),
        bbox=bbox if isinstance(bbox, list) else None,
        times=times(document) or None,
    )
    for asset in assets(document):
        yield Item(
            source=f"file:{asset.href}",
            url=asset.href,
            store=ctx.services.settings.store,
            media_type=asset.media_type,
            wis2=facts.evolve(
                checksum=asset.checksum,
                size=asset.size,
                named=asset.data_id,
                properties=asset.properties or None,
                security=asset.security,
            ),
        )


def _document(ctx: Context) -> Any:
    """Return the event, from the parameters or from the store."""
    given = ctx.params["event"]
    if not isinstance(given, str):
        return given
    name = given.removeprefix("list:").partition("#")[0]
    try:
        return strictjson.loads(ctx.services.store(ctx.services.settings.store).read_list(name))
    except ValueError as error:
        msg = f"{given}: not JSON ({error}); give a CloudEvents document as `event`"
        raise FlowError(msg, code="bad_event", field="event") from error


def receive(item: Item, ctx: Context) -> Item:
    """Fetch a file of an event, and compare it with the event."""
    facts, url = item.wis2 or Wis2Facts(), str(item.url)
    expected = multihash(facts.checksum) if facts.checksum else None
    digest = hashlib.new(HASHLIB[expected.method]) if expected else None

    def hashed(_content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if digest is not None:
                digest.update(chunk)
            yield chunk

    page = (item.media_type or "").startswith("text/html")
    fetched = ctx.services.get(Fetcher).fetch(
        url, ctx.services.store(str(item.store)), transform=hashed, accept_html=page
    )
    if fetched.sha256 is None:
        raise fetched.error("href", transient=("http_404",))  # a file may be announced before it exists
    _compare(url, facts, fetched, expected, digest.digest() if digest else b"")
    return item.evolve(
        sha256=fetched.sha256,
        size=fetched.size,
        media_type=item.media_type or media_type(fetched.headers),
        filename=filename(fetched.headers, fetched.url),
    )


def _compare(url: str, facts: Wis2Facts, fetched: FetchResult, expected: Checksum | None, digest: bytes) -> None:
    """Raise Retriable unless the file is the one that the event announces: it may still be uploaded."""
    if facts.size is not None and facts.size != fetched.size:
        found = f"{without_credentials(url)} has {fetched.size} bytes"
        msg = f"{found}, its event says {facts.size}: send an event for the file as it is"
        raise Retriable(msg, code="size", field="file:size")
    if expected is not None and not compare_digest(expected.digest, digest):
        found = f"{without_credentials(url)} has the {expected.method} {digest.hex()}"
        msg = f"{found}, its event says {expected.digest.hex()}: send an event for the file as it is"
        raise Retriable(msg, code="checksum", field="file:checksum")


def publish(item: Item, ctx: Context) -> Item:
    """Announce a file over WIS2, once for each state of it."""
    topic = _topic(ctx)
    subject, missing = _subject(item, ctx, topic)
    data = _inline(item, ctx)
    suites = _check(subject, topic, data, missing, ctx)
    previous_id = ctx.memo.get("frozen", {}).get("id", "")
    claim, new = _claim(item, subject, topic, previous_id, ctx)
    identity = claim.identity
    facts = (item.wis2 or Wis2Facts()).evolve(topic=topic, data_id=claim.data_id or subject.data_id, suites=suites)
    item = item.evolve(wis2=facts.evolve(message=identity.id, rel=identity.rel), status=Status.OK)
    action = "Announced before" if claim.sent else "Announcing"
    line = f"{action}: {without_credentials(subject.href)} on {topic}, {identity.rel} {identity.id}"
    ctx.log.info(line)
    if claim.sent:
        # By an attempt of this job that died before it ended, or for an earlier event.
        return item if identity.id == previous_id else item.evolve(status=Status.UNCHANGED)
    _send(subject.evolve(data_id=facts.data_id), identity, topic, data, ctx, key=subject.data_id, new=new)
    return item


def _claim(item: Item, subject: Subject, topic: str, previous_id: str, ctx: Context) -> tuple[Claim, bool]:
    """Claim the only message for this state of the file; return it, and whether it is new.

    Raises:
        Skippable: a later state of the file was announced while this job waited.
    """
    new = _new_identity(ctx)
    claim = ctx.services.get(Publications).claim(
        subject.data_id,
        str(subject.sha256),
        new.id,
        new.pubtime,
        address=address_digest(subject.href),
        former=None if item.wis2 and item.wis2.named else former(topic, subject.href),
        previous_id=previous_id,
        republish=is_metadata(topic),  # records are announced daily, changed or not (WIS2 guide, 1.3.2)
    )
    if claim is None:
        msg = f"{subject.data_id}: a later state of it was announced meanwhile"
        raise Skippable(msg, code="superseded")
    return claim, claim.identity.id == new.id


def _send(
    subject: Subject, identity: MessageIdentity, topic: str, data: bytes | None, ctx: Context, *, key: str, new: bool
) -> None:
    """Send a message. It is forgotten if it was certainly not sent; if that is unknown, a retry sends it again."""
    from datafab.publish.mqtt import Mqtt  # noqa: PLC0415 - takes a tenth of a second, and is only needed here

    broker, publications = ctx.services.get(Mqtt), ctx.services.get(Publications)
    try:
        ctx.check()
        broker.ping()
    except (Lost, Retriable):
        if new:
            publications.forget(key, identity.id)
        raise
    ctx.memo["frozen"] = identity.dump()
    try:
        broker.publish(topic, wnm.encoded(wnm.message(identity, subject, data)))
    except Fatal:  # the broker has refused it
        publications.forget(key, identity.id)
        raise
    publications.sent(key, identity.id)


def _topic(ctx: Context) -> str:
    """Return the topic to announce on.

    Raises:
        FlowError: no topic is set, or it is not valid for publication.
    """
    topic = ctx.params.get("topic") or ctx.services.settings.wis2_topic
    if not topic:
        msg = "no topic to announce on: give the parameter `topic`, or set DATAFAB_WIS2_TOPIC"
        raise FlowError(msg, code="missing_parameter", field="topic")
    _raise_for(errors(check_topic(str(topic))), FlowError, f"the topic {topic}")
    return str(topic)


def _subject(item: Item, ctx: Context, topic: str) -> tuple[Subject, str]:
    """Return the subject of the message, and why WMO's suite did not check a metadata record; empty if it did."""
    if item.url is None or item.sha256 is None:
        raise Fatal("a file without url and sha256 cannot be announced: fetch it first", code="not_fetched")
    facts, missing = item.wis2 or Wis2Facts(), ""
    metadata_id = ctx.params.get("metadata_id") or ctx.services.settings.wis2_metadata_id
    if is_metadata(topic):
        metadata_id, missing = _check_record(item, topic, ctx)
    made = Subject(
        data_id=facts.named or data_id(topic, item.url),
        href=item.url,
        metadata_id=metadata_id,
        sha256=item.sha256,
        size=item.size,
        media_type=item.media_type,
        geometry=message_geometry(facts.geometry, facts.bbox),
        times=dict(facts.times or {}),
        properties=dict(facts.properties or {}),
        security=facts.security,
    )
    if made.geometry and len(wnm.encoded(wnm.message(_new_identity(ctx), made))) > wnm.MAX_MESSAGE_BYTES:
        made = made.evolve(geometry=box_geometry(made.geometry, facts.bbox))
    if made.geometry != facts.geometry:
        _log_replaced(facts.geometry or {}, made.geometry, ctx)
    return made, missing


def _log_replaced(given: dict[str, Any], geometry: dict[str, Any] | None, ctx: Context) -> None:
    """Log that a message has another geometry than the event."""
    shown = "its box" if geometry else "null, for it has no box"
    allowed = f"a Point or a Polygon with which the message has at most {wnm.MAX_MESSAGE_BYTES} bytes"
    line = f"Advice W6 geometry: the {given.get('type')} is announced as {shown}; give {allowed}"
    ctx.log.info(line)


def _check_record(item: Item, topic: str, ctx: Context) -> tuple[str, str]:
    """Check that a file is a WCMP2 record of the topic's centre; return its id, and why WMO's suite did not run.

    Raises:
        Fatal: it is not a record, or breaks a rule; names rule, member and fix.
    """
    url = str(item.url)
    if (item.size or 0) > MAX_RECORD_BYTES:
        found = f"{without_credentials(url)} has {item.size} bytes"
        msg = f"{found}, more than the {MAX_RECORD_BYTES} of a WCMP2 record: only records are published as metadata"
        raise Fatal(msg, code="wis2_record_size", field="file:size")
    with ctx.services.store(str(item.store)).open(str(item.sha256)) as file:
        record, verdict = judge_file(file.read(), ctx.services.get(Wis2Suite), topic=topic)
    _raise_for(errors(verdict.findings), Fatal, url)
    given = ctx.params.get("metadata_id")
    if given and given != record["id"]:
        msg = (
            f"{without_credentials(url)} is the record {record['id']}, not {given}: leave the parameter metadata_id out"
        )
        raise Fatal(msg, code="wis2_w12", field="metadata_id")
    return str(record["id"]), verdict.missing


def _inline(item: Item, ctx: Context) -> bytes | None:
    """Return the content of a file that may be inlined; else None."""
    if not ctx.params.get("inline") or (item.size or 0) > wnm.MAX_CONTENT_BYTES:
        return None
    with ctx.services.store(str(item.store)).open(str(item.sha256)) as file:
        return file.read()


def _check(subject: Subject, topic: str, data: bytes | None, missing: str, ctx: Context) -> str:
    """Check the message by our rules and by WMO's suites; return whether the suites have run.

    ``missing`` says why the suite for records did not run.

    Raises:
        Fatal: it breaks a rule; names rule, field and fix.
    """
    draft = wnm.message(_new_identity(ctx), subject, data)
    findings = check(draft, topic=topic)
    _raise_for(errors(findings), Fatal, subject.href)
    for advice in [*findings, *advise(draft, topic=topic)]:
        line = f"Advice {advice}"
        ctx.log.info(line)
    verdicts = [ctx.services.get(Wis2Suite).notification(draft), ctx.services.get(Wis2Suite).topic(topic)]
    _raise_for(errors([finding for verdict in verdicts for finding in verdict.findings]), Fatal, subject.href)
    missing = "; ".join(filter(None, [missing, *(verdict.missing for verdict in verdicts)]))
    if not missing:
        return "passed"
    ctx.log.info("checked by our own rules only", missing=missing)
    return f"not run: {missing}"


def _raise_for(findings: list[Finding], kind: type[Fatal | FlowError], what: str) -> None:
    if findings:
        msg = f"{without_credentials(what)} cannot be announced: {'. '.join(map(str, findings))}"
        raise kind(msg, code=f"wis2_{findings[0].rule.replace(' ', '_')}".lower(), field=findings[0].field)


def _new_identity(ctx: Context) -> MessageIdentity:
    # An update that a slow clock dates before what it updates would be passed over.
    return MessageIdentity(id=str(uuid.uuid4()), pubtime=wnm.pubtime(ctx.services.clock.now()))


STAGES = (
    Stage(
        name="event",
        params=frozenset({"event"}),
        queue="io",
        expand=event,
        provides=frozenset({"url", "store", "wis2"}),
        retry=RetryPolicy(deadline=300.0),
    ),
    Stage(
        name="receive",
        params=frozenset(),
        queue="io",
        run=receive,
        requires=frozenset({"url", "store"}),
        provides=frozenset({"sha256", "size", "media_type", "filename"}),
        retry=RetryPolicy(retries=5),
    ),
    Stage(
        name="publish",
        params=frozenset({"topic", "metadata_id", "inline"}),
        queue="io",
        run=publish,
        requires=frozenset({"url", "store", "sha256"}),
        provides=frozenset({"wis2"}),
        # A file that is unchanged for an earlier stage may not have been announced yet.
        wants=frozenset({Status.OK, Status.UNCHANGED}),
        # Enough retries for an evening without a broker.
        retry=RetryPolicy(deadline=300.0, retries=30),
    ),
)
