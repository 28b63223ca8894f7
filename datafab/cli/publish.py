"""``datafab publish``: announce files over WIS2. ``datafab wis2``: check messages and records by WMO's rules."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.markup import escape

from datafab.cli import output
from datafab.cli.run_job import as_json_option, run
from datafab.core import strict_json as strictjson
from datafab.errors import Fatal, NotFound
from datafab.fetch.session import Fetcher
from datafab.publish.cloudevent import with_data
from datafab.publish.event import announcement, assets, envelope
from datafab.publish.finding import Finding, errors
from datafab.publish.notification_advice import advise
from datafab.publish.notification_rules import check as check_message
from datafab.publish.record import judge
from datafab.publish.record_rules import is_record
from datafab.publish.wis2_bundle import Wis2Bundle
from datafab.publish.wis2_suite import Verdict, Wis2Suite
from datafab.settings import load
from datafab.store.regularfile import MAX_FILE_BYTES, read_regular
from datafab.urls import without_credentials

NOT_DONE = 1
_SYNC = "`datafab wis2 sync` fetches them"


@click.command()
@click.argument("what", metavar="EVENT|URL")
@click.option("--topic", help="WIS2 topic to announce on; default: DATAFAB_WIS2_TOPIC.")
@click.option("--metadata-id", help="The file's WCMP2 record; default: DATAFAB_WIS2_METADATA_ID.")
@click.option("--content", is_flag=True, help="Embed files of at most 4096 bytes in their messages.")
@as_json_option
def publish(what: str, topic: str | None, metadata_id: str | None, content: bool, as_json: bool) -> None:
    """Announce files over WIS2: those of EVENT, a file with a CloudEvents document, or the file at URL."""
    event = announcement(what) if "://" in what else _event(Path(what))
    params = {"event": event, "topic": topic, "metadata_id": metadata_id, "inline": content or None}
    ended = run("publish", {name: value for name, value in params.items() if value is not None})
    ended.report(as_json=as_json, with_log=True)
    ended.exit()


def _event(file: Path) -> Path:
    """Return the file of an event after checking it, so that its author sees errors before a job is enqueued."""
    try:
        event = with_data(_read(read_regular(file), str(file)))
    except OSError as error:
        msg = f"{file}: {error.strerror}; name the file of an event, or the URL of a file to announce"
        raise NotFound(msg, field="EVENT") from error
    if is_record(event):
        msg = f"{file} is a WCMP2 record, not an event: put it on a web server, and publish its URL on …/metadata"
        raise Fatal(msg, code="bad_event", field="EVENT")
    envelope(event)
    assets(event)
    return file


@click.group()
def wis2() -> None:
    """Check messages and records of WIS2."""


@wis2.command()
@click.argument("file", type=click.File("rb"))
@click.option("--topic", help="Topic of the message, which is checked too.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON, one per line.")
def check(file: BinaryIO, topic: str | None, as_json: bool) -> None:
    """Check FILE, a notification message or a WCMP2 record; - reads standard input.

    Exit code 1 if it breaks a rule; advice alone does not count. The size of a message is that of its JSON without
    whitespace.
    """
    # A pipe is read too, but neither that nor a device for ever.
    data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise Fatal(
            f"{file.name}: has more than {MAX_FILE_BYTES} bytes: no message and no record has", code="too_large"
        )
    document = _read(data, file.name)
    verdict = judge(document, Wis2Suite(load().home), topic=topic) if is_record(document) else _message(document, topic)
    if as_json:
        output.print_json_lines(verdict.findings)
    else:
        _print(file.name, verdict.findings)
    if verdict.missing:
        output.stderr.print(
            f"WMO's own suites did not run: {escape(verdict.missing)}; {_SYNC}", highlight=False, soft_wrap=True
        )
    if errors(verdict.findings):
        click.get_current_context().exit(NOT_DONE)


@wis2.command()
@click.option(
    "--mirror", metavar="URL", help="Mirror that has the files below their hosts' names, for closed networks."
)
def sync(mirror: str | None) -> None:
    """Download the schemas and tables of WMO's own checks to DATAFAB_HOME; old ones are replaced at the end."""
    settings = load()
    fetcher = Fetcher(settings)
    try:
        Wis2Bundle(fetcher, mirror).sync(
            settings.home,
            on_progress=lambda url: output.stderr.print(
                without_credentials(url), markup=False, highlight=False, soft_wrap=True
            ),
        )
    finally:
        fetcher.close()
    output.stdout.print(f"{settings.home}: WMO's own checks are ready", markup=False, highlight=False, soft_wrap=True)


def _read(data: bytes, name: str) -> Any:
    try:
        return strictjson.loads(data)
    except ValueError as error:
        raise Fatal(f"{name}: not valid JSON: {error}", code="not_json", field="file") from error


def _message(document: Any, topic: str | None) -> Verdict:
    found = check_message(document, topic=topic)
    found += advise(document, topic=topic, now=datetime.now(UTC))
    suite = Wis2Suite(load().home)
    verdicts = [suite.notification(document)] if isinstance(document, dict) else []
    if topic:
        verdicts.append(suite.topic(topic))
    missing = "; ".join(verdict.missing for verdict in verdicts if verdict.missing)
    return Verdict([*found, *(finding for verdict in verdicts for finding in verdict.findings)], missing)


def _print(name: str, findings: list[Finding]) -> None:
    for finding in findings:
        colour = "red" if finding.level == "error" else "yellow"
        text = f"[{colour}]{finding.rule}[/] {escape(finding.field or 'the whole')}: {escape(finding.problem)}"
        output.stdout.print(f"{text}\n    {escape(finding.fix)}", highlight=False, soft_wrap=True)
    broken = len(errors(findings))
    result = f"{broken} rules broken" if broken else "no errors"
    advice = f", {len(findings) - broken} pieces of advice" if len(findings) > broken else ""
    output.stdout.print(f"{escape(name)}: {result}{advice}", highlight=False, soft_wrap=True)
