"""A Redis that answers, but cannot do what it is asked for the time being: it is full, read-only, or loads its data.

Such an answer becomes a connection error, so that everything waits for this Redis as for one that is away. Redis
refuses a script or transaction as a whole, before its first write, so it can be sent again.
"""

from __future__ import annotations

import re
from typing import Any

import redis
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from datafab.settings import Settings

#: Code of the answer -> what it means, and what to do.
REFUSALS = {
    "OOM": "Redis is full: raise its maxmemory",
    "READONLY": "this Redis is a replica: name the master in DATAFAB_REDIS_URL, or its Sentinels (sentinel://)",
    "MISCONF": "Redis cannot write to its disk: make room there, see its log",
    "NOREPLICAS": "Redis has fewer replicas than min-replicas-to-write: start them",
    "MASTERDOWN": "this Redis is a replica that has lost its master",
    "UNBLOCKED": "this Redis was the master until now, and is a replica",
    "BUSY": "Redis is busy with a script",
}
#: What Redis 6.2 writes when a command of a script is refused.
_IN_SCRIPT = re.compile(r"-(OOM|READONLY|MISCONF|NOREPLICAS|MASTERDOWN) ")


class RedisRefuses(RedisConnectionError):
    """Redis refuses for the time being.

    Args:
        code: one of ``REFUSALS``.
        answer: what Redis has answered.
    """

    def __init__(self, code: str, answer: str) -> None:
        super().__init__(f"{REFUSALS[code]} ({code} {answer.removeprefix(code).strip()})")
        self.code = code


def refusal(error: ResponseError) -> RedisRefuses | None:
    """Return the refusal that an answer is; None: it is another error."""
    answer = str(error)
    code = getattr(error, "status_code", None) or answer.partition(" ")[0]
    if code not in REFUSALS:
        within = _IN_SCRIPT.search(answer)
        code = within[1] if within else None
    return RedisRefuses(code, answer) if code else None


class RefusalsAsOutages:
    """A mixin of clients and pipelines of redis-py, which raise ``RedisRefuses``."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read an answer."""
        try:
            return super().parse_response(connection, command_name, **options)  # type: ignore[misc]
        except ResponseError as error:
            # After WATCH, redis-py takes a connection error for a changed key, and its caller would repeat at once.
            if getattr(self, "watching", False) or (found := refusal(error)) is None:
                raise
            raise found from error


class WaitingPipeline(RefusalsAsOutages, Pipeline):
    """A pipeline that raises ``RedisRefuses``."""


class WaitingRedis(RefusalsAsOutages, redis.Redis):
    """A client that raises ``RedisRefuses``."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Return a pipeline that does so too."""
        return WaitingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


#: Part of the text of a connection error -> what to do.
_CAUSES = {
    "CERTIFICATE_VERIFY_FAILED": (
        "the certificate of Redis is not trusted: DATAFAB_REDIS_CA must be the file of the authority that has signed"
        " it, and DATAFAB_REDIS_URL must name the host as the certificate does"
    ),
    "CERTIFICATE_REQUIRED": "Redis asks for a certificate: set DATAFAB_REDIS_CERT and DATAFAB_REDIS_KEY",
    "UNKNOWN_CA": "Redis does not trust the certificate of DATAFAB_REDIS_CERT",
    "KEY_VALUES_MISMATCH": "the key of DATAFAB_REDIS_KEY does not belong to the certificate of DATAFAB_REDIS_CERT",
    "Timeout connecting to server": "Redis does not answer (with rediss://: does it use TLS on that port?)",
    "WRONG_VERSION_NUMBER": "Redis does not use TLS on this port: DATAFAB_REDIS_URL must begin with redis://",
    "PEM lib": "DATAFAB_REDIS_CERT or DATAFAB_REDIS_KEY is no certificate with its key in PEM",
    "NO_CERTIFICATE_OR_CRL_FOUND": "DATAFAB_REDIS_CA holds no certificate in PEM",
    "No master found": "no Sentinel knows the master: correct its name and the hosts in DATAFAB_REDIS_URL",
    "invalid username-password": "correct the user and the password in DATAFAB_REDIS_URL",
    "Authentication required": "DATAFAB_REDIS_URL has no password",
    "invalid password": "correct the password in DATAFAB_REDIS_URL",
}
#: How a connection ends that lacks a certificate, if it does not get to read why.
_BROKEN_OFF = ("EOF occurred", "Connection reset", "Broken pipe", "closed by server")


def explain(error: RedisError, settings: Settings) -> str:
    """Return the text of an error, and before it the setting to correct if that is known."""
    text = f"{type(error).__name__}: {error}"
    cause = next((cause for part, cause in _CAUSES.items() if part in text), None)
    tls = str(settings.redis_url).startswith(("rediss:", "sentinels:"))
    if cause is None and tls and settings.redis_cert is None and any(part in text for part in _BROKEN_OFF):
        cause = _CAUSES["CERTIFICATE_REQUIRED"]
    return f"{cause} ({text})" if cause else text
