"""The login of the embedded cluster's Flower: generated once, and stored in the home, readable by its owner only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from datafab.errors import SettingError

#: The file in the home that holds the password.
FILE = "flower.password"
USER = "datafab"


def flower_login(home: Path) -> str:
    """Return ``user:password``. A password file that other users can read is replaced.

    Raises:
        SettingError: the file cannot be read or written.
    """
    path = home / FILE
    try:
        password = _read_private(path)
        if not password:
            password = secrets.token_urlsafe(24)
            _write_private(path, password)
    except OSError as error:
        msg = f"{path}: {error.strerror}; this file holds the password of Flower: make it readable, or remove it"
        raise SettingError(msg, field="DATAFAB_HOME") from error
    return f"{USER}:{password}"


def _read_private(path: Path) -> str:
    """Return the password, or an empty string if there is none that only this user can have read."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    with os.fdopen(number, "rb") as file:
        facts = os.fstat(number)
        secret = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077
        return file.read(256).decode(errors="replace").strip() if secret else ""


def _write_private(path: Path, password: str) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password + "\n")
    new.replace(path)
