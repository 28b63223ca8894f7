"""Tokens of callers over HTTP: ``dfb_<id>_<secret>``, printed once when they are created.

Redis keeps the SHA-256 of the secret, which has 256 random bits, so that nothing in Redis, its append-only file or a
backup of it can be sent as a token. Redis's clock decides whether a token has expired. Keys, below ``datafab:1:``:

| key | type | holds |
| --- | --- | --- |
| ``tokens`` | hash | id -> the token as JSON, with the digest of its secret |
| ``token_names`` | hash | name -> id |
| ``token_used`` | hash | id -> when it was last used, accurate to ``USED_SECONDS`` |
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from datafab.core.caller import ANONYMOUS, LOCALHOST, Caller
from datafab.core.redis import ClusterRedis, script
from datafab.core.roles import Role
from datafab.core.services import Client, Services
from datafab.errors import DatafabError, FlowError, NotFound

ID_BYTES, SECRET_BYTES = 6, 32
#: A whole token; an id.
TOKEN_PATTERN = re.compile(rf"dfb_([0-9a-f]{{{2 * ID_BYTES}}})_([0-9a-f]{{{2 * SECRET_BYTES}}})")
_ID = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DURATION = re.compile(r"([1-9][0-9]{0,4})([hdw])")
_SECONDS = {"h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
#: The time of the last use is not written more often than this.
USED_SECONDS = 600.0


class BadToken(DatafabError):
    """A token that is not accepted.

    Attributes:
        token: its id, and its name if it is known; for logs. Empty if it has neither.
    """

    def __init__(self, message: str, *, code: str, token: str = "") -> None:
        super().__init__(message, code=code)
        self.token = token


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token, without its secret. Times are Unix seconds."""

    id: str
    name: str
    role: Role
    created: float
    #: None: it never expires
    expires: float | None = None
    #: the largest number of its jobs that run at the same time; None: no limit
    limit: int | None = None
    last_used: float | None = None

    @property
    def caller(self) -> Caller:
        """The caller who sends this token."""
        return Caller(self.name, self.role, self.limit)

    def dump(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


class Tokens(Client):
    """The tokens of a cluster."""

    def __init__(self, client: ClusterRedis) -> None:
        self._redis: Any = client
        self._kept, self._names, self._used = (client.prefix + key for key in ("tokens", "token_names", "token_used"))
        self._create = script(client, "create_token")
        self._mark_used = script(client, "mark_token_used")

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the tokens of the services' cluster."""
        return cls(services.redis())

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def create(
        self, name: str, role: Role, *, seconds: int | None = None, limit: int | None = None
    ) -> tuple[Token, str]:
        """Create a token; return it, and its text, which is not kept anywhere.

        Args:
            name: by which people know it; unique.
            role: what its holder may do.
            seconds: until it expires; None: never.
            limit: the largest number of its jobs that run at the same time; None: no limit.

        Raises:
            FlowError: the name is taken or invalid, or the limit is.
        """
        _check(name, limit)
        token_id, secret = secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES)
        now = self._now()
        expires = None if seconds is None else now + seconds
        token = Token(id=token_id, name=name, role=role, created=now, expires=expires, limit=limit)
        kept = {key: value for key, value in token.dump().items() if value is not None and key != "id"}
        if not self._create(args=[token_id, name, json.dumps(kept | {"digest": digest(secret)})]):
            msg = f"there is a token {name!r} already: choose another name, or `datafab token revoke {name}` first"
            raise FlowError(msg, code="exists", field="name")
        return token, f"dfb_{token_id}_{secret}"

    def all(self) -> list[Token]:
        """Return the tokens, expired ones too, the oldest first."""
        kept, used = self._redis.hgetall(self._kept), self._redis.hgetall(self._used)
        found = [_read(token_id, text, used.get(token_id)) for token_id, text in kept.items()]
        return sorted((token for token, _ in found), key=lambda token: (token.created, token.id))

    def exist(self) -> bool:
        """Return whether there is a token; one that has expired counts until it is revoked."""
        return bool(self._redis.exists(self._kept))

    def revoke(self, name_or_id: str) -> Token:
        """Delete a token, which ends its sessions too, and return it.

        Raises:
            NotFound: there is none of this name or id.
        """
        token = next((one for one in self.all() if name_or_id in {one.name, one.id}), None)
        if token is None:
            raise NotFound(f"no token {name_or_id!r}; `datafab token list` shows those that exist", field="token")
        with self._redis.pipeline() as pipe:
            pipe.hdel(self._kept, token.id)
            pipe.hdel(self._names, token.name)
            pipe.hdel(self._used, token.id)
            pipe.execute()
        return token

    def verify(self, text: str) -> Token:
        """Return the token that a caller has sent.

        Raises:
            BadToken: it is malformed, unknown, revoked or expired.
        """
        match = TOKEN_PATTERN.fullmatch(text)
        if match is None:
            raise BadToken("this is not a token of datafab: one looks like dfb_<id>_<secret>", code="malformed_token")
        return self._valid(match[1], match[2])

    def get(self, token_id: str) -> Token:
        """Return the token of a session.

        Raises:
            BadToken: it was revoked or has expired.
        """
        return self._valid(token_id, None)

    def _valid(self, token_id: str, secret: str | None) -> Token:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hget(self._kept, token_id)
            pipe.hget(self._used, token_id)
            (seconds, micros), text, used = pipe.execute()
        now = seconds + micros / 1e6
        token, kept = _read(token_id, text, used) if text else (None, "")
        # Compared for unknown ids as well, so that both refusals take the same time.
        if (secret is not None and not hmac.compare_digest(digest(secret), kept)) or token is None:
            msg = "this token is unknown or was revoked: ask an administrator for another (`datafab token create`)"
            raise BadToken(msg, code="unknown_token", token=token_id)
        if token.expires is not None and token.expires <= now:
            msg = f"the token {token.name!r} has expired: ask an administrator for another (`datafab token create`)"
            raise BadToken(msg, code="expired_token", token=f"{token_id} {token.name}")
        if token.last_used is None or now - token.last_used > USED_SECONDS:
            self._mark_used(args=[token_id, now])
            token = replace(token, last_used=now)
        return token

    def _now(self) -> float:
        seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)


def digest(secret: str) -> str:
    """Return what is kept of a secret. It is random and long, so that a plain hash is as good as a slow one."""
    return hashlib.sha256(secret.encode()).hexdigest()


def duration_seconds(text: str) -> int:
    """Return the seconds of a duration such as ``12h``, ``90d`` or ``52w``.

    Raises:
        FlowError: it has another form.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        msg = f"expires: {text!r} is not a number of hours, days or weeks such as 12h, 90d or 52w"
        raise FlowError(msg, code="bad_request", field="expires")
    return int(match[1]) * _SECONDS[match[2]]


def _check(name: str, limit: int | None) -> None:
    if not _NAME.fullmatch(name) or _ID.fullmatch(name) or name in {LOCALHOST, ANONYMOUS}:
        msg = (
            f"{name!r} cannot name a token: use up to 64 letters, digits and . _ @ -, beginning with a letter or digit;"
            f" not {LOCALHOST}, {ANONYMOUS}, or {2 * ID_BYTES} hexadecimal digits, which would look like an id"
        )
        raise FlowError(msg, code="bad_request", field="name")
    if limit is not None and limit < 1:
        raise FlowError(
            f"limit: {limit} jobs at the same time are too few: use 1 or more", code="bad_request", field="limit"
        )


def _read(token_id: str, text: str, used: str | None) -> tuple[Token, str]:
    """Return a token from its JSON, and the digest of its secret."""
    kept: dict[str, Any] = json.loads(text)
    token = Token(
        id=token_id,
        name=kept["name"],
        role=Role(kept["role"]),
        created=kept["created"],
        expires=kept.get("expires"),
        limit=kept.get("limit"),
        last_used=float(used) if used else None,
    )
    return token, kept["digest"]
