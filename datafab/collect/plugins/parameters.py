"""The parameters of plugins, from the column ``parameters`` of an ``endpoint.csv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datafab.urls import url_parts

P = TypeVar("P", bound=BaseModel)

GEOJSON, GML, CSV = "application/geo+json", "application/gml+xml", "text/csv"


class ArcgisParameters(BaseModel):
    """Parameters of the plugin ``arcgis``. ``"20"`` and ``20.0`` are 20, as in the original's model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: features of a page, where the server allows more than it can give
    max_page_size: int | None = Field(default=None, gt=0)
    #: time limit of a page in seconds
    timeout: int = Field(default=60, gt=0)
    #: attempts after the first, and the seconds before the first of these
    retries: int = Field(default=2, ge=0)
    retry_backoff_seconds: int = Field(default=2, gt=0)


class WfsParameters(BaseModel):
    """Parameters of the plugin ``wfs``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: features of a page; None: all features in one answer
    page_size: int | None = Field(default=None, gt=0)


def plugin_media_type(plugin: str | None, url: str) -> str | None:
    """Return the media type of the resources of a plugin; None for a plain GET."""
    match plugin:
        case "arcgis":
            return GEOJSON
        case "sparql":
            return CSV
        case "wfs":
            query = {name.lower(): value for name, value in parse_qsl(url_parts(url).query)}
            return GEOJSON if "json" in query.get("outputformat", "").lower() else GML
    return None


def read_parameters(model: type[P], given: Mapping[str, Any] | None) -> tuple[P, str | None]:
    """Return a plugin's parameters, or its defaults and a warning where those given are invalid."""
    try:
        return model.model_validate(given or {}), None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        return model(), f"parameters are ignored, as {name!r} is invalid: {first['msg']}"
