"""Client of the API of a Géoplateforme entrepôt, with the calls that archives need.

Source: cartes.gouv.fr's guide "alimentation et diffusion d'archives", its change notes, and the behaviour of its own
clients. A POST is never repeated: if its answer is lost, the caller looks up its effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, BinaryIO, Literal, Self
from urllib.parse import quote

from datafab.archive.multipart import Multipart
from datafab.archive.oauth import Tokens
from datafab.core.services import Client, Services
from datafab.errors import Fatal, Retriable, SettingError
from datafab.fetch.json_api import JsonApi, Reply
from datafab.settings import Settings

#: Entries on a page of a list.
PAGE_ENTRIES = 100
#: Lines on a page of a log, and most pages of a list that are read.
LOG_LINES, MAX_PAGES = 200, 1000
#: Consecutive answers without a required key, after which there are no more retries.
MAX_MALFORMED_ANSWERS = 5
_SUCCESS = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT})
_SUCCESS_OR_MISSING = _SUCCESS | {HTTPStatus.NOT_FOUND}
_RANGE = re.compile(r"(\d+)-(\d+)/(\d+)\s*$")
Document = dict[str, Any]


class Entrepot(Client):
    """The entrepôt of ``DATAFAB_ENTREPOT_URL``.

    Every call may raise Retriable (no answer, a timeout, 408, 425, 429, 5xx, or a malformed answer; the request may
    have had its effect), Fatal ``entrepot_<status>`` (any other status), and Fatal ``entrepot_login`` (wrong
    credentials).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.entrepot_url.rstrip("/")
        self._api = JsonApi(settings, service="entrepot", setting="DATAFAB_ENTREPOT_URL", private=("*",), proxy=True)
        self._tokens = Tokens(settings)

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings)

    def ping(self) -> None:
        """Raise unless the entrepôt accepts our credentials."""
        self.ask("GET", "/users/me")

    def at(self, datastore: str | None = None) -> Datastore:
        """Return a datastore; None: the one of the settings.

        Raises:
            SettingError: no datastore is named.
        """
        name = datastore or self._settings.entrepot_datastore
        if not name:
            msg = "no datastore: name it in the plan, or set DATAFAB_ENTREPOT_DATASTORE"
            raise SettingError(msg, field="DATAFAB_ENTREPOT_DATASTORE")
        return Datastore(self, name)

    def ask(
        self,
        method: str,
        path: str,
        *,
        answers: Collection[int] = _SUCCESS,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        form: Multipart | None = None,
    ) -> Reply:
        """Send a request with a token; if the token is refused, repeat the request once with a new one."""
        token = self._tokens.current()
        for last in (False, True):
            headers = {"Authorization": f"Bearer {token}"} | ({"Content-Type": form.content_type} if form else {})
            seconds = {"seconds": self._settings.total_timeout} if form else {}
            try:
                return self._api.request(
                    method, self._root + path, answers=answers, headers=headers, params=params, body=body, data=form,
                    **seconds,
                )  # fmt: skip
            except Fatal as error:
                if last or error.code != "entrepot_401":
                    raise
                token = self._tokens.current(rejected=token)
        raise AssertionError("unreachable")


class Datastore:
    """One datastore: its uploads, executions and stored data. Look-ups return None for entities that do not exist.

    Attributes:
        name: id of the datastore.
    """

    def __init__(self, entrepot: Entrepot, name: str) -> None:
        self._entrepot = entrepot
        self.name = name
        self._path = f"/datastores/{quote(name, safe='')}"

    def uploads(self, name: str) -> list[Document]:
        """Return the uploads with exactly this name that are not deleted."""
        return self._named("/uploads", name)

    def create_upload(self, name: str, description: str, srs: str, kind: str = "ARCHIVE") -> Document:
        """Create an upload, which is then OPEN."""
        body = {"name": name, "description": description, "srs": srs, "type": kind}
        return _identified(self._ask("POST", "/uploads", body=body))

    def upload(self, upload: str) -> Document | None:
        """Return an upload."""
        return self._get("uploads", upload)

    def tree(self, upload: str) -> dict[str, int]:
        """Return the files of an upload: path -> size in bytes."""
        return dict(_files(self._ask("GET", f"/uploads/{upload}/tree").documents(), ""))

    def push(self, upload: str, path: str, open_file: Callable[[], BinaryIO], size: int) -> None:
        """Send a file to an upload; it is opened for each attempt."""
        form = Multipart(path.rpartition("/")[2], open_file, size)
        self._ask("POST", f"/uploads/{upload}/data", params={"path": path}, form=form)

    def push_md5(self, upload: str, lines: Iterable[str], name: str = "md5sum.md5") -> None:
        """Send a list of md5 sums: lines of ``<md5>  <path>``."""
        data = "".join(f"{line}\n" for line in lines).encode()
        self._ask("POST", f"/uploads/{upload}/md5", form=Multipart(name, lambda: BytesIO(data), len(data)))

    def remove(self, upload: str, path: str, kind: Literal["data", "md5"] = "data") -> None:
        """Delete a file of an upload, if it exists."""
        self._ask("DELETE", f"/uploads/{upload}/{kind}", answers=_SUCCESS_OR_MISSING, params={"path": path})

    def close_upload(self, upload: str) -> None:
        """Close an upload, which starts its checks."""
        self._ask("POST", f"/uploads/{upload}/close")

    def open_upload(self, upload: str) -> None:
        """Reopen a closed upload."""
        self._ask("POST", f"/uploads/{upload}/open")

    def delete_upload(self, upload: str) -> None:
        """Delete an upload, if it exists."""
        self._ask("DELETE", f"/uploads/{upload}", answers=_SUCCESS_OR_MISSING)

    def tag(self, kind: Literal["uploads", "stored_data"], entity: str, tags: Mapping[str, str]) -> None:
        """Add tags to an entity; tags of the same names are replaced."""
        self._ask("POST", f"/{kind}/{entity}/tags", body=dict(tags))

    def checks(self, upload: str) -> dict[str, list[Document]]:
        """Return the checks of an upload by their state: asked, in_progress, passed, failed."""
        reply = self._ask("GET", f"/uploads/{upload}/checks")
        answer = reply.document()
        return {
            key: [_with_id(each, reply) for each in answer.get(key) or ()]
            for key in ("asked", "in_progress", "passed", "failed")
        }

    def check_log(self, check: str) -> list[str]:
        """Return the last lines of the log of a check."""
        return self._log(f"/checks/executions/{check}/logs")

    def stored_data_named(self, name: str) -> list[Document]:
        """Return the stored data with exactly this name that are not deleted."""
        return self._named("/stored_data", name)

    def stored_data(self, stored_data: str) -> Document | None:
        """Return stored data."""
        return self._get("stored_data", stored_data)

    def patch_stored_data(self, stored_data: str, body: Mapping[str, Any]) -> Document:
        """Change fields of stored data."""
        return self._ask("PATCH", f"/stored_data/{stored_data}", body=body).document()

    def executions_of(self, stored_data: str) -> list[Document]:
        """Return the executions whose output are some stored data, with all fields."""
        found = self._list("/processings/executions", {"output_stored_data": stored_data})
        return [whole for each in found if (whole := self.execution(str(each["_id"])))]

    def create_execution(self, body: Mapping[str, Any]) -> Document:
        """Create an execution and, with it, its output."""
        return _with_output(self._ask("POST", "/processings/executions", body=body))

    def launch(self, execution: str) -> None:
        """Launch an execution."""
        self._ask("POST", f"/processings/executions/{execution}/launch")

    def abort(self, execution: str) -> None:
        """Abort an execution."""
        self._ask("POST", f"/processings/executions/{execution}/abort")

    def execution(self, execution: str) -> Document | None:
        """Return an execution."""
        return self._get("processings/executions", execution, _with_output)

    def execution_log(self, execution: str) -> list[str]:
        """Return the last lines of the log of an execution."""
        return self._log(f"/processings/executions/{execution}/logs")

    def _ask(self, method: str, path: str, **given: Any) -> Reply:
        return self._entrepot.ask(method, self._path + path, **given)

    def _get(self, kind: str, name: str, read: Callable[[Reply], Document] | None = None) -> Document | None:
        reply = self._ask("GET", f"/{kind}/{quote(name, safe='')}", answers=_SUCCESS_OR_MISSING)
        found = None if reply.status == HTTPStatus.NOT_FOUND else (read or _identified)(reply)
        return None if found is None or found.get("status") == "DELETED" else found

    def _named(self, path: str, name: str) -> list[Document]:
        """Return the entities with exactly this name; the API's filter, like SQL's LIKE, may find others."""
        found = self._list(path, {"name": name})
        return [each for each in found if each.get("name") == name and each.get("status") != "DELETED"]

    def _list(self, path: str, params: Mapping[str, str], limit: int = PAGE_ENTRIES) -> list[Any]:
        """Return the entries on all pages of a list."""
        found: list[Any] = []
        for page in range(1, MAX_PAGES + 1):
            reply = self._ask("GET", path, params={**params, "page": str(page), "limit": str(limit)})
            entries = _entries(reply)
            found += entries
            if not entries or len(found) >= (_total(reply) or 0):
                break
        return found

    def _log(self, path: str) -> list[str]:
        """Return the last lines of a log, from its last two pages."""
        first = self._ask("GET", path, params={"page": "1", "limit": str(LOG_LINES)})
        lines, total = first.documents(), _total(first) or 0
        last = -(-total // LOG_LINES)
        for page in range(max(2, last - 1), last + 1):
            lines += self._ask("GET", path, params={"page": str(page), "limit": str(LOG_LINES)}).documents()
        return [str(line) for line in lines[-LOG_LINES:]]


def _identified(reply: Reply) -> Document:
    """Return the entity in an answer."""
    return _with_id(reply.document(), reply)


def _with_output(reply: Reply) -> Document:
    """Return the execution in an answer, which must have stored data as its output."""
    found = _identified(reply)
    try:
        _with_id(found["output"]["stored_data"], reply)
    except (KeyError, TypeError) as error:
        raise _missing_key("output.stored_data", reply) from error
    return found


def _entries(reply: Reply) -> list[Document]:
    return [_with_id(each, reply) for each in reply.documents()]


def _with_id(entity: Any, reply: Reply) -> Document:
    """Return an entity that has an id.

    Raises:
        Retriable: it has none; the request may have had its effect.
    """
    if not isinstance(entity, dict) or not entity.get("_id"):
        raise _missing_key("_id", reply)
    return entity


def _missing_key(key: str, reply: Reply) -> Retriable:
    error = reply.bad_answer(f"the answer lacks `{key}`")
    error.retries = MAX_MALFORMED_ANSWERS
    return error


def _total(reply: Reply) -> int | None:
    found = _RANGE.search(reply.headers.get("Content-Range", ""))
    return int(found[3]) if found else None


def _files(entries: Iterable[Document], above: str) -> Iterator[tuple[str, int]]:
    for entry in entries:
        path = above + str(entry.get("name"))
        if entry.get("type") == "DIRECTORY":
            yield from _files(entry.get("children") or (), f"{path}/")
        else:
            yield path, int(entry.get("size") or 0)
