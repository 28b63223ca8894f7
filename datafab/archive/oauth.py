"""Tokens of an OAuth 2 server, cached until shortly before they expire, for all threads of a process."""

from __future__ import annotations

import threading
import time

from datafab.errors import Fatal, SettingError
from datafab.fetch.json_api import JsonApi
from datafab.settings import Settings

#: Fraction of its lifetime after which a token is replaced.
REFRESH_FRACTION = 0.8
#: Codes of the errors for wrong credentials.
_WRONG_CREDENTIALS = frozenset({"entrepot_token_400", "entrepot_token_401", "entrepot_token_403"})


class Tokens:
    """The tokens of the entrepôt's user (password grant), or of the client if no user is set."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        setting = "DATAFAB_ENTREPOT_TOKEN_URL"
        self._api = JsonApi(settings, service="entrepot_token", setting=setting, private=("*",), proxy=True)
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def current(self, rejected: str = "") -> str:
        """Return a token; a new one if the cached token is about to expire, or is the one that was rejected.

        Raises:
            SettingError: no credentials are set.
            Fatal: the credentials are refused.
            Retriable: the server is unavailable.
        """
        with self._lock:
            if time.monotonic() >= self._until or self._token == rejected:
                self._token, life = self._request_token()
                self._until = time.monotonic() + REFRESH_FRACTION * life
            return self._token

    def _request_token(self) -> tuple[str, float]:
        settings = self._settings
        if not settings.entrepot_client_id:
            msg = "DATAFAB_ENTREPOT_CLIENT_ID is not set: an entrepôt requires the token of a client"
            raise SettingError(msg, field="DATAFAB_ENTREPOT_CLIENT_ID")
        form = {"grant_type": "client_credentials", "client_id": settings.entrepot_client_id}
        if settings.entrepot_client_secret:
            form["client_secret"] = settings.entrepot_client_secret
        if settings.entrepot_login:
            form |= {"grant_type": "password", "username": settings.entrepot_login}
            form["password"] = settings.entrepot_password or ""
        try:
            reply = self._api.request("POST", settings.entrepot_token_url, data=form)
        except Fatal as error:
            if error.code not in _WRONG_CREDENTIALS:
                raise
            reason = error.message.partition("; is ")[0]
            msg = f"{reason}; are DATAFAB_ENTREPOT_CLIENT_ID, _LOGIN and their secrets right?"
            raise Fatal(msg, code="entrepot_login", field="DATAFAB_ENTREPOT_LOGIN") from error
        answer = reply.document()
        token, life = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token or not isinstance(life, int | float):
            raise reply.bad_answer("it lacks access_token or expires_in")
        return token, float(life)
