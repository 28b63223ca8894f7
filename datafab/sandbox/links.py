"""What the small link-proxy does: links, checks that fetch for real, downloads that are kept, webhooks.

Source: geodatagouv/link-proxy, ``jobs/check/`` (``index.js``, ``check.js``, ``link.js``, ``cache.js``), ``lib/link.js``
and ``jobs/webhook/index.js``; of its queue tusbar/bull-manager, ``index.js``.

Checks run one after another. ``hold`` stops a check on its way, ``webhooks`` says how messages go astray.
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
#: seconds that a subscriber has
DELIVERY = 10
#: states of a check that is not over
RUNNING = ("started", "analyzing")

#: ``early``: the check runs, and its messages go out, before the POST that asked for it is answered.
Webhooks = Literal["send", "late", "twice", "never", "early"]


@dataclass(slots=True)
class Link:
    """A URL that is watched, with its checks and what it gave."""

    id: str
    location: str
    created: str
    updated: str
    checks: list[dict[str, Any]] = field(default_factory=list)
    downloads: list[dict[str, Any]] = field(default_factory=list)
    #: path and digest of each file that was ever found
    seen: set[tuple[str, str]] = field(default_factory=set)
    parents: list[str] = field(default_factory=list)
    last: Fetched | None = None
    finished: datetime | None = None

    def shown(self) -> dict[str, Any]:
        """Return it as ``POST /`` does."""
        return {"_id": self.id, "createdAt": self.created, "updatedAt": self.updated, "locations": [self.location]}


@dataclass(slots=True)
class Sandbox:
    """One link-proxy.

    Attributes:
        url: its root.
        links: by id.
        files: what is kept, by path below the bucket.
        subscribers: ``{name, url, token}``, as they stand in its database.
        deliveries: each message that was sent: ``{url, body, status}``; status None: nobody answered.
        blacklist: more hosts that it does not fetch from.
        planned: location -> how its next checks end (``errored`` …), instead of by what is found.
        webhooks: what becomes of the messages.
        late: messages that are kept back, for ``deliver``.
        held: where checks stop: ``queued``, ``started``, ``analyzing``.
        control: time, faults, and what was asked.
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
        """Add a subscriber; the real one has no call for it either."""
        self.subscribers.append({"name": name, "url": url, "token": token})

    def contain(self, parent: str, child: str) -> None:
        """Make a link one that another contains: an archive, or a page that lists files."""
        self.links[child].parents.append(parent)

    def hold(self, *phases: str) -> None:
        """Have checks stop where they are, or before they begin."""
        with self._change:
            self.held |= set(phases)

    def release(self, *phases: str) -> None:
        """Let checks go on; without phases: everywhere."""
        with self._change:
            self.held -= set(phases) or set(self.held)
            self._change.notify_all()

    def find(self, location: str) -> Link | None:
        """Return the link of a URL."""
        return next((link for link in list(self.links.values()) if link.location == location), None)

    def submit(self, location: str, *, no_cache: bool = False) -> Link:
        """Have a URL checked; while a check of it waits or runs, this is merged with it.

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
        """Run the checks of the queue until the end."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or (self._queue and "queued" not in self.held))
                if self._closed:
                    return
                name, no_cache = self._queue.popleft()
                self._running = name
            self.check(self.links[name], no_cache=no_cache)

    def close(self) -> None:
        """End the checks."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def check(self, link: Link, *, no_cache: bool = False) -> None:
        """Check a link, to its end. Source: geodatagouv/link-proxy, ``jobs/check/index.js`` and ``check.js``."""
        now = self.control.clock.now()
        check: dict[str, Any] = {"number": len(link.checks) + 1, "createdAt": self._now(), "updatedAt": self._now()}
        # After one that failed nothing is taken to be known.
        no_cache = no_cache or (bool(link.checks) and link.checks[-1]["state"] == "errored")
        check |= {"location": link.location, "options": {"noCache": no_cache}}
        check["state"] = self._at_creation(link, now, fresh=no_cache)
        if check["state"] != "started":
            self._over()
            link.checks.append(check)
            return
        link.checks.append(check)
        self._pass("started")
        fetched = fetch(link.location)
        if fetched.error or link.location in self.planned:
            # Neither its date nor a status is told.
            check |= {"error": fetched.error or "it was planned"}
            self._over()
            check["state"] = self.planned.get(link.location, "errored")
            return
        check |= {"state": "analyzing", "updatedAt": self._now(), "statusCode": fetched.status}
        self._pass("analyzing")
        changed = self._keep(link, bundles(link.location, fetched.body), no_cache=no_cache)
        link.last, link.finished = fetched, now
        self._over()
        check |= {"state": "finished", "updatedAt": self._now()}
        if changed:
            self._notify({"check": {"linkId": link.id} | check, "links": [link.id, *link.parents]})

    def _over(self) -> None:
        """Let the link that is being checked be asked for again, before its check is seen to be over."""
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
        """Keep what has changed of what was found; tell whether anything has.

        A file is unchanged when it was ever seen with this content, and never without a cache. What is no longer found
        stays. Source: geodatagouv/link-proxy, ``jobs/check/cache.js`` (``getFileCache``), ``index.js``, ``link.js``.
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
        """Keep a bundle; return its download. Source: geodatagouv/link-proxy, ``jobs/check/index.js``."""
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
        """Send the messages that were kept back."""
        while self.late:
            self.send(self.late.pop(0))

    def send(self, body: dict[str, Any]) -> None:
        """Send a message to every subscriber, once; one that fails is not sent again.

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
