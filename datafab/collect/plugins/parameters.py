"""What the column ``parameters`` of an ``endpoint.csv`` may say to a plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datafab.urls import url_parts

P = TypeVar("P", bound=BaseModel)

GEOJSON, GML, CSV = "application/geo+json", "application/gml+xml", "text/csv"


class ArcgisParameters(BaseModel):
    """How a layer is read. ``"20"`` and ``20.0`` are 20, as in the original's model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: features asked for at once, where the server allows more than it can give
    max_page_size: int | None = Field(default=None, gt=0)
    #: seconds for one page
    timeout: int = Field(default=60, gt=0)
    #: further tries, and the seconds before the first of them
    retries: int = Field(default=2, ge=0)
    retry_backoff_seconds: int = Field(default=2, gt=0)


class WfsParameters(BaseModel):
    """How a WFS server is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: features asked for at once; None: all in one answer
    page_size: int | None = Field(default=None, gt=0)


def made_type(plugin: str | None, url: str) -> str | None:
    """Return the type of what a plugin makes of several answers, or of another form than the server's."""
    match plugin:
        case "arcgis":
            return GEOJSON
        case "sparql":
            return CSV
        case "wfs":
            query = {name.lower(): value for name, value in parse_qsl(url_parts(url).query)}
            return GEOJSON if "json" in query.get("outputformat", "").lower() else GML
    return None


def parameters_of(model: type[P], given: Mapping[str, Any] | None) -> tuple[P, str | None]:
    """Return a plugin's parameters, or its usual ones and a warning where those given are no good."""
    try:
        return model.model_validate(given or {}), None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        return model(), f"parameters are ignored, as {name!r} is no good: {first['msg']}"
