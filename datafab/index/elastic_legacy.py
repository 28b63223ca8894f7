"""The layout of the original index ``csvmetadtgv``, which is written as well if it is configured, for its old clients.

Its numbers are texts, and each of its 37 formats is a field, so newer formats are left out. Pure.
"""

from __future__ import annotations

from typing import Any

from datafab.core.document import Document, document_id

#: The formats that have a field.
FORMATS = (
    "siret", "commune", "date", "url", "latitude_wgs", "json_geojson", "booleen", "code_commune_insee", "latlon_wgs",
    "code_departement", "latitude_l93", "adresse", "code_postal", "tel_fr", "email", "year", "code_region", "sexe",
    "siren", "code_waldec", "longitude_l93", "pays", "departement", "uai", "region", "iso_country_code", "date_fr",
    "insee_ape700", "code_rna", "code_fantoir", "datetime_iso", "longitude_wgs", "insee_canton", "csp_insee",
    "jour_de_la_semaine", "code_csp_insee", "twitter",
)  # fmt: skip
#: Current names of formats -> their names in the legacy index.
LEGACY_FORMAT_NAMES = {
    "bool": "booleen",
    "code_commune": "code_commune_insee",
    "datetime_naive": "datetime_iso",
    "datetime_aware": "datetime_iso",
    "iso_country_code_alpha2": "iso_country_code",
    "iso_country_code_alpha3": "iso_country_code",
    "iso_country_code_numeric": "iso_country_code",
    "geojson": "json_geojson",
    "username": "twitter",
}
_TEXT_FIELDS = (
    "encoding", "separator", "header_row_idx", "total_lines", "heading_columns", "trailing_columns", "ints_as_floats",
    "continuous", "categorical", "resource_id", "title", "resource_url",
)  # fmt: skip
_KEYWORD_FIELDS = ("header", "dataset_id", "dataset_title")


def legacy_index_template(pattern: str) -> dict[str, Any]:
    """Return the index template for indexes whose names match a pattern."""
    properties: dict[str, Any] = {name: {"type": "text"} for name in _TEXT_FIELDS}
    properties |= {name: {"type": "keyword"} for name in _KEYWORD_FIELDS}
    properties["columns"] = {"properties": {name: {"type": "nested"} for name in FORMATS}}
    return {"index_patterns": [pattern], "template": {"mappings": {"properties": properties}}}


def legacy_bulk_action(index: str, document: Document) -> dict[str, Any]:
    """Return the action of a bulk request that indexes a document."""
    return {
        "_op_type": "index",
        "_index": index,
        "_id": document_id(document.source),
        "version": document.version,
        "version_type": "external_gte",
        "_source": legacy_fields(document),
    }


def legacy_fields(document: Document) -> dict[str, Any]:
    """Return a document as the original software would have written it."""
    columns: dict[str, list[dict[str, Any]]] = {}
    for column in document.cols:
        name = LEGACY_FORMAT_NAMES.get(column.format or "", column.format)
        if name in FORMATS:
            columns.setdefault(name, []).append({"name": column.name, "score_rb": column.score})
    facts = {
        "resource_id": document.source.partition(":")[2] or document.source,
        "title": document.title,
        "resource_url": document.resource_url,
        "dataset_id": document.dataset_id,
        "dataset_title": document.dataset_title,
        "encoding": document.encoding,
        "separator": document.separator,
        "header_row_idx": _text(document.header_row_idx),
        "total_lines": _text(document.total_lines),
        "header": document.header,
        "columns": columns,
        "error": document.error.message if document.error else None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
