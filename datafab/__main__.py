"""``datafab``, or ``python -m datafab``: the command line."""

from __future__ import annotations

import sys

from datafab.errors import SettingError


def main() -> None:
    """Run the command line, or print which setting is invalid."""
    try:
        from datafab.cli.main import main as commands  # noqa: PLC0415 - importing it reads the settings
    except SettingError as error:
        sys.exit(f"error: {error.message}")
    commands()


if __name__ == "__main__":
    main()
