"""The index of what was analysed."""

from __future__ import annotations


class Index:
    """Documents, one per source, to be searched."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ping(self) -> None:
        """Raise when the index cannot be used."""

    def close(self) -> None:
        """Close what is open."""
