"""The views below ``/api/tokens``: administrators create, list and revoke tokens."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint
from pydantic import BaseModel, ConfigDict, Field

from datafab.core.roles import Role
from datafab.core.tokens import Tokens, duration_seconds
from webhook.body import body
from webhook.site import backend

routes = Blueprint("tokens", __name__, url_prefix="/api/tokens")


class NewToken(BaseModel):
    """Body of ``POST /api/tokens``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    role: Role
    #: hours, days or weeks: ``12h``, ``90d``, ``52w``; null: it never expires
    expires: str | None = None
    #: largest number of its jobs that run at the same time; null: no limit
    limit: int | None = Field(default=None, ge=1, le=1_000_000)


@routes.get("")
def list_tokens() -> dict[str, Any]:
    """List the tokens without their secrets, the oldest first."""
    return {"tokens": [token.dump() for token in backend().services.get(Tokens).all()]}


@routes.post("")
def create_token() -> tuple[dict[str, Any], HTTPStatus]:
    """Create a token: `token` is its text, which is shown only here."""
    wanted = body(NewToken)
    seconds = None if wanted.expires is None else duration_seconds(wanted.expires)
    tokens = backend().services.get(Tokens)
    token, text = tokens.create(wanted.name, wanted.role, seconds=seconds, limit=wanted.limit)
    return token.dump() | {"token": text}, HTTPStatus.CREATED


@routes.delete("/<name>")
def revoke_token(name: str) -> dict[str, Any]:
    """Revoke the token of this name or id; its sessions end with it."""
    return backend().services.get(Tokens).revoke(name).dump()
