"""Fetch an endpoint as planned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http import HTTPStatus

from datafab.collect.decision import FetchPlan
from datafab.collect.localfile import is_file, read_file
from datafab.collect.plugins.wfs_timestamp import strip_timestamps, strip_wfs
from datafab.collect.service_report import BodyEnds, asks_for_part, find_report, is_text
from datafab.collect.target import Options, Target
from datafab.fetch.answer import Transform
from datafab.fetch.refusal import Refusal
from datafab.fetch.result import FetchResult, Refused
from datafab.fetch.session import Session
from datafab.settings import Settings
from datafab.urls import without_credentials


def fetch(target: Target, plan: FetchPlan, options: Options, session: Session, settings: Settings) -> FetchResult:
    """Fetch an endpoint into its collection."""
    plugin = plan.plugin
    if plugin is not None:
        produce, seconds = plugin.produce, plugin.page_seconds
        return session.fetch_pages(target.url, target.store, produce, page_seconds=seconds, headers=plugin.headers)
    transform = strip_wfs if target.facts.plugin == "wfs" else strip_timestamps
    if is_file(target.url):
        return read_file(target.url, target.store, settings, session.headers, transform)
    if not options.as_served:
        transform = partial(_without_reports, target.url, transform)
    return _get(target, options, session, transform)


def _get(target: Target, options: Options, session: Session, transform: Transform) -> FetchResult:
    """Get the answer of a server; the last resource stands for one that has not changed."""
    history = target.history if options.conditional and target.with_last_resource() else None
    conditions = history.conditions() if history else {}
    fetched = session.fetch(target.url, target.store, transform=transform, accept_html=False, headers=conditions)
    if history is None or not conditions or fetched.status != HTTPStatus.NOT_MODIFIED:
        return fetched
    sent = {**fetched.request_headers, **conditions}
    return replace(fetched, sha256=history.resource, refusal=None, request_headers=sent)


def _without_reports(url: str, transform: Transform, content_type: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a transformed body.

    Raises:
        Refused: after the last byte, if it was a service's error, or a part of what was asked for.
    """
    ends = BodyEnds()
    yield from transform(content_type, ends.watch(chunks))
    problem = find_report(ends.head, ends.tail, part=asks_for_part(url)) if is_text(ends.head) else None
    if problem is not None:
        advice = "--as-served keeps it all the same"
        exception = "EsriDownloadError" if problem.arcgis else "WFSError"
        sentence = f"{without_credentials(url)}: {problem.sentence} ({advice})"
        raise Refused(Refusal(problem.code, sentence, exception))
