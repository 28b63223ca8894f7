"""Publish: the files of an event, each fetched, compared with what the event says, and announced over WIS2.

Parameters of a job:

| name | holds |
| --- | --- |
| ``event`` | the event (CloudEvents 1.0 with a STAC item), or ``list:<sha256>`` where it lies in the default store |
| ``topic`` | WIS2 topic to announce on; unset: DATAFAB_WIS2_TOPIC |
| ``metadata_id`` | the WCMP2 record of the files; unset: DATAFAB_WIS2_METADATA_ID |
| ``inline`` | put files of at most 4096 bytes into their messages (default false) |

On the ``metadata`` topic of a centre only its WCMP2 records are announced, again each time that they are published.

``publish`` alone announces whatever has an address and bytes in a store: what ``collect`` has brought, for instance.
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
from datafab.publish.data_id import address_digest, data_id, former
from datafab.publish.event import HASHLIB, Checksum, assets, envelope, geometry, multihash, times
from datafab.publish.finding import Finding, errors
from datafab.publish.notification import Frozen, Subject
from datafab.publish.notification_rules import check
from datafab.publish.publications import Claim, Publications
from datafab.publish.record import MAX_RECORD, judge_file
from datafab.publish.topic import check_topic, is_metadata
from datafab.publish.wis2_suite import Wis2Suite
from datafab.urls import without_credentials


def event(ctx: Context) -> Iterator[Item]:
    """Read an event, and yield each file that it announces."""
    document = _document(ctx)
    head = envelope(document)
    if "delet" in str(document.get("type")).lower():
        msg = f"the event {head.id} is of type {document['type']!r}: announcing deletions is not supported yet"
        raise FlowError(msg, code="not_supported", field="type")
    facts = Wis2Facts(event=head.id, geometry=geometry(document), times=times(document) or None)
    for asset in assets(document):
        yield Item(
            source=f"file:{asset.href}",
            url=asset.href,
            store=ctx.services.settings.store,
            media_type=asset.media_type,
            wis2=facts.evolve(checksum=asset.checksum, size=asset.size, named=asset.data_id),
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
        msg = f"{given}: no JSON ({error}); `event` is a CloudEvents document"
        raise FlowError(msg, code="bad_event", field="event") from error


def receive(item: Item, ctx: Context) -> Item:
    """Fetch a file of an event, and compare it with what the event says."""
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
        raise fetched.error("href", transient=("http_404",))  # announced before it is there
    _compare(url, facts, fetched, expected, digest.digest() if digest else b"")
    return item.evolve(
        sha256=fetched.sha256,
        size=fetched.size,
        media_type=item.media_type or media_type(fetched.headers),
        filename=filename(fetched.headers, fetched.url),
    )


def _compare(url: str, facts: Wis2Facts, fetched: FetchResult, expected: Checksum | None, digest: bytes) -> None:
    """Raise unless the file is the one that the event announces. It may be on its way still: it is asked for again."""
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
    suites = _checked(subject, topic, data, missing, ctx)
    mine = ctx.memo.get("frozen", {}).get("id", "")
    claim, new = _claimed(item, subject, topic, mine, ctx)
    frozen = claim.frozen
    facts = (item.wis2 or Wis2Facts()).evolve(topic=topic, data_id=claim.data_id or subject.data_id, suites=suites)
    item = item.evolve(wis2=facts.evolve(message=frozen.id, rel=frozen.rel), status=Status.OK)
    told = "Announced before" if claim.sent else "Announcing"
    line = f"{told}: {without_credentials(subject.href)} on {topic}, {frozen.rel} {frozen.id}"
    ctx.log.info(line)
    if claim.sent:
        # By an attempt of this job that died before it could tell, or for an event before this one.
        return item if frozen.id == mine else item.evolve(status=Status.UNCHANGED)
    _send(subject.evolve(data_id=facts.data_id), frozen, topic, data, ctx, key=subject.data_id, new=new)
    return item


def _claimed(item: Item, subject: Subject, topic: str, mine: str, ctx: Context) -> tuple[Claim, bool]:
    """Return the one message for this state of the file, and whether it is a new one.

    Raises:
        Skippable: a later state of the file was announced while this job waited.
    """
    new = _new(ctx)
    claim = ctx.services.get(Publications).claim(
        subject.data_id,
        str(subject.sha256),
        new.id,
        new.pubtime,
        address=address_digest(subject.href),
        former=None if item.wis2 and item.wis2.named else former(topic, subject.href),
        frozen=mine,
        again=is_metadata(topic),  # records are announced daily, changed or not (WIS2 guide, 1.3.2)
    )
    if claim is None:
        msg = f"{subject.data_id}: a later state of it was announced meanwhile"
        raise Skippable(msg, code="superseded")
    return claim, claim.frozen.id == new.id


def _send(
    subject: Subject, frozen: Frozen, topic: str, data: bytes | None, ctx: Context, *, key: str, new: bool
) -> None:
    """Send a message. One that has certainly not gone out is forgotten; where that is unknown, it is sent again."""
    from datafab.publish.mqtt import Mqtt  # noqa: PLC0415 - a tenth of a second that no other stage needs

    broker, publications = ctx.services.get(Mqtt), ctx.services.get(Publications)
    try:
        ctx.check()
        broker.ping()
    except (Lost, Retriable):
        if new:
            publications.forget(key, frozen.id)
        raise
    ctx.memo["frozen"] = frozen.dump()
    try:
        broker.publish(topic, wnm.encoded(wnm.message(frozen, subject, data)))
    except Fatal:  # the broker has answered that it does not take it
        publications.forget(key, frozen.id)
        raise
    publications.sent(key, frozen.id)


def _topic(ctx: Context) -> str:
    """Return the topic to announce on.

    Raises:
        FlowError: there is none, or nothing may be published there.
    """
    topic = ctx.params.get("topic") or ctx.services.settings.wis2_topic
    if not topic:
        msg = "no topic to announce on: give the parameter `topic`, or set DATAFAB_WIS2_TOPIC"
        raise FlowError(msg, code="missing_parameter", field="topic")
    _refuse(errors(check_topic(str(topic))), FlowError, f"the topic {topic}")
    return str(topic)


def _subject(item: Item, ctx: Context, topic: str) -> tuple[Subject, str]:
    """Return what the message is about, and why WMO's suite did not judge a metadata record; empty where it did."""
    if item.url is None or item.sha256 is None:
        raise Fatal("a file without url and sha256 cannot be announced: fetch it first", code="not_fetched")
    facts, missing = item.wis2 or Wis2Facts(), ""
    metadata_id = ctx.params.get("metadata_id") or ctx.services.settings.wis2_metadata_id
    if is_metadata(topic):
        metadata_id, missing = _record(item, topic, ctx)
    made = Subject(
        data_id=facts.named or data_id(topic, item.url),
        href=item.url,
        metadata_id=metadata_id,
        sha256=item.sha256,
        size=item.size,
        media_type=item.media_type,
        geometry=facts.geometry,
        times=dict(facts.times or {}),
    )
    return made, missing


def _record(item: Item, topic: str, ctx: Context) -> tuple[str, str]:
    """Check that a file is a WCMP2 record of the topic's centre; return its id, and why WMO's suite did not run.

    Raises:
        Fatal: it is none, or breaks a rule; names rule, member and fix.
    """
    url = str(item.url)
    if (item.size or 0) > MAX_RECORD:
        found = f"{without_credentials(url)} has {item.size} bytes"
        msg = f"{found}, more than the {MAX_RECORD} of a WCMP2 record: only such are metadata"
        raise Fatal(msg, code="wis2_record_size", field="file:size")
    with ctx.services.store(str(item.store)).open(str(item.sha256)) as file:
        record, verdict = judge_file(file.read(), ctx.services.get(Wis2Suite), topic=topic)
    _refuse(errors(verdict.findings), Fatal, url)
    given = ctx.params.get("metadata_id")
    if given and given != record["id"]:
        msg = (
            f"{without_credentials(url)} is the record {record['id']}, not {given}: leave the parameter metadata_id out"
        )
        raise Fatal(msg, code="wis2_w12", field="metadata_id")
    return str(record["id"]), verdict.missing


def _inline(item: Item, ctx: Context) -> bytes | None:
    """Return the file, where it may stand in its message."""
    if not ctx.params.get("inline") or (item.size or 0) > wnm.MAX_CONTENT:
        return None
    with ctx.services.store(str(item.store)).open(str(item.sha256)) as file:
        return file.read()


def _checked(subject: Subject, topic: str, data: bytes | None, missing: str, ctx: Context) -> str:
    """Check the message by our rules and by the libraries' suites; return what became of these.

    ``missing`` says why the one for records did not run.

    Raises:
        Fatal: it breaks a rule; names rule, field and fix.
    """
    draft = wnm.message(_new(ctx), subject, data)
    _refuse(errors(check(draft, topic=topic)), Fatal, subject.href)
    verdicts = [ctx.services.get(Wis2Suite).notification(draft), ctx.services.get(Wis2Suite).topic(topic)]
    _refuse(errors([finding for verdict in verdicts for finding in verdict.findings]), Fatal, subject.href)
    missing = "; ".join(filter(None, [missing, *(verdict.missing for verdict in verdicts)]))
    if not missing:
        return "passed"
    ctx.log.info("checked by our own rules only", missing=missing)
    return f"not run: {missing}"


def _refuse(findings: list[Finding], kind: type[Fatal | FlowError], what: str) -> None:
    if findings:
        msg = f"{without_credentials(what)} cannot be announced: {'. '.join(map(str, findings))}"
        raise kind(msg, code=f"wis2_{findings[0].rule.replace(' ', '_')}".lower(), field=findings[0].field)


def _new(ctx: Context) -> Frozen:
    # An update that a slow clock dates before what it updates would be passed over.
    return Frozen(id=str(uuid.uuid4()), pubtime=wnm.pubtime(ctx.services.clock.now()))


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
        # What a stage before had done already need not have been announced.
        wants=frozenset({Status.OK, Status.UNCHANGED}),
        retry=RetryPolicy(deadline=300.0, retries=30),
        # A broker's restart, or an evening without one, loses no announcement.
    ),
)
