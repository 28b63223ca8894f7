"""Log the requests that are refused: the caller's address, the route and the reason, but nothing that was sent.

The route is the rule of the application, not the path, and the reason is the ``type`` of the error: paths, queries and
messages may hold secrets of the caller. Unknown pages and failed logins after the first are not logged: anybody can
send any number of them.
"""

from __future__ import annotations

from http import HTTPStatus

from flask import Flask, Response, request

#: Statuses of a request for what does not exist, and of a failed login after too many others.
_UNLOGGED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.TOO_MANY_REQUESTS})


def log_refusals(app: Flask) -> None:
    """Make an application log its refusals."""

    @app.after_request
    def log(answer: Response) -> Response:
        if answer.status_code // 100 == 4 and answer.status_code not in _UNLOGGED:  # noqa: PLR2004 - 4xx
            rule = request.url_rule.rule if request.url_rule else "an unknown page"
            address, status = request.remote_addr, answer.status_code
            app.logger.warning("refused %s %s of %s: %s %s", request.method, rule, address, status, _reason(answer))
        return answer


def _reason(answer: Response) -> str:
    """Return the type of the error; DataPusher's errors are texts, which may quote what was sent."""
    document = answer.get_json(silent=True)
    error = document.get("error") if isinstance(document, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    return str(kind or HTTPStatus(answer.status_code).phrase)
