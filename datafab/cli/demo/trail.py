"""An act: one job runs a file through every stage; the results are then read from the systems themselves."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from rich.markup import escape
from rich.table import Table

from datafab.cli import output
from datafab.cli.demo.inbox import Inbox
from datafab.cli.demo.scene import Scene, headline
from datafab.core.document import Document
from datafab.errors import Fatal
from datafab.index.access import IndexAccess
from datafab.publish.finding import errors
from datafab.publish.notification_rules import check
from datafab.sandbox.ckan import Sandbox, ckan
from workers import app

FILE = "/communes.csv"
TOPIC = "origin/a/wis2/fr-datafab-demo/data/recommended/hydrology/experimental"
RECORD = "urn:wmo:md:fr-datafab-demo:communes"
THEN = ("analyse", "index", "push", "publish")
#: Fields of a table that are printed.
MAX_FIELDS = 4


def play(scene: Scene) -> None:
    """Collect a file, analyse and index it, push it to a CKAN and announce it on an MQTT broker."""
    url = scene.portal + FILE
    endpoints = scene.folder / "one.csv"
    with endpoints.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["endpoint", "endpoint-url"], [hashlib.sha256(url.encode()).hexdigest(), url]])
    broker = str(scene.settings.mqtt_url)
    headline("The trail of one file", f"collect > {' > '.join(THEN)}, as one job")
    with ckan() as portal, Inbox(broker, "origin/#") as inbox:
        resource = portal.add(url, name="communes", format="CSV")
        params = {
            "endpoints": endpoints,
            "collection": scene.folder / "trail",
            "then": list(THEN),
            "ckan_url": portal.url,
            "resource_id": resource,
            "topic": TOPIC,
            "metadata_id": RECORD,
        }
        job = scene.run("collect", params, {"api_key": portal.token})
        found = _found(url, job.created)
        table = Table("stage", "action", "result")
        table.add_row("collect", f"fetched {url}", _stored(scene, found))
        table.add_row("analyse", _formats(found), f"{found.total_lines} rows, {found.encoding}")
        table.add_row("index", f"put {escape(found.title)}", f"found by: communes, column:{found.header[0]}")
        table.add_row("push", f"loaded resource {resource[:8]}… of {portal.url}", ", ".join(_loaded(portal, resource)))
        table.add_row("publish", f"announced on {TOPIC}", _announced(inbox.first(), broker, url))
    output.stdout.print(table)


def _found(url: str, since: float) -> Document:
    """Search the document that the job has indexed."""
    hits = app.services().get(IndexAccess).reading.search("communes column:département", 20).hits
    for hit in hits:
        if hit.resource_url == url and hit.version >= round(since * 1000):
            return hit
    raise Fatal(f"{url} is not in the index", code="demo")


def _stored(scene: Scene, found: Document) -> str:
    """Check the sha256 of the stored resource."""
    name = str(found.sha256)
    digest = hashlib.sha256((scene.folder / "trail" / "resource" / name).read_bytes()).hexdigest()
    if digest != name:
        raise Fatal(f"resource/{name} has the sha256 {digest}", code="demo")
    return f"resource/{name[:12]}…, {found.filesize} bytes of that sha256"


def _formats(found: Document) -> str:
    named = [f"{escape(col.name)} ([cyan]{col.format}[/])" for col in found.cols if col.format not in {None, "string"}]
    return ", ".join(named[:MAX_FIELDS]) + (f", … {len(named) - MAX_FIELDS} more" if len(named) > MAX_FIELDS else "")


def _loaded(portal: Sandbox, resource: str) -> Iterator[str]:
    """Query the table in CKAN's DataStore."""
    url = f"{portal.url}/api/3/action/datastore_search"
    answer: Mapping[str, Any] = requests.get(url, params={"resource_id": resource}, timeout=10).json()["result"]
    yield f"{answer['total']} rows in its datastore"
    fields = [field for field in answer["fields"] if field["id"] != "_id"]
    yield from (f"{escape(field['id'])} ([cyan]{field['type']}[/])" for field in fields[-MAX_FIELDS:])


def _announced(message: Mapping[str, Any], broker: str, url: str) -> str:
    """Check the message that a subscriber has received."""
    wrong = errors(check(dict(message), topic=TOPIC))
    if wrong or message["links"][0]["href"] != url:
        raise Fatal(f"the notification is wrong: {wrong or message['links']}", code="demo")
    return f"a subscriber of {broker} got {message['id'][:8]}…, which breaks no rule"
