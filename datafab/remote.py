"""A cluster that is reached over HTTP: the webhook of ``DATAFAB_URL``, with the token of ``DATAFAB_TOKEN``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from urllib3.filepost import encode_multipart_formdata

from datafab.core.document import Results
from datafab.core.item import ItemError, read_value
from datafab.core.job import Job, JobStatus
from datafab.core.jobs import MAX_LINES
from datafab.errors import DatafabError, Fatal, FlowError, NotFound, Retriable
from datafab.fetch.json_api import JsonApi, Reply
from datafab.flows.registry import flows
from datafab.settings import Settings
from datafab.store.regularfile import read_regular

#: Jobs per request when they are listed.
PAGE_SIZE = 100
#: Statuses whose body says what is wrong; others are not from a webhook.
_EXPECTED = frozenset(range(HTTPStatus.OK, 600)) - set(range(HTTPStatus.MULTIPLE_CHOICES, HTTPStatus.BAD_REQUEST))
_FIXES: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "set DATAFAB_TOKEN to a valid token",
    HTTPStatus.FORBIDDEN: "DATAFAB_TOKEN is that of another role, or DATAFAB_URL is not the cluster's public URL",
}


class RemoteCluster:
    """The cluster of ``DATAFAB_URL``.

    Attributes:
        poll_seconds: between two queries of the status of a job.
    """

    poll_seconds = 1.0

    def __init__(self, settings: Settings) -> None:
        self._root = settings.url or ""
        self._headers = {"Authorization": f"Bearer {settings.token}"} if settings.token else {}
        self._api = JsonApi(settings, service="datafab", setting="DATAFAB_URL", private=("*",), proxy=True)

    def enqueue(self, flow: str, params: Mapping[str, Any], key: str | None, secrets: Mapping[str, str] | None) -> str:
        """Enqueue a job and return its id. Local files among the parameters are uploaded.

        Raises:
            NotFound: there is no such flow or file.
            FlowError: a parameter is missing or invalid, or the job needs a secret.
        """
        if secrets:
            msg = f"a job of {flow!r} needs {', '.join(sorted(secrets))}, which is not sent over HTTP"
            raise FlowError(f"{msg}: run this on a host of the cluster, without DATAFAB_URL", field="DATAFAB_URL")
        params = {name: str(value) if isinstance(value, Path) else value for name, value in params.items()}
        params |= _documents(flow, params)
        files = dict(_local_files(flow, params))
        rest = {name: value for name, value in params.items() if name not in files}
        job = {"flow": flow, "params": rest} | ({} if key is None else {"key": key})
        if not files:
            return str(self._ask("POST", "/api/jobs", body=job)["id"])
        form: dict[str, Any] = {"job": json.dumps(job)} | files
        data, kind = encode_multipart_formdata(form)
        return str(self._ask("POST", "/api/jobs", data=data, headers={"Content-Type": kind})["id"])

    def job(self, job: str) -> Job:
        """Return a job."""
        return read_value(Job, self._show(job, {})[0])

    def failures(self, job: str) -> dict[str, ItemError]:
        """Return the errors of a job's failed items, by source."""
        failures = self._show(job, {})[1]
        return {source: read_value(ItemError, error) for source, error in failures.items()}

    def logs(self, job: str) -> list[dict[str, Any]]:
        """Return a job's last log lines, oldest first."""
        return self._show(job, {"log": str(MAX_LINES)})[2]

    def cancel(self, job: str) -> bool:
        """Cancel a job, and return whether it was still running."""
        if self.job(job).final:
            return False
        cancelled = self._ask("POST", f"/api/jobs/{quote(job, safe='')}/cancel")
        return bool(cancelled["status"] == JobStatus.CANCELLED)

    def retry(self, job: str) -> str:
        """Run a job again; return the id of the job that runs."""
        return str(self._ask("POST", f"/api/jobs/{quote(job, safe='')}/retry")["id"])

    def newest(
        self,
        *,
        status: JobStatus | None = None,
        flow: str | None = None,
        caller: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Return jobs, the newest first."""
        return list(islice(self._newest({"status": status, "flow": flow, "caller": caller}), limit))

    def search(self, query: str, limit: int, offset: int, sort: str, facets: Iterable[str]) -> Results:
        """Search the index."""
        wanted = {"q": query, "limit": str(limit), "offset": str(offset), "sort": sort, "facets": ",".join(facets)}
        return read_value(Results, self._ask("GET", "/api/search", params=wanted))

    def _newest(self, query: Mapping[str, str | None]) -> Iterator[Job]:
        given = {name: str(value) for name, value in query.items() if value is not None}
        after: dict[str, str] = {}
        while True:
            page = self._ask("GET", "/api/jobs", params={**given, "limit": str(PAGE_SIZE), **after})
            yield from (read_value(Job, job) for job in page["jobs"])
            if page["next"] is None:
                return
            after = {"after": page["next"]}

    def _show(self, job: str, query: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
        """Return a job, its failures and its log, in their JSON forms."""
        facts = self._ask("GET", f"/api/jobs/{quote(job, safe='')}", params=query)
        return facts, facts.pop("failures", {}), facts.pop("log", [])

    def _ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
        sent = self._headers | dict(headers or {})
        reply = self._api.request(method, self._root + path, answers=_EXPECTED, headers=sent, **more)
        if reply.status < HTTPStatus.BAD_REQUEST:
            return reply.document()
        raise _refusal(reply)


def _refusal(reply: Reply) -> DatafabError:
    """Return the error that an answer reports."""
    try:
        error = reply.document().get("error")
    except Retriable:
        error = None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return Fatal(f"{reply.url}: answered {reply.status}, not as a webhook does: is DATAFAB_URL right?")
    fix = _FIXES.get(reply.status)  # proxies have statuses that HTTPStatus lacks
    text, code = error["message"], str(error.get("type"))
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return Retriable(f"{reply.url}: {text}", code=code)
    kind = NotFound if reply.status == HTTPStatus.NOT_FOUND else FlowError
    found = kind(f"{text} ({fix})" if fix else text, code=code, field=error.get("field"))
    found.position = error.get("position")
    return found


def _local_files(flow: str, params: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Yield the name and bytes of each local file among the parameters, by parameter."""
    known = flows().get(flow)
    for name in sorted(known.files & params.keys() if known else ()):
        if _is_local(params[name]):
            yield name, (Path(params[name]).name, _read(params[name], name))


def _documents(flow: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON documents among the parameters that are local files."""
    known, found = flows().get(flow), {}
    for name in sorted(known.documents & params.keys() if known else ()):
        if _is_local(params[name]):
            try:
                found[name] = json.loads(_read(params[name], name))
            except ValueError as error:
                raise FlowError(f"{params[name]}: not valid JSON: {error}", code="bad_json", field=name) from error
    return found


def _is_local(given: Any) -> bool:
    return isinstance(given, str) and "://" not in given


def _read(path: str, name: str) -> bytes:
    try:
        return read_regular(Path(path))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file", field=name) from error
    except OSError as error:
        raise FlowError(f"{path}: {error.strerror}", code="not_a_file", field=name) from error
