"""The name and the media type of a file that came over HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.message import Message
from urllib.parse import unquote

from datafab.urls import url_parts

#: Longer names are cut at the front, so that the ending stays.
MAX_NAME_CHARS = 200

_EXTENDED = re.compile(r"filename\*\s*=\s*([\w-]*)'[^']*'([^;\s]+)", re.IGNORECASE)


def filename(headers: Mapping[str, str], url: str) -> str | None:
    """Return the file name of Content-Disposition, else the last part of the URL's path; None when there is neither.

    The name has neither folders nor control characters.
    """
    name = _disposition(_header(headers, "content-disposition")) or unquote(url_parts(url).path)
    name = re.sub(r"[\x00-\x1f\x7f]", "", name).replace("\\", "/").rstrip("/").rpartition("/")[2].strip()
    return name[-MAX_NAME_CHARS:] if name not in {"", ".", ".."} else None


def media_type(headers: Mapping[str, str]) -> str | None:
    """Return the Content-Type in lower case and without parameters; None when there is none."""
    return _header(headers, "content-type").partition(";")[0].strip().lower() or None


def _header(headers: Mapping[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")


def _disposition(value: str) -> str:
    if "filename" not in value.lower():
        return ""
    extended = _EXTENDED.search(value)
    if extended:  # RFC 6266: it takes precedence over a plain filename
        return unquote(extended[2], "latin-1" if extended[1].lower() == "iso-8859-1" else "utf-8")
    message = Message()
    message["Content-Disposition"] = value.replace("\n", "").replace("\r", "")
    name = message.get_filename("")
    try:
        # Many servers write UTF-8 where HTTP says latin-1.
        return name.encode("latin-1").decode()
    except UnicodeError:
        return name
