"""Who sends a request, and whether that is enough for its route. The only module that decides this.

A caller shows a token (``Authorization: Bearer``), or the cookie of a session that was opened with one (``login.py``).
Without either, the programs of this host are operators as long as the cluster has no token and listens on a loopback
address only; everybody else may read if ``DATAFAB_ANONYMOUS`` says so.
"""

from __future__ import annotations

import hmac
import re
from typing import NoReturn, cast

from flask import Flask, current_app, g, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, Forbidden, TooManyRequests, Unauthorized

from datafab.core.caller import ANONYMOUS, LOCALHOST, Caller
from datafab.core.roles import Role
from datafab.core.sessions import Sessions, csrf_token
from datafab.core.tokens import BadToken, Token, Tokens
from webhook.access import ACCESS
from webhook.doors import SAFE_METHODS
from webhook.failed_logins import FailedLogins
from webhook.own_host import is_own_host
from webhook.site import backend

#: The cookie of a session, and what must come with it if a request changes something.
COOKIE, CSRF_HEADER, CSRF_FIELD = "datafab_session", "X-CSRF-Token", "csrf_token"
_IN_URL = re.compile(r"dfb_[0-9A-Fa-f]{12}_[0-9A-Fa-f]{8}")
_HOW = "send the header `Authorization: Bearer <token>`; `datafab token create NAME --role {}` makes a token"
_EXTENSION = "datafab.failed_logins"


def require_callers(app: Flask) -> None:
    """Make an application ask every caller for the role that the route needs, before the view is called."""
    app.extensions[_EXTENSION] = FailedLogins()

    @app.before_request
    def check() -> None:
        needed = ACCESS.get(request.endpoint or "")
        if isinstance(needed, Role):
            _refuse_token_in_url()
            g.caller = _identify(needed)
            require_role(needed)


def caller() -> Caller:
    """Return who has sent the current request, to a route that needs a role."""
    return cast("Caller", g.caller)


def require_role(needed: Role) -> None:
    """Raise unless the caller of the current request has this role.

    Raises:
        Unauthorized: there is no caller, but the one that may read without a token.
        Forbidden: the caller's role is too low.
    """
    asking = caller()
    if asking.role.includes(needed):
        return
    if asking.name == ANONYMOUS:
        raise unauthorized(f"this needs the role {needed}: {_HOW.format(needed)}")
    _log("refused, needs the role %s", needed, name=asking.name)
    has = f"the token {asking.name!r} is {_a(asking.role)}"
    if asking.name == LOCALHOST:
        has = f"a program of this host without a token is {_a(asking.role)}"
    raise Forbidden(f"this needs the role {needed}, and {has}: {_HOW.format(needed)}")


def called_by_own_host() -> bool:
    """Return whether a program of this host has sent the current request, and nobody else can reach this server."""
    return is_own_host(request.environ, request.headers)


def token_of(text: str) -> Token:
    """Return the token with which somebody logs in.

    Raises:
        Unauthorized: it is not valid.
        TooManyRequests: it is not valid, and there were too many of these.
    """
    try:
        return backend().services.get(Tokens).verify(text)
    except BadToken as error:
        _fail(error)


def unauthorized(reason: str, error: str | None = None) -> Unauthorized:
    """Return the answer to a caller without a valid token."""
    details: dict[str, str | None] = {"realm": "datafab"}
    if error:
        details["error"] = error
    return Unauthorized(reason, www_authenticate=WWWAuthenticate("bearer", details))


def _identify(needed: Role) -> Caller:
    header = request.headers.get("Authorization")
    if header is not None:
        return token_of(_bearer(header)).caller
    reason = None
    if cookie := request.cookies.get(COOKIE):
        try:
            token = backend().services.get(Sessions).verify(cookie)
        except BadToken as error:
            reason = error
        else:
            _check_csrf(cookie)
            return token.caller
    if called_by_own_host() and not backend().services.get(Tokens).exist():
        return Caller(LOCALHOST, Role.OPERATOR)
    if anonymous := backend().services.settings.anonymous:
        return Caller(ANONYMOUS, Role(anonymous))
    if reason is not None:
        _fail(reason)
    raise unauthorized(f"this needs the role {needed}: {_HOW.format(needed)}")


def _bearer(header: str) -> str:
    """Return the token in the header ``Authorization``. Servers join two such headers by a comma."""
    if "," in header:
        raise BadRequest("send one header Authorization: this request has two, or a comma in it")
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "bearer":
        _fail(BadToken(_HOW.format(Role.VIEWER), code="malformed_token"))
    return text.strip(" ")


def _check_csrf(cookie: str) -> None:
    """Refuse a change that a page of another site may have sent: browsers add the cookie by themselves."""
    if request.method in SAFE_METHODS:
        return
    sent = request.headers.get(CSRF_HEADER)
    if sent is None and request.mimetype == "application/x-www-form-urlencoded":
        sent = request.form.get(CSRF_FIELD)
    if not hmac.compare_digest((sent or "").encode("utf-8", "replace"), csrf_token(cookie).encode()):
        where = f"the header {CSRF_HEADER} or the form's field {CSRF_FIELD}"
        raise Forbidden(f"a change in a session needs its CSRF token, in {where}: GET /api/me shows it")


def _refuse_token_in_url() -> None:
    """Refuse tokens in URLs, which servers, proxies and browsers write down."""
    if _IN_URL.search(request.full_path) or not {"token", "access_token"}.isdisjoint(request.args):
        msg = "a token must not be sent in the URL, which logs and histories keep: revoke it (`datafab token revoke`)"
        raise BadRequest(f"{msg}, and send another in the header `Authorization: Bearer <token>`")


def _fail(error: BadToken) -> NoReturn:
    """Count and log a failed login, and raise the answer to it."""
    counted = cast("FailedLogins", current_app.extensions[_EXTENSION])
    wait = counted.count(request.remote_addr or "")
    if wait:
        raise TooManyRequests("too many failed logins: wait, then send a valid token", retry_after=int(wait) + 1)
    _log("login failed, %s", error.code, name=error.token)
    raise unauthorized(error.message, "invalid_token") from error


def _log(what: str, detail: str, *, name: str) -> None:
    forwarded = request.headers.get("X-Forwarded-For", "")[:100]
    text = f"{what}: %s %r from %s, forwarded for %r, token %s"
    current_app.logger.warning(
        text, detail, request.method, request.path[:200], request.remote_addr, forwarded, name or "-"
    )


def _a(role: Role) -> str:
    return f"{'a' if role is Role.VIEWER else 'an'} {role}"
