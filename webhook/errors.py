"""Answers to errors: ``{"error": {"type", "message", "field"}}``, with ``position`` for an error at one character."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import cast

from flask import Flask, Response, current_app, jsonify
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from werkzeug.exceptions import HTTPException

from datafab.errors import DatafabError, FlowError, NotFound, Retriable, Wait
from datafab.urls import hide_all_secrets

RETRY_AFTER_SECONDS = "5"
#: Errors of a Redis that is down, or refuses for the time being.
REDIS_ERRORS = (RedisConnectionError, RedisTimeoutError, OperationalError)


def register(app: Flask) -> None:
    """Register the error handlers of an application. Flask logs any other error and answers it without details."""
    app.register_error_handler(HTTPException, _refused)
    app.register_error_handler(DatafabError, _failed)
    for kind in REDIS_ERRORS:
        app.register_error_handler(kind, _away)


def http_error_type(kind: type[HTTPException]) -> str:
    """Return the ``type`` of the answer to an error of werkzeug."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


def _answer(status: int, kind: str, message: str, field: str | None = None, **more: int) -> Response:
    response = jsonify(error=hide_all_secrets({"type": kind, "message": message, "field": field, **more}))
    response.status_code = status
    return response


def _refused(error: HTTPException) -> Response:
    """Answer an error of werkzeug, or the 500 that Flask makes of an unexpected error."""
    response = cast("Response", error.get_response())
    answer = _answer(response.status_code, http_error_type(type(error)), error.description or error.name)
    # Such as Allow, for a method that is not allowed.
    answer.headers.extend((name, value) for name, value in response.headers if not name.startswith("Content-"))
    return answer


def _failed(error: DatafabError) -> Response:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, NotFound):
        status = HTTPStatus.NOT_FOUND
    elif isinstance(error, FlowError):
        status = HTTPStatus.BAD_REQUEST
    elif isinstance(error, Retriable | Wait):
        status = HTTPStatus.SERVICE_UNAVAILABLE
    more = {} if error.position is None else {"position": error.position}
    answer = _answer(status, error.code, error.message, error.field, **more)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return answer


def _away(error: Exception) -> Response:
    current_app.logger.warning("Redis is away: %s", error)
    # Redis may have stored the job before the connection broke.
    message = "the queue does not answer: try again; with a `key`, a job that was enqueued after all is not doubled"
    answer = _answer(HTTPStatus.SERVICE_UNAVAILABLE, "redis_away", message)
    answer.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return answer
