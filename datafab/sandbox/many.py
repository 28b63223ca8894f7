"""A catalogue of any size: its datasets are generated on request, always the same ones, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from datafab.sandbox.catalogue import Sandbox

#: Update time of the newest unchanged dataset.
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Many(Sandbox):
    """A catalogue with generated datasets.

    Attributes:
        count: number of datasets.
        each: number of resources of each dataset.
        files: root URL of their files.
        changed: number of datasets, the first ones, that have changed with all of their resources.
        since: time of these changes.
    """

    count: int = 0
    each: int = 5
    files: str = "http://127.0.0.1:9"
    changed: int = 0
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def some(self, sort: str | None, first: int, last: int) -> tuple[list[dict[str, Any]], int]:
        """Return a range of the datasets, and the number of all."""
        if sort != "-last_update":
            msg = f"{sort}: only sort=-last_update is supported"
            raise ValueError(msg)
        return [self._dataset(number) for number in range(first, min(last, self.count))], self.count

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the list of all resources."""
        for number in range(self.count):
            self.datasets = {"": self._dataset(number)}
            yield from super().rows()
        self.datasets = {}

    def _dataset(self, number: int) -> dict[str, Any]:
        at = self.since if number < self.changed else _EPOCH - timedelta(seconds=number)
        name, date = f"{number:024x}", at.isoformat()
        return {
            "id": name,
            "title": f"Effectifs des établissements, jeu {number}",
            "slug": name,
            "created_at": date,
            "last_modified": date,
            "last_update": date,
            "deleted": None,
            "private": False,
            "harvest": None,
            "organization": {"id": f"{number % 997:024x}", "name": f"Commune n° {number % 997}"},
            "resources": [self._file(number, position, date) for position in range(self.each)],
        }

    def _file(self, number: int, position: int, date: str) -> dict[str, Any]:
        name = f"{number:08x}-0000-4000-8000-{position:012x}"
        path = f"resources/effectifs-des-etablissements-{number}/20260101-051200/tableau-{position}.csv"
        return {
            "id": name,
            "title": f"tableau-{position}.csv",
            "description": None,
            "filetype": "file",
            "type": "main",
            "format": "csv",
            "url": f"{self.files}/{path}",
            "checksum": {"type": "sha1", "value": f"{number * 31 + position:040x}"},
            "filesize": 20_000 + number,
            "mime": "text/csv",
            "last_modified": date,
            "harvest": None,
        }
