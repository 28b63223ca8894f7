"""What Elasticsearch refuses, in our words: what to do, and whether it may pass. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from elastic_transport import ConnectionTimeout, TlsError, TransportError
from elasticsearch import ApiError, UnsupportedProductError

from datafab.errors import DatafabError, Fatal, FlowError, Retriable
from datafab.index.interface import Outcome, Put

SETTING = "DATAFAB_INDEX_URL"
#: Code of what was refused because the index is not there.
MISSING = "index_missing"
#: Characters of the server's reasons that a message quotes.
QUOTED = 500
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_FIELD = re.compile(r"(?:failed to parse field|dynamic introduction of|field) \[([^\]]+)\]")
_RIGHTS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
#: Seconds after which a block that somebody has to lift, or a full disk, is looked at again.
BLOCKED_DELAY = 60.0


def failure(error: ApiError | TransportError, index: str) -> DatafabError:
    """Say what is wrong with an index; ``index`` is its address, without password."""
    if isinstance(error, UnsupportedProductError):
        msg = f"{index} is no Elasticsearch of version 7.14 or later ({SETTING}); OpenSearch is not supported"
        return FlowError(msg, code="index", field=SETTING)
    if isinstance(error, ApiError):
        return refusal(error.meta.status, _error(error), index)
    if isinstance(error, TlsError):
        msg = f"no secure connection to the index {index}: {_plain(error)}; a CA of your own: DATAFAB_CA_BUNDLE"
        return FlowError(msg, code="index", field="DATAFAB_CA_BUNDLE")
    what = "does not answer in time" if isinstance(error, ConnectionTimeout) else "cannot be reached"
    msg = f"the index {index} ({SETTING}) {what}: {_plain(error)}"
    return Retriable(msg, code="index", field=SETTING)


def refusal(status: int, error: Mapping[str, Any] | str, index: str) -> DatafabError:
    """Say why a request, or one document of it, was refused."""
    kind = "" if isinstance(error, str) else str(error.get("type", ""))
    reason = _reason(error)
    if kind == "index_not_found_exception":
        return Retriable(f"{index} is not there: {reason}", code=MISSING, field=SETTING)
    if kind == "cluster_block_exception":
        msg = f"{index} may not be written: {reason}. Free space on its disks, or lift the block"
        return Retriable(msg, delay=BLOCKED_DELAY, code="index", field=SETTING)
    if status in _RIGHTS:
        msg = (
            f"{index} refuses us ({status}): {reason}. Who we are is said by DATAFAB_INDEX_LOGIN and"
            " DATAFAB_INDEX_PASSWORD, or DATAFAB_INDEX_API_KEY"
        )
        return FlowError(msg, code="index", field=SETTING)
    if kind == "media_type_header_exception":
        msg = f"{index}: the server is too old for this client, which speaks to 8 and 9: {reason}"
        return FlowError(msg, code="index", field=SETTING)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Retriable(f"{index} answers {status}: {reason}", code="index", field=SETTING)
    field = _FIELD.search(reason)
    return Fatal(f"{index} refuses this ({status}): {reason}", code="index_refused", field=field and field[1])


def outcome(item: Mapping[str, Any], index: str) -> Put:
    """Return what became of one document of a bulk request.

    Raises:
        FlowError: what is wrong is no fault of the document.
    """
    status = int(item.get("status", 500))
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Outcome.OK
    if status == HTTPStatus.CONFLICT:
        return Outcome.STALE
    cause = item.get("exception")
    found = failure(cause, index) if isinstance(cause, ApiError) else refusal(status, item.get("error", ""), index)
    if isinstance(found, Fatal | Retriable):
        return found
    raise found


def _error(error: ApiError) -> Mapping[str, Any] | str:
    body = error.body
    found = body.get("error", body) if isinstance(body, Mapping) else (body or error.message)
    return found if isinstance(found, Mapping) else str(found)


def _reason(error: Mapping[str, Any] | str) -> str:
    """Return the server's reason, and what caused it."""
    if isinstance(error, str):
        return _without_document(error)[:QUOTED]
    told: list[str] = []
    cause: Any = error
    while isinstance(cause, Mapping) and len(told) < 4:  # noqa: PLR2004 - deeper ones only say it again
        told.append(_without_document(str(cause.get("reason") or cause.get("type") or "no reason")))
        cause = cause.get("caused_by")
    return ": ".join(dict.fromkeys(told))[:QUOTED]


def _without_document(reason: str) -> str:
    """Leave out what the parser quotes of its input, which may be a whole document."""
    return reason.partition("\n")[0].partition(" at [Source")[0].partition(". Preview of field")[0]


def _plain(error: TransportError) -> str:
    return str(error.message)[:QUOTED]
