"""The state of the small link-proxy: links, checks that really fetch, stored downloads, webhooks.

Source: geodatagouv/link-proxy, ``jobs/check/`` (``index.js``, ``check.js``, ``link.js``, ``cache.js``), ``lib/link.js``
and ``jobs/webhook/index.js``; source of its queue: tusbar/bull-manager, ``index.js``.

Checks run one after another. ``hold`` stops a check half-way, ``webhooks`` sets how messages are delayed or lost.
"""

from __future__ import annotations

import json
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from threading import Condition
from typing import Any, Literal

import requests

from datafab.sandbox.bundles import Bundle, bundles, etag
from datafab.sandbox.control import Control
from datafab.sandbox.linkcheck import Fetched, blacklisted, fetch, recent, unsupported

BUCKET = "link-proxy-files"
_AGENT = "link-proxy/1.4.6 (+https://geo.data.gouv.fr/doc/link-proxy)"
#: Seconds that a subscriber has to answer.
DELIVERY = 10
#: States of a check that is not finished.
RUNNING = ("started", "analyzing")

#: ``early``: the check runs, and its messages are sent, before the POST that submitted it is answered.
Webhooks = Literal["send", "late", "twice", "never", "early"]


@dataclass(slots=True)
class Link:
    """A watched URL with its checks and downloads."""

    id: str
    location: str
    created: str
    updated: str
    checks: list[dict[str, Any]] = field(default_factory=list)
    downloads: list[dict[str, Any]] = field(default_factory=list)
    #: path and digest of each file that has ever been found
    seen: set[tuple[str, str]] = field(default_factory=set)
    parents: list[str] = field(default_factory=list)
    last: Fetched | None = None
    finished: datetime | None = None

    def shown(self) -> dict[str, Any]:
        """Return the link in the form of ``POST /``."""
        return {"_id": self.id, "createdAt": self.created, "updatedAt": self.updated, "locations": [self.location]}


@dataclass(slots=True)
class Sandbox:
    """A link-proxy.

    Attributes:
        url: root URL.
        links: the links by id.
        files: stored files by key in the bucket.
        subscribers: ``{name, url, token}``, as in its database.
        deliveries: the messages that were sent: ``{url, body, status}``; status None: there was no answer.
        blacklist: further hosts from which it does not fetch.
        planned: final states of the next checks by location (``errored`` …), instead of the real result.
        webhooks: what happens to messages.
        late: messages that wait for ``deliver``.
        held: phases in which checks stop: ``queued``, ``started``, ``analyzing``.
        control: time, faults and journal.
    """

    url: str = ""
    links: dict[str, Link] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    subscribers: list[dict[str, str]] = field(default_factory=list)
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    blacklist: list[str] = field(default_factory=list)
    planned: dict[str, str] = field(default_factory=dict)
    webhooks: Webhooks = "send"
    late: list[dict[str, Any]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    control: Control = field(default_factory=Control)
    _queue: deque[tuple[str, bool]] = field(default_factory=deque)
    _running: str | None = None
    _change: Condition = field(default_factory=Condition)
    _closed: bool = False

    def subscribe(self, url: str, token: str = "", name: str = "datafab") -> None:
        """Add a subscriber; the original has no route for this either."""
        self.subscribers.append({"name": name, "url": url, "token": token})

    def contain(self, parent: str, child: str) -> None:
        """Mark a link as contained in another: an archive, or a page that lists files."""
        self.links[child].parents.append(parent)

    def hold(self, *phases: str) -> None:
        """Stop checks in these phases."""
        with self._change:
            self.held |= set(phases)

    def release(self, *phases: str) -> None:
        """Let checks continue in these phases; without arguments in all of them."""
        with self._change:
            self.held -= set(phases) or set(self.held)
            self._change.notify_all()

    def find(self, location: str) -> Link | None:
        """Return the link of a URL."""
        return next((link for link in list(self.links.values()) if link.location == location), None)

    def submit(self, location: str, *, no_cache: bool = False) -> Link:
        """Submit a URL for a check; if one is queued or running already, no other is added.

        Source: geodatagouv/link-proxy, ``lib/link.js`` (``upsertLink``), ``jobs/definitions.js`` (``jobIdKey``).
        """
        with self._change:
            link = self.find(location)
            now = self._now()
            if link is None:
                link = Link(uuid.uuid4().hex[:24], location, now, now)
                self.links[link.id] = link
            known = {self._running, *(queued for queued, _ in self._queue)}
            if self.webhooks != "early" and link.id not in known:
                self._queue.append((link.id, no_cache))
                self._change.notify_all()
        if self.webhooks == "early":
            self.check(link, no_cache=no_cache)
        return link

    def run(self) -> None:
        """Run the checks of the queue until the sandbox is closed."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or (self._queue and "queued" not in self.held))
                if self._closed:
                    return
                name, no_cache = self._queue.popleft()
                self._running = name
            self.check(self.links[name], no_cache=no_cache)

    def close(self) -> None:
        """Stop running checks."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def check(self, link: Link, *, no_cache: bool = False) -> None:
        """Run a check of a link. Source: geodatagouv/link-proxy, ``jobs/check/index.js`` and ``check.js``."""
        now = self.control.clock.now()
        check: dict[str, Any] = {"number": len(link.checks) + 1, "createdAt": self._now(), "updatedAt": self._now()}
        # After a failed check, nothing counts as unchanged.
        no_cache = no_cache or (bool(link.checks) and link.checks[-1]["state"] == "errored")
        check |= {"location": link.location, "options": {"noCache": no_cache}}
        check["state"] = self._at_creation(link, now, fresh=no_cache)
        if check["state"] != "started":
            self._finish()
            link.checks.append(check)
            return
        link.checks.append(check)
        self._pass("started")
        fetched = fetch(link.location)
        if fetched.error or link.location in self.planned:
            # As in the original, neither the date nor a status is set.
            check |= {"error": fetched.error or "it was planned"}
            self._finish()
            check["state"] = self.planned.get(link.location, "errored")
            return
        check |= {"state": "analyzing", "updatedAt": self._now(), "statusCode": fetched.status}
        self._pass("analyzing")
        changed = self._keep(link, bundles(link.location, fetched.body), no_cache=no_cache)
        link.last, link.finished = fetched, now
        self._finish()
        check |= {"state": "finished", "updatedAt": self._now()}
        if changed:
            self._notify({"check": {"linkId": link.id} | check, "links": [link.id, *link.parents]})

    def _finish(self) -> None:
        """Allow the link to be submitted again, before its check has a final state."""
        with self._change:
            self._running = None

    def _at_creation(self, link: Link, now: datetime, *, fresh: bool) -> str:
        if blacklisted(link.location, [self.url, *self.blacklist]):
            return "blacklisted"
        if unsupported(link.location):
            return "unsupported"
        watched = link.finished is not None and link.last is not None and not fresh
        return "skipped" if watched and recent(link.last, link.finished, now) else "started"

    def _keep(self, link: Link, found: list[Bundle], *, no_cache: bool) -> bool:
        """Store the bundles that have changed, and return whether there are any.

        A file is unchanged if it has ever been seen with this content, unless caches are off. Files that are no longer
        found are kept. Source: geodatagouv/link-proxy, ``jobs/check/cache.js`` (``getFileCache``), ``index.js`` and
        ``link.js``.
        """
        changed = []
        for bundle in found:
            files = {(bundle.path, file["name"] + file["digest"]) for file in bundle.files}
            if no_cache or not files <= link.seen:
                changed.append(bundle)
            link.seen |= files
        for bundle in changed:
            link.downloads = [
                each for each in link.downloads if (each["type"], each["name"]) != (bundle.type, bundle.name)
            ]
        link.downloads += [self._kept(link, bundle) for bundle in changed]
        link.updated = self._now() if changed else link.updated
        return bool(changed)

    def _kept(self, link: Link, bundle: Bundle) -> dict[str, Any]:
        """Store a bundle, and return its download. Source: geodatagouv/link-proxy, ``jobs/check/index.js``."""
        name = uuid.uuid4().hex[:24]
        key = bundle.key(link.location, self.control.clock.now().date(), name)
        self.files[key] = bundle.content
        return {
            "_id": name,
            "createdAt": self._now(),
            "name": bundle.name,
            "path": bundle.path,
            "type": bundle.type,
            "archive": bundle.archive,
            "files": bundle.files,
            "url": f"{self.url}/{BUCKET}/{key}",
            "etag": f'"{etag(bundle.content)}"',
        }

    def _pass(self, phase: str) -> None:
        with self._change:
            self._change.wait_for(lambda: self._closed or phase not in self.held)

    def _notify(self, body: dict[str, Any]) -> None:
        if self.webhooks == "late":
            self.late.append(body)
        elif self.webhooks != "never":
            for _ in range(2 if self.webhooks == "twice" else 1):
                self.send(body)

    def deliver(self) -> None:
        """Send the late messages."""
        while self.late:
            self.send(self.late.pop(0))

    def send(self, body: dict[str, Any]) -> None:
        """Send a message to every subscriber once; failed messages are not sent again.

        Source: geodatagouv/link-proxy, ``jobs/webhook/index.js``.
        """
        for subscriber in list(self.subscribers):
            headers = {"Content-Type": "application/json", "User-Agent": _AGENT}
            if subscriber["token"]:
                headers["Authorization"] = f"Basic {subscriber['token']}"
            status: int | None = None
            try:
                with requests.Session() as session:
                    session.trust_env = False
                    text = json.dumps(body)
                    status = session.post(subscriber["url"], text, headers=headers, timeout=DELIVERY).status_code
            except requests.RequestException:
                pass
            self.deliveries.append({"url": subscriber["url"], "body": body, "status": status})

    def _now(self) -> str:
        return self.control.clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
