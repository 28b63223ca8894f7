"""Who may call which route: the one table. An application with a route that is not in it does not start."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from flask import Flask

from datafab.core.roles import Role
from datafab.errors import SettingError


class Door(StrEnum):
    """The access of routes for which no role is needed."""

    #: anybody may call it
    OPEN = "open"
    #: the route itself checks a key of the service that calls it
    OWN_KEY = "own key"


#: The role that a route needs, by Flask's name of the view. It may need a higher one for some requests: see
#: ``webhook.caller.require_role``.
ACCESS: Mapping[str, Role | Door] = {
    "health.health": Door.OPEN,
    "health.ready": Role.VIEWER,
    "metrics.metrics": Role.VIEWER,
    "openapi.describe": Door.OPEN,
    "login.log_in": Door.OPEN,
    "login.log_out": Role.VIEWER,
    "login.show_caller": Role.VIEWER,
    "api.enqueue": Role.OPERATOR,
    "api.list_jobs": Role.VIEWER,
    "api.show_job": Role.VIEWER,
    "api.retry_job": Role.OPERATOR,
    "api.cancel_job": Role.OPERATOR,
    "api.show_bad_rows": Role.OPERATOR,
    "api.show_source": Role.VIEWER,
    "api.check_url": Role.OPERATOR,
    "api.show_check": Role.VIEWER,
    "api.list_flows": Role.VIEWER,
    "api.search": Role.VIEWER,
    "tokens.list_tokens": Role.ADMIN,
    "tokens.create_token": Role.ADMIN,
    "tokens.revoke_token": Role.ADMIN,
    "hooks.receive_link_proxy": Door.OWN_KEY,
    "hooks.receive_entrepot": Door.OWN_KEY,
    "hydra.create": Door.OWN_KEY,
    "hydra.update": Door.OWN_KEY,
    "hydra.delete": Door.OWN_KEY,
    "datapusher.index": Door.OWN_KEY,
    "datapusher.sums": Door.OWN_KEY,
    "datapusher.submit": Door.OWN_KEY,
    "datapusher.listing": Door.OWN_KEY,
    "datapusher.one": Door.OWN_KEY,
    "datapusher.data": Door.OWN_KEY,
    "datapusher.delete": Door.OWN_KEY,
    "datapusher.admin": Door.OWN_KEY,
    "datapusher.unknown": Door.OWN_KEY,
}


def check_table(app: Flask, access: Mapping[str, Role | Door] = ACCESS) -> None:
    """Raise SettingError unless the table has every route of an application."""
    missing = sorted({rule.endpoint for rule in app.url_map.iter_rules()} - access.keys())
    if missing:
        raise SettingError(f"no role is stated for {', '.join(missing)}: add it to ACCESS in webhook/access.py")
