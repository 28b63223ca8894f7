"""Sessions of browsers: ``/login`` exchanges a token for a cookie that scripts cannot read.

The cookie is sent to this server only, never from pages of other sites (SameSite=Strict). A request that changes
something must send the session's CSRF token, too (``caller.py``).
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import BadRequest

from datafab.core.caller import Caller
from datafab.core.hosts_allowed import PublicHosts
from datafab.core.sessions import Sessions, csrf_token
from webhook.body import body, refusal
from webhook.caller import COOKIE, caller, token_of
from webhook.site import backend

routes = Blueprint("login", __name__)


class NewSession(BaseModel):
    """Body of ``POST /login``, as JSON or a form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str = Field(min_length=1, max_length=200)


@routes.post("/login")
def log_in() -> Response:
    """Open a session with a token: the answer sets its cookie, and has the CSRF token for changes."""
    if request.query_string:
        raise BadRequest("send the token in the body, as JSON or a form: logs and histories keep URLs")
    token = token_of(_sent().token)
    cookie, seconds = backend().services.get(Sessions).open(token)
    answer = jsonify(_describe(token.caller, cookie))
    answer.set_cookie(COOKIE, cookie, max_age=seconds, path="/", httponly=True, samesite="Strict", secure=_secure())
    return answer


@routes.post("/logout")
def log_out() -> Response:
    """End the session."""
    if cookie := request.cookies.get(COOKIE):
        backend().services.get(Sessions).end(cookie)
    answer = jsonify(status="ok")
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="Strict", secure=_secure())
    return answer


@routes.get("/api/me")
def show_caller() -> dict[str, Any]:
    """Show who the caller is: the token's name, role and limit, and in a session the CSRF token for changes."""
    return _describe(caller(), request.cookies.get(COOKIE) if "Authorization" not in request.headers else None)


def _sent() -> NewSession:
    if request.mimetype != "application/x-www-form-urlencoded":
        return body(NewSession)
    try:
        return NewSession.model_validate(request.form.to_dict())
    except ValidationError as error:
        raise refusal(error) from error


def _describe(one: Caller, cookie: str | None) -> dict[str, Any]:
    shown = {"name": one.name, "role": one.role, "limit": one.limit}
    return shown | {"csrf_token": csrf_token(cookie) if cookie else None}


def _secure() -> bool:
    """Return whether the cookie may be sent over https only."""
    root = PublicHosts.of(backend().services.settings.public_url).root
    return request.is_secure or (root or "").lower().startswith("https://")
