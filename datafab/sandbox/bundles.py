"""The bundles that link-proxy extracts from a file: one, or one for each file of a known type in an archive.

Source: geodatagouv/link-proxy, ``jobs/check/flatten.js``, ``jobs/check/upload.js``, ``lib/utils/store.js``, and some
types of its ``types.yml``.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import unicodedata
import zipfile
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

_TYPES = {
    "csv": ("csv", "tsv"),
    "xls": ("xls", "xlsx", "ods"),
    "gpkg": ("gpkg",),
    "geojson": ("geojson",),
    "gpx": ("gpx",),
    "kml": ("kml",),
    "document": ("pdf", "doc", "docx", "odt"),
}
_SHAPE = ("shp", "dbf", "prj", "shx", "cpg")


@dataclass(frozen=True, slots=True)
class Bundle:
    """Files that belong together, as one file: if there are several, a zip."""

    path: str
    type: str
    archive: bool
    files: list[dict[str, Any]]
    content: bytes

    @property
    def name(self) -> str:
        """The name of its first file."""
        return PurePosixPath(self.path).name

    def key(self, location: str, day: date, download: str) -> str:
        """Return its key in the bucket."""
        file = str(PurePosixPath(self.path).with_suffix(".zip")) if self.archive else self.path
        plain = unicodedata.normalize("NFKD", file).encode("ascii", "ignore").decode()
        return f"{urlsplit(location).hostname}/{day}/{download}/{re.sub('[-_]+', '-', plain).lower()}"


def etag(content: bytes) -> str:
    """Return the ETag that S3 gives a file of this content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def bundles(location: str, body: bytes) -> list[Bundle]:
    """Return the bundles of a fetched file."""
    name = PurePosixPath(unquote(urlsplit(location).path)).name or "file"
    if zipfile.is_zipfile(io.BytesIO(body)) and name.lower().endswith(".zip"):
        try:
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                return _sorted({info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()})
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError):  # damaged, encrypted, or an unknown compression
            return []
    return _sorted({name: body})


def _sorted(files: dict[str, bytes]) -> list[Bundle]:
    found: list[Bundle] = []
    shapes: dict[str, dict[str, bytes]] = {}
    for path, content in files.items():
        suffix = PurePosixPath(path).suffix.removeprefix(".").lower()
        kind = next((kind for kind, suffixes in _TYPES.items() if suffix in suffixes), None)
        if suffix in _SHAPE:
            shapes.setdefault(str(PurePosixPath(path).with_suffix("")), {})[path] = content
        elif kind is not None:
            found.append(Bundle(path, kind, archive=False, files=[_file(path, content)], content=content))
    return found + [_shape(stem, parts) for stem, parts in shapes.items() if f"{stem}.shp" in parts]


def _shape(stem: str, parts: dict[str, bytes]) -> Bundle:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, content in parts.items():
            archive.writestr(zipfile.ZipInfo(PurePosixPath(path).name), content)
    files = [_file(path, content) for path, content in parts.items()]
    return Bundle(f"{stem}.shp", "shp", archive=True, files=files, content=packed.getvalue())


def _file(path: str, content: bytes) -> dict[str, Any]:
    digest = base64.b64encode(hashlib.sha384(content).digest()).decode()
    return {"name": PurePosixPath(path).name, "size": len(content), "digest": f"sha384-{digest}"}
