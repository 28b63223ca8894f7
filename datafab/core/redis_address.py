"""Connections to the cluster's Redis: one place makes the options of redis-py, of Celery's broker and of its results.

A URL may name one server, or the Sentinels that know which server is the master; either with TLS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection
from redis.retry import Retry
from redis.sentinel import Sentinel

from datafab.errors import SettingError
from datafab.redis_url import RedisLocation, parse
from datafab.settings import Settings

#: Setting -> the name of redis-py and kombu.
_FILES = {"redis_ca": "ssl_ca_certs", "redis_cert": "ssl_certfile", "redis_key": "ssl_keyfile"}
#: Seconds that a Sentinel has to answer: another is asked after that.
SENTINEL_SECONDS = 2.0


class RedisAddress:
    """Where the cluster's Redis is, and how it is reached.

    Args:
        settings: with ``redis_url``.

    Raises:
        SettingError: the settings do not fit together, or name a file that cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self.location = parse(str(settings.redis_url))
        self.tls = _tls(settings, self.location)

    def pool(self, **options: Any) -> redis.ConnectionPool:
        """Return a pool of connections to the server, or to the present master.

        Args:
            options: of each connection; those in the URL take precedence.
        """
        at = self.location
        options |= {"db": at.database, "username": at.username, "password": at.password, **at.options, **self.tls}
        if at.service is None:
            ((host, port),) = at.hosts
            kind: Any = SSLConnection if at.tls else redis.Connection
            return redis.ConnectionPool(kind, host=host, port=port, **options)
        if at.tls:
            options["ssl"] = True
        sentinel: Any = Sentinel(at.hosts, sentinel_kwargs=self._sentinel_options(), **options)  # type: ignore[no-untyped-call]
        return cast("redis.ConnectionPool", sentinel.master_for(at.service).connection_pool)

    def celery_options(self) -> dict[str, Any]:
        """Return Celery's settings of the broker and of the results."""
        url = self.location.celery_url()
        tls = {"broker_use_ssl": self.tls, "redis_backend_use_ssl": self.tls} if self.location.tls else {}
        return {"broker_url": url, "result_backend": url, **tls}

    def transport_options(self) -> dict[str, Any]:
        """Return the options with which Celery finds the master."""
        if self.location.service is None:
            return {}
        return {"master_name": self.location.service, "sentinel_kwargs": self._sentinel_options()}

    def _sentinel_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
        options |= {"retry": Retry(NoBackoff(), 0), **self.location.sentinel_login}  # another Sentinel is asked
        return options | ({"ssl": True, **self.tls} if self.location.tls else {})


def _tls(settings: Settings, location: RedisLocation) -> dict[str, Any]:
    """Return the options of TLS; those of the settings take precedence over those of the URL."""
    files = {name: getattr(settings, name) for name in _FILES if getattr(settings, name) is not None}
    for name, path in files.items():
        _check_file(f"DATAFAB_{name.upper()}", path, location)
    if "redis_key" in files and "redis_cert" not in files:
        msg = "DATAFAB_REDIS_KEY is set without the certificate that it belongs to: set DATAFAB_REDIS_CERT"
        raise SettingError(msg, field="DATAFAB_REDIS_CERT")
    if not location.tls:
        return {}
    options: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **location.tls_options}
    options["ssl_cert_reqs"] = str(options["ssl_cert_reqs"]).lower().removeprefix("cert_")
    if options["ssl_cert_reqs"] not in {"required", "optional", "none"}:
        msg = "DATAFAB_REDIS_URL: ssl_cert_reqs is required, optional or none"
        raise SettingError(msg, field="DATAFAB_REDIS_URL")
    options["ssl_check_hostname"] = str(options["ssl_check_hostname"]).lower() not in {"false", "0", "no", "off"}
    if options["ssl_cert_reqs"] == "none":
        options["ssl_check_hostname"] = False  # ssl refuses to compare the name of a certificate that it does not check
    if settings.ca_bundle is not None and "ssl_ca_certs" not in options:
        options["ssl_ca_certs"] = str(settings.ca_bundle.absolute())
    return options | {_FILES[name]: str(path) for name, path in files.items()}


def _check_file(setting: str, path: Path, location: RedisLocation) -> None:
    if not location.tls:
        msg = f"{setting} is set, but DATAFAB_REDIS_URL is without TLS: begin it with rediss:// or sentinels://"
        raise SettingError(msg, field=setting)
    try:
        path.open("rb").close()
    except OSError as error:
        msg = f"{setting}={path}: {error.strerror}"
        raise SettingError(msg, field=setting) from error
