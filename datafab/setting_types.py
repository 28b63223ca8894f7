"""Types of settings: how the text of an environment variable is parsed and checked. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from datafab import redis_url
from datafab.urls import has_login

#: A part of DATAFAB_PUBLIC_URL: a URL without login and query, or a host name alone.
_PUBLIC = re.compile(
    r"https?://(?:[\w.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?(?:/[^?#\s]*)?|[\w.-]+", re.IGNORECASE | re.ASCII
)


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _check_networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for part in value:
        if part != "*":
            ip_network(part, strict=False)
    return value


def _check_sizes(value: tuple[str, ...]) -> tuple[str, ...]:
    for part in value:
        if not re.fullmatch(r"[a-z0-9.]+=[0-9]+", part):
            msg = f"{part!r} is not a format with a number of bytes, such as xlsx=50000000"
            raise ValueError(msg)
    return value


def _absolute_folder(value: str) -> str:
    """Make a folder absolute, because the processes of a host may have different working folders."""
    return str(Path(value).absolute()) if value and not urlsplit(value).scheme else value


def _check_redis_url(value: str) -> str:
    redis_url.parse(value)
    return value


def _check_key_prefix(value: str) -> str:
    """Refuse what has a meaning in patterns of keys, and the colon: no prefix may be the start of another's keys."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
        msg = "use up to 64 letters, digits, '.', '_' and '-', such as datafab-test"
        raise ValueError(msg)
    return value


def _check_root_url(value: str) -> str:
    """Remove slashes from the end, because paths are appended to it."""
    if not value.lower().startswith(("http://", "https://")):
        msg = "must begin with http:// or https://"
        raise ValueError(msg)
    return value.rstrip("/")


def _check_public(value: str) -> str:
    for part in value.split(","):
        if part.strip() and not _PUBLIC.fullmatch(part.strip()):
            msg = f"{part.strip()!r} is neither a URL (https://data.example.org) nor a host name (webhook)"
            raise ValueError(msg)
    return value


def _check_no_login(value: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse logins: they would be sent in the place of the API key, and the URLs are shown to everybody."""
    if any(has_login(part) for part in value):
        msg = "the URL of a CKAN must not hold a user or a password: CKAN is shown the API key alone"
        raise ValueError(msg)
    return value


def _check_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        msg = f"there is no time zone {value!r}; use a name such as Europe/Paris"
        raise ValueError(msg) from error
    return value


#: Texts separated by commas; NoDecode, or else pydantic-settings would read JSON.
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
#: URLs without a user and a password, separated by commas.
UrlsWithoutLogin = Annotated[Texts, AfterValidator(_check_no_login)]
#: Networks (``10.0.0.0/8``) and addresses separated by commas, or ``*``.
Networks = Annotated[Texts, AfterValidator(_check_networks)]
#: Formats with a number of bytes, separated by commas: ``xlsx=50000000,ods=10000000``.
Sizes = Annotated[Texts, AfterValidator(_check_sizes)]
#: A folder, made absolute, or a URL.
Folder = Annotated[str, AfterValidator(_absolute_folder)]
#: A path, made absolute.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url)]
#: The first part of keys in Redis.
KeyPrefix = Annotated[str, AfterValidator(_check_key_prefix)]
#: An HTTP URL without a slash at its end.
RootUrl = Annotated[str, AfterValidator(_check_root_url)]
#: URLs and host names separated by commas.
PublicUrl = Annotated[str, AfterValidator(_check_public)]
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
