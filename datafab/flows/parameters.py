"""The parameters of a job that flows know by name: those that every job may have, and those that none may."""

from __future__ import annotations

#: Parameters that every job may have.
COMMON = frozenset({"then", "when", "priority"})
#: Names of secrets: parameters travel in messages and anyone may read them, so a secret must not be one of them.
SECRETS = frozenset({"api_key", "apikey", "hook_key", "job_key", "password", "secret", "token"})


def is_secret(name: str) -> bool:
    """Return whether a parameter's name is that of a secret, however it is written: ``API-Key`` is ``api_key``."""
    return name.lower().replace("-", "_") in SECRETS
