"""The API of a Géoplateforme entrepôt, as far as archives need it.

Source: cartes.gouv.fr's guide "alimentation et diffusion d'archives", its change notes, and what its own clients do.
A POST is never sent twice: when its answer is lost, the caller looks what became of it.
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

#: Entries of a page.
PAGE = 100
#: Lines of a log asked for at once, and pages of a list that are followed.
LINES, PAGES = 200, 1000
#: Answers in a row that lack something, after which waiting no longer helps.
ODD = 5
_ANY = frozenset({HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT})
_LOOK = _ANY | {HTTPStatus.NOT_FOUND}
_RANGE = re.compile(r"(\d+)-(\d+)/(\d+)\s*$")
Document = dict[str, Any]


class Entrepot(Client):
    """The entrepôt of ``DATAFAB_ENTREPOT_URL``.

    What every call may raise: Retriable (no answer, none in time, 408, 425, 429, 5xx, or one that makes no sense: what
    was asked may be done or not), Fatal ``entrepot_<status>`` (any other), Fatal ``entrepot_login`` (wrong secrets).
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
        """Raise unless it knows us."""
        self.ask("GET", "/users/me")

    def at(self, datastore: str | None = None) -> Datastore:
        """Return a datastore; None: that of the settings.

        Raises:
            SettingError: none is named.
        """
        name = datastore or self._settings.entrepot_datastore
        if not name:
            msg = "no datastore: give it in the plan, or set DATAFAB_ENTREPOT_DATASTORE"
            raise SettingError(msg, field="DATAFAB_ENTREPOT_DATASTORE")
        return Datastore(self, name)

    def ask(
        self,
        method: str,
        path: str,
        *,
        answers: Collection[int] = _ANY,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        form: Multipart | None = None,
    ) -> Reply:
        """Send a request with a token; once more, with a new one, when that is refused."""
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
                token = self._tokens.current(worn=token)
        raise AssertionError("unreachable")


class Datastore:
    """One datastore: its uploads, executions and stored data. Look-ups give None for what is not there.

    Attributes:
        name: its id.
    """

    def __init__(self, entrepot: Entrepot, name: str) -> None:
        self._entrepot = entrepot
        self.name = name
        self._path = f"/datastores/{quote(name, safe='')}"

    def uploads(self, name: str) -> list[Document]:
        """Return the uploads of exactly this name that are not deleted."""
        return self._named("/uploads", name)

    def create_upload(self, name: str, description: str, srs: str, kind: str = "ARCHIVE") -> Document:
        """Create an upload; it is OPEN."""
        body = {"name": name, "description": description, "srs": srs, "type": kind}
        return _identified(self._ask("POST", "/uploads", body=body))

    def upload(self, upload: str) -> Document | None:
        """Return an upload."""
        return self._one("uploads", upload)

    def tree(self, upload: str) -> dict[str, int]:
        """Return an upload's files: path -> bytes."""
        return dict(_files(self._ask("GET", f"/uploads/{upload}/tree").documents(), ""))

    def push(self, upload: str, path: str, open_file: Callable[[], BinaryIO], size: int) -> None:
        """Send a file of an upload; it is opened for each try."""
        form = Multipart(path.rpartition("/")[2], open_file, size)
        self._ask("POST", f"/uploads/{upload}/data", params={"path": path}, form=form)

    def push_md5(self, upload: str, lines: Iterable[str], name: str = "md5sum.md5") -> None:
        """Send the list of md5 sums: lines of ``<md5>  <path>``."""
        data = "".join(f"{line}\n" for line in lines).encode()
        self._ask("POST", f"/uploads/{upload}/md5", form=Multipart(name, lambda: BytesIO(data), len(data)))

    def remove(self, upload: str, path: str, kind: Literal["data", "md5"] = "data") -> None:
        """Remove a file of an upload, if it is there."""
        self._ask("DELETE", f"/uploads/{upload}/{kind}", answers=_LOOK, params={"path": path})

    def close_upload(self, upload: str) -> None:
        """Close an upload: its checks begin."""
        self._ask("POST", f"/uploads/{upload}/close")

    def open_upload(self, upload: str) -> None:
        """Open a closed upload again."""
        self._ask("POST", f"/uploads/{upload}/open")

    def delete_upload(self, upload: str) -> None:
        """Delete an upload; one that is gone is deleted."""
        self._ask("DELETE", f"/uploads/{upload}", answers=_LOOK)

    def tag(self, kind: Literal["uploads", "stored_data"], entity: str, tags: Mapping[str, str]) -> None:
        """Add tags to an entity; those of the same names are replaced."""
        self._ask("POST", f"/{kind}/{entity}/tags", body=dict(tags))

    def checks(self, upload: str) -> dict[str, list[Document]]:
        """Return an upload's checks by what they have come to: asked, in_progress, passed, failed."""
        reply = self._ask("GET", f"/uploads/{upload}/checks")
        answer = reply.document()
        return {
            key: [_whole(each, reply) for each in answer.get(key) or ()]
            for key in ("asked", "in_progress", "passed", "failed")
        }

    def check_log(self, check: str) -> list[str]:
        """Return the end of a check's log."""
        return self._log(f"/checks/executions/{check}/logs")

    def stored_data_named(self, name: str) -> list[Document]:
        """Return the stored data of exactly this name that are not deleted."""
        return self._named("/stored_data", name)

    def stored_data(self, stored_data: str) -> Document | None:
        """Return stored data."""
        return self._one("stored_data", stored_data)

    def patch_stored_data(self, stored_data: str, body: Mapping[str, Any]) -> Document:
        """Change fields of stored data."""
        return self._ask("PATCH", f"/stored_data/{stored_data}", body=body).document()

    def executions_of(self, stored_data: str) -> list[Document]:
        """Return the executions that have made stored data, whole."""
        found = self._list("/processings/executions", {"output_stored_data": stored_data})
        return [whole for each in found if (whole := self.execution(str(each["_id"])))]

    def create_execution(self, body: Mapping[str, Any]) -> Document:
        """Create an execution; its output is there at once."""
        return _with_output(self._ask("POST", "/processings/executions", body=body))

    def launch(self, execution: str) -> None:
        """Launch an execution."""
        self._ask("POST", f"/processings/executions/{execution}/launch")

    def abort(self, execution: str) -> None:
        """Abort an execution."""
        self._ask("POST", f"/processings/executions/{execution}/abort")

    def execution(self, execution: str) -> Document | None:
        """Return an execution."""
        return self._one("processings/executions", execution, _with_output)

    def execution_log(self, execution: str) -> list[str]:
        """Return the end of an execution's log."""
        return self._log(f"/processings/executions/{execution}/logs")

    def _ask(self, method: str, path: str, **given: Any) -> Reply:
        return self._entrepot.ask(method, self._path + path, **given)

    def _one(self, kind: str, name: str, read: Callable[[Reply], Document] | None = None) -> Document | None:
        reply = self._ask("GET", f"/{kind}/{quote(name, safe='')}", answers=_LOOK)
        found = None if reply.status == HTTPStatus.NOT_FOUND else (read or _identified)(reply)
        return None if found is None or found.get("status") == "DELETED" else found

    def _named(self, path: str, name: str) -> list[Document]:
        """The filter of the API is like SQL's LIKE: what it gives is compared again."""
        found = self._list(path, {"name": name})
        return [each for each in found if each.get("name") == name and each.get("status") != "DELETED"]

    def _list(self, path: str, params: Mapping[str, str], limit: int = PAGE) -> list[Any]:
        """Return all pages of a list."""
        found: list[Any] = []
        for page in range(1, PAGES + 1):
            reply = self._ask("GET", path, params={**params, "page": str(page), "limit": str(limit)})
            entries = _entries(reply)
            found += entries
            if not entries or len(found) >= (_total(reply) or 0):
                break
        return found

    def _log(self, path: str) -> list[str]:
        """Return the last lines of a log: its last page, and the one before it."""
        first = self._ask("GET", path, params={"page": "1", "limit": str(LINES)})
        lines, total = first.documents(), _total(first) or 0
        last = -(-total // LINES)
        for page in range(max(2, last - 1), last + 1):
            lines += self._ask("GET", path, params={"page": str(page), "limit": str(LINES)}).documents()
        return [str(line) for line in lines[-LINES:]]


def _identified(reply: Reply) -> Document:
    """Return an entity that an answer describes."""
    return _whole(reply.document(), reply)


def _with_output(reply: Reply) -> Document:
    """Return an execution that makes stored data."""
    found = _identified(reply)
    try:
        _whole(found["output"]["stored_data"], reply)
    except (KeyError, TypeError) as error:
        raise _lacks("output.stored_data", reply) from error
    return found


def _entries(reply: Reply) -> list[Document]:
    return [_whole(each, reply) for each in reply.documents()]


def _whole(entity: Any, reply: Reply) -> Document:
    """Return an entity that has an id.

    Raises:
        Retriable: it has none; what was asked for may be done or not.
    """
    if not isinstance(entity, dict) or not entity.get("_id"):
        raise _lacks("_id", reply)
    return entity


def _lacks(key: str, reply: Reply) -> Retriable:
    error = reply.bad_answer(f"the answer lacks `{key}`")
    error.retries = ODD
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
