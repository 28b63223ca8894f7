"""Refuse to open the webhook to other hosts before there is a token: nobody could use it, or everybody."""

from __future__ import annotations

from datafab.core.hosts_allowed import is_loopback
from datafab.core.tokens import Tokens
from datafab.errors import SettingError
from datafab.settings import Settings


def is_exposed(settings: Settings) -> bool:
    """Return whether other hosts can connect to ``DATAFAB_BIND``, and have to show a token there."""
    host = settings.bind.rpartition(":")[0].removeprefix("[").removesuffix("]")
    return not is_loopback(host) and settings.anonymous is None


def check_exposed(settings: Settings, tokens: Tokens) -> None:
    """Raise SettingError if other hosts can connect and there is no token."""
    if is_exposed(settings) and not tokens.exist():
        msg = (
            f"DATAFAB_BIND={settings.bind}: other hosts can connect there, and there is no token for them yet: run "
            "`datafab token create NAME --role admin` first, or set DATAFAB_BIND=127.0.0.1:8800"
        )
        raise SettingError(msg, field="DATAFAB_BIND")
