"""csv-detective, behind one function. Only this module knows it."""

from __future__ import annotations

VERSION = "0.13.0-1"


class Detective:
    """Finds out what the columns of a table hold."""
