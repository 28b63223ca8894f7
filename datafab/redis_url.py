"""The URL of a Redis: one server, or the Sentinels that know which server is the master. Pure."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

REDIS_PORT, SENTINEL_PORT = 6379, 26379
#: scheme -> whether it names Sentinels, and whether connections use TLS
SCHEMES = {"redis": (False, False), "rediss": (False, True), "sentinel": (True, False), "sentinels": (True, True)}
#: Parameters of the URL that are passed on to redis-py, and their types.
CONNECTION_PARAMETERS = {
    "client_name": str,
    "health_check_interval": int,
    "max_connections": int,
    "protocol": int,
    "socket_connect_timeout": float,
    "socket_timeout": float,
}
TLS_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
SENTINEL_PARAMETERS = ("sentinel_username", "sentinel_password")
MAX_PORT = 65535
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:]+)(?::(\d{1,5}))?")
_EXAMPLE = "redis://:password@host:6379/0 or sentinel://:password@host1:26379,host2:26379/mymaster?db=0"


class RedisLocation(NamedTuple):
    """What the URL says."""

    #: host and port of the server, or of each Sentinel
    hosts: tuple[tuple[str, int], ...]
    #: the name by which the Sentinels know the master; None: the URL names the server
    service: str | None
    database: int
    username: str | None
    password: str | None
    tls: bool
    #: parameters of connections, for redis-py
    options: dict[str, Any]
    #: parameters of TLS, likewise
    tls_options: dict[str, str]
    #: ``username`` and ``password`` of the Sentinels
    sentinel_login: dict[str, str]

    def celery_url(self) -> str:
        """Return the URL in the form of kombu and Celery, without its parameters."""
        scheme = "sentinel" if self.service else "rediss" if self.tls else "redis"
        login = ""
        if self.password is not None or self.username is not None:
            login = f"{quote(self.username or '', safe='')}:{quote(self.password or '', safe='')}@"
        return ";".join(f"{scheme}://{login}{_joined(*one)}/{self.database}" for one in self.hosts)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(url: str) -> RedisLocation:
    """Parse the URL of a Redis or of its Sentinels.

    Raises:
        ValueError: it cannot be parsed; the text does not show its password.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        msg = f"must begin with redis://, rediss://, sentinel:// or sentinels://, such as {_EXAMPLE}"
        raise ValueError(msg)
    by_sentinel, tls = SCHEMES[parts.scheme]
    login, at, hosts = parts.netloc.rpartition("@")
    if parts.fragment or (not at and "@" in parts.path + parts.query.partition("=")[0]):
        # What stands in the place of a host or a database is a part of the password, which must not be shown.
        msg = "has a login with a character that must be percent-encoded: '/' is %2F, '?' is %3F, '#' is %23"
        raise ValueError(msg)
    user, _, password = login.partition(":")
    port = SENTINEL_PORT if by_sentinel else REDIS_PORT
    found = tuple(_host(host, port, may_show=bool(at)) for host in hosts.split(","))
    if len(found) > 1 and not by_sentinel:
        msg = f"names {len(found)} hosts: only sentinel:// and sentinels:// can"
        raise ValueError(msg)
    given = _parameters(parts.query, by_sentinel=by_sentinel, tls=tls)
    path = unquote(parts.path).strip("/")
    if by_sentinel and not re.fullmatch(r"[\w.-]+", path):
        msg = f"has no name of the master after the hosts, such as {_EXAMPLE}"
        raise ValueError(msg)
    return RedisLocation(
        hosts=found,
        service=path if by_sentinel else None,
        database=_database(given.get("db", "" if by_sentinel else path)),
        username=unquote(user) or None,
        password=unquote(password) or None,
        tls=tls,
        options={name: _converted(name, given[name]) for name in CONNECTION_PARAMETERS if name in given},
        tls_options={name: given[name] for name in TLS_PARAMETERS if name in given},
        sentinel_login={name.partition("_")[2]: given[name] for name in SENTINEL_PARAMETERS if name in given},
    )


def _host(text: str, default_port: int, *, may_show: bool) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    port = int(match[2] or default_port) if match else 0
    if not match or not 0 < port <= MAX_PORT:
        # Without '@', what follows a colon may be the password.
        shown = repr(text) if may_show or re.fullmatch(r"[^:]+(:\d{0,5})?", text) else "what follows ://"
        msg = f"{shown} is not a host with a port, such as host:{default_port}"
        raise ValueError(msg)
    return match[1].strip("[]"), port


def _database(text: str) -> int:
    if not re.fullmatch(r"\d{0,5}", text, re.ASCII):
        msg = f"the database {text!r} is not a number, such as 0"
        raise ValueError(msg)
    return int(text or 0)


def _converted(name: str, text: str) -> Any:
    try:
        return CONNECTION_PARAMETERS[name](text)
    except ValueError:
        msg = f"{name}={text!r} is not a number"
        raise ValueError(msg) from None


def _parameters(query: str, *, by_sentinel: bool, tls: bool) -> dict[str, str]:
    known = {"db", *CONNECTION_PARAMETERS, *(TLS_PARAMETERS if tls else ())}
    known |= set(SENTINEL_PARAMETERS) if by_sentinel else set()
    found = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(found.keys() - known):
        msg = f"unknown parameter {unknown[0]!r}; use {', '.join(sorted(known))}"
        if unknown[0].startswith("ssl_"):
            msg = f"{unknown[0]!r} needs TLS: begin the URL with rediss:// or sentinels://"
        raise ValueError(msg)
    return found
