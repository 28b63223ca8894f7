"""Translate Elasticsearch's errors to datafab's: what to do, and whether to try again. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from elastic_transport import ConnectionTimeout, TlsError, TransportError
from elasticsearch import ApiError, UnsupportedProductError

from datafab.errors import DatafabError, Fatal, FlowError, Retriable
from datafab.index.interface import PutOutcome, PutResult

SETTING = "DATAFAB_INDEX_URL"
#: Error code for a missing index.
INDEX_MISSING = "index_missing"
#: Maximum characters of the server's reasons that a message quotes.
MAX_REASON_CHARS = 500
_TEMPORARY_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_FIELD = re.compile(r"(?:failed to parse field|dynamic introduction of|field) \[([^\]]+)\]")
_LOGIN_STATUSES = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
#: Seconds to wait after a write block or a full disk, which an operator has to fix.
BLOCKED_DELAY_SECONDS = 60.0


def translate_error(error: ApiError | TransportError, index: str) -> DatafabError:
    """Translate an error of the client; ``index`` is the URL of the index without password."""
    if isinstance(error, UnsupportedProductError):
        msg = f"{index} is not an Elasticsearch of version 7.14 or later ({SETTING}); OpenSearch is not supported"
        return FlowError(msg, code="index", field=SETTING)
    if isinstance(error, ApiError):
        return translate_refusal(error.meta.status, _error_body(error), index)
    if isinstance(error, TlsError):
        msg = (
            f"no secure connection to the index {index}: {_short_message(error)}; name your own CA in DATAFAB_CA_BUNDLE"
        )
        return FlowError(msg, code="index", field="DATAFAB_CA_BUNDLE")
    what = "does not answer in time" if isinstance(error, ConnectionTimeout) else "cannot be reached"
    msg = f"the index {index} ({SETTING}) {what}: {_short_message(error)}"
    return Retriable(msg, code="index", field=SETTING)


def translate_refusal(status: int, error: Mapping[str, Any] | str, index: str) -> DatafabError:
    """Translate the refusal of a request, or of a single document of it."""
    kind = "" if isinstance(error, str) else str(error.get("type", ""))
    reason = _reason(error)
    if kind == "index_not_found_exception":
        return Retriable(f"{index} does not exist: {reason}", code=INDEX_MISSING, field=SETTING)
    if kind == "cluster_block_exception":
        msg = f"{index} is blocked for writing: {reason}. Free space on its disks, or remove the block"
        return Retriable(msg, delay=BLOCKED_DELAY_SECONDS, code="index", field=SETTING)
    if status in _LOGIN_STATUSES:
        msg = (
            f"{index} refuses the login ({status}): {reason}. Set DATAFAB_INDEX_LOGIN and DATAFAB_INDEX_PASSWORD,"
            " or DATAFAB_INDEX_API_KEY"
        )
        return FlowError(msg, code="index", field=SETTING)
    if kind == "media_type_header_exception":
        msg = f"{index}: the server is too old: version 8 or 9 is needed: {reason}"
        return FlowError(msg, code="index", field=SETTING)
    if status in _TEMPORARY_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Retriable(f"{index} answers {status}: {reason}", code="index", field=SETTING)
    field = _FIELD.search(reason)
    return Fatal(f"{index} refuses the request ({status}): {reason}", code="index_refused", field=field and field[1])


def put_result(item: Mapping[str, Any], index: str) -> PutResult:
    """Return the result of one document of a bulk request.

    Raises:
        FlowError: the error is not caused by the document.
    """
    status = int(item.get("status", 500))
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return PutOutcome.OK
    if status == HTTPStatus.CONFLICT:
        return PutOutcome.STALE
    cause = item.get("exception")
    found = (
        translate_error(cause, index)
        if isinstance(cause, ApiError)
        else translate_refusal(status, item.get("error", ""), index)
    )
    if isinstance(found, Fatal | Retriable):
        return found
    raise found


def _error_body(error: ApiError) -> Mapping[str, Any] | str:
    body = error.body
    found = body.get("error", body) if isinstance(body, Mapping) else (body or error.message)
    return found if isinstance(found, Mapping) else str(found)


def _reason(error: Mapping[str, Any] | str) -> str:
    """Return the server's reason and its causes."""
    if isinstance(error, str):
        return _without_document(error)[:MAX_REASON_CHARS]
    reasons: list[str] = []
    cause: Any = error
    while isinstance(cause, Mapping) and len(reasons) < 4:  # noqa: PLR2004 - deeper ones only repeat it
        reasons.append(_without_document(str(cause.get("reason") or cause.get("type") or "no reason")))
        cause = cause.get("caused_by")
    return ": ".join(dict.fromkeys(reasons))[:MAX_REASON_CHARS]


def _without_document(reason: str) -> str:
    """Cut off the input that the server's parser quotes, which may be a whole document."""
    return reason.partition("\n")[0].partition(" at [Source")[0].partition(". Preview of field")[0]


def _short_message(error: TransportError) -> str:
    return str(error.message)[:MAX_REASON_CHARS]
