"""Downloads within limits (being written)."""

from __future__ import annotations

from datafab.settings import Settings


class Fetcher:
    """Downloads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def close(self) -> None:
        """Close what was opened."""
