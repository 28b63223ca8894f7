"""The Elasticsearch index template and the fields of a document. Pure.

In addition to the members of a document, three fields serve searches:

- ``folded``: the searched words without case and accents, so that results do not depend on the server's analyzers
  (``datafab/index/folding.py``; queries are folded in the same way);
- ``columns``: formats with the names of their columns, for queries written for the original index;
- ``detected_at``: the document's version as a date.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from datafab.core.document import Column, Document, document_id
from datafab.errors import FlowError
from datafab.index.searchable import Searchable

#: Version of the mapping below; ``datafab index migrate`` upgrades an index to it.
SCHEMA_VERSION = 1
#: Fields that only serve searches.
SEARCH_FIELDS = ("folded", "columns", "detected_at")
#: Maximum characters of a keyword that can be searched by its whole value: Lucene accepts 32,766 bytes.
_MAX_KEYWORD_CHARS = 8191

_Field = dict[str, Any]


def _keyword(longest: int = _MAX_KEYWORD_CHARS) -> _Field:
    return {"type": "keyword", "ignore_above": longest}


def _text(analyzer: str) -> _Field:
    return {"type": "text", "analyzer": analyzer, "fields": {"keyword": _keyword(512)}}


def _folded_properties() -> _Field:
    folded: _Field = {"type": "text", "analyzer": "whitespace", "position_increment_gap": 100}
    keyword = _keyword()
    return {
        "title": folded,
        "dataset": folded,
        "organisation": folded,
        "column": folded,
        "formats": folded,
        "format": keyword,
        "type": keyword,
        "domain": keyword,
        "status": keyword,
        "title_key": _keyword(512),
    }


def _properties(analyzer: str, normalizer: str) -> _Field:
    keyword, text, integer, long = _keyword(), _text(analyzer), {"type": "integer"}, {"type": "long"}
    column = {
        "name": keyword,
        "position": integer,
        "format": keyword,
        "python_type": keyword,
        "score": {"type": "half_float"},
        "date_format": keyword,
    }
    return {
        "source": keyword,
        "version": long,
        "status": keyword,
        "title": text,
        "error": {"properties": {"type": keyword, "message": {"type": "text"}, "field": keyword}},
        "resource_url": keyword,
        "domain": keyword,
        "dataset_id": keyword,
        "dataset_title": text,
        "organisation": text,
        "sha256": keyword,
        "mime": keyword,
        "filesize": long,
        "analyzer_version": keyword,
        "encoding": keyword,
        "separator": keyword,
        "engine": keyword,
        "compression": keyword,
        "sampled": {"type": "boolean"},
        "total_lines": long,
        "nb_columns": integer,
        "header_row_idx": integer,
        "modified": {"type": "date"},
        "header": {**keyword, "normalizer": normalizer, "fields": {"text": {"type": "text", "analyzer": analyzer}}},
        "formats": keyword,
        "cols": {"type": "nested", "dynamic": "strict", "properties": column},
        "columns": {"type": "flattened", "ignore_above": _MAX_KEYWORD_CHARS},
        "detected_at": {"type": "date", "format": "epoch_millis"},
        "folded": {"properties": _folded_properties()},
    }


def index_template(pattern: str, *, french: bool, asciifolding: bool) -> _Field:
    """Return the index template.

    Args:
        pattern: of the names of the indexes.
        french: whether the server has the analyzer ``french``; otherwise ``standard`` is used.
        asciifolding: whether the server has that filter; otherwise header names are only lower-cased.
    """
    analyzer = "french" if french else "standard"
    normalizer = "folded" if asciifolding else "lowercase"
    analysis = {"normalizer": {"folded": {"type": "custom", "filter": ["lowercase", "asciifolding"]}}}
    return {
        "index_patterns": [pattern],
        "version": SCHEMA_VERSION,
        "_meta": {"schema_version": SCHEMA_VERSION, "analyzer": analyzer, "normalizer": normalizer},
        "template": {
            "settings": {"analysis": analysis} if asciifolding else {},
            "mappings": {
                "dynamic": "strict",
                "_meta": {"schema_version": SCHEMA_VERSION, "analyzer": analyzer, "normalizer": normalizer},
                "properties": _properties(analyzer, normalizer),
            },
        },
    }


def document_fields(document: Document) -> bytes:
    """Return the fields of a document in the index, as JSON."""
    searchable = Searchable.of(document)
    folded: _Field = {
        "title": searchable.title,
        "dataset": searchable.dataset,
        "organisation": searchable.organisation,
        "column": searchable.column,
        "formats": searchable.formats,
        **searchable.exact,
        "title_key": searchable.title_key,
    }
    views = {"detected_at": document.version, "columns": _columns(document.cols), "folded": folded}
    facts = document.model_dump_json(exclude_none=True).encode()
    return b"%b,%b" % (facts[:-1], to_json(views)[1:])


def bulk_action(index: str, document: Document, version_type: str = "external_gte") -> _Field:
    """Return the action of a bulk request that indexes a document."""
    return {
        "_op_type": "index",
        "_index": index,
        "_id": document_id(document.source),
        "version": document.version,
        "version_type": version_type,
        "_source": document_fields(document),
    }


def read_document(fields: Mapping[str, Any]) -> Document:
    """Return a document from its fields in the index.

    Raises:
        FlowError: they are not those of a document.
    """
    try:
        return Document.model_validate({name: value for name, value in fields.items() if name not in SEARCH_FIELDS})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        msg = f"{fields.get('source')} is not a document of this datafab ({first['loc'][0]}: {first['msg']}): delete it"
        raise FlowError(msg, code="index", field=str(first["loc"][0])) from error


def _columns(cols: Iterable[Column]) -> _Field:
    found: dict[str, list[str]] = defaultdict(list)
    for column in cols:
        if column.format:
            # A flattened field takes no null bytes, and `exists` sees values below a key, not objects.
            found[column.format].append(column.name.replace("\0", " "))
    return found
