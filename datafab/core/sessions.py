"""Sessions of browsers: a cookie that stands for a token, kept in Redis as a digest until it expires.

``datafab:1:session:<digest>`` holds the id of the token, which is looked up with each request: a session ends with its
token. What proves that a page of ours sends a request (the CSRF token) is derived from the cookie, which scripts
cannot read and pages of other sites do not know.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, Self

from datafab.core.redis import ClusterRedis
from datafab.core.services import Client, Services
from datafab.core.tokens import BadToken, Token, Tokens, digest

#: Seconds after which a browser has to log in again.
SESSION_SECONDS = 12 * 3600


class Sessions(Client):
    """The sessions of a cluster."""

    def __init__(self, client: ClusterRedis, tokens: Tokens) -> None:
        self._redis: Any = client
        self._prefix = f"{client.prefix}session:"
        self._tokens = tokens

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the sessions of the services' cluster."""
        return cls(services.redis(), services.get(Tokens))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def open(self, token: Token) -> tuple[str, int]:
        """Open a session for a token; return the value of its cookie, and the seconds for which it is valid."""
        cookie, seconds = secrets.token_hex(32), SESSION_SECONDS
        if token.expires is not None:
            now, _ = self._redis.time()
            seconds = max(1, min(seconds, int(token.expires) - int(now)))
        self._redis.set(self._prefix + digest(cookie), token.id, ex=seconds)
        return cookie, seconds

    def verify(self, cookie: str) -> Token:
        """Return the token of a session.

        Raises:
            BadToken: the session has ended, or its token was revoked or has expired.
        """
        token = self._redis.get(self._prefix + digest(cookie))
        if token is None:
            raise BadToken("this session has ended: log in again", code="session_ended")
        return self._tokens.get(token)

    def end(self, cookie: str) -> None:
        """End a session."""
        self._redis.delete(self._prefix + digest(cookie))


def csrf_token(cookie: str) -> str:
    """Return the text that a request with this cookie must send, too, if it changes something."""
    return hmac.new(cookie.encode("utf-8", "replace"), b"csrf", hashlib.sha256).hexdigest()
