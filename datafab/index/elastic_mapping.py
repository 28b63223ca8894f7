"""How a document lies in Elasticsearch: the template of its index, and its fields there. Pure.

Beside what a document says stand three views of it:

- ``folded``: the words that a search looks for, without case and accents, so that finding does not depend on the
  server's analyzers (``datafab/index/folding.py``; a query is folded in the same way);
- ``columns``: formats with the names of their columns, so that what was asked of the original finds them;
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

#: Version of what stands below; a new one is brought to an index by ``datafab index migrate``.
SCHEMA = 1
#: What only a search needs.
VIEWS = ("folded", "columns", "detected_at")
#: A keyword of more characters is kept, and not to be found by its whole value: Lucene takes 32,766 bytes.
_LONGEST = 8191

_Field = dict[str, Any]


def _keyword(longest: int = _LONGEST) -> _Field:
    return {"type": "keyword", "ignore_above": longest}


def _text(analyzer: str) -> _Field:
    return {"type": "text", "analyzer": analyzer, "fields": {"keyword": _keyword(512)}}


def _properties(analyzer: str, normalizer: str) -> _Field:
    keyword, text, integer, long = _keyword(), _text(analyzer), {"type": "integer"}, {"type": "long"}
    folded: _Field = {"type": "text", "analyzer": "whitespace", "position_increment_gap": 100}
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
        "columns": {"type": "flattened", "ignore_above": _LONGEST},
        "detected_at": {"type": "date", "format": "epoch_millis"},
        "folded": {
            "properties": {
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
        },
    }


def template(pattern: str, *, french: bool, asciifolding: bool) -> _Field:
    """Return the index template.

    Args:
        pattern: of the names of the indexes that it is for.
        french: whether the server has the analyzer ``french``; else ``standard`` is taken.
        asciifolding: whether it has that filter; else header names are lower-cased only.
    """
    analyzer = "french" if french else "standard"
    normalizer = "folded" if asciifolding else "lowercase"
    analysis = {"normalizer": {"folded": {"type": "custom", "filter": ["lowercase", "asciifolding"]}}}
    return {
        "index_patterns": [pattern],
        "version": SCHEMA,
        "_meta": {"schema_version": SCHEMA, "analyzer": analyzer, "normalizer": normalizer},
        "template": {
            "settings": {"analysis": analysis} if asciifolding else {},
            "mappings": {
                "dynamic": "strict",
                "_meta": {"schema_version": SCHEMA, "analyzer": analyzer, "normalizer": normalizer},
                "properties": _properties(analyzer, normalizer),
            },
        },
    }


def entry(document: Document) -> bytes:
    """Return a document's fields in the index, as JSON: written by whom is quickest."""
    seen = Searchable.of(document)
    folded: _Field = {
        "title": seen.title,
        "dataset": seen.dataset,
        "organisation": seen.organisation,
        "column": seen.column,
        "formats": seen.formats,
        **seen.exact,
        "title_key": seen.title_key,
    }
    views = {"detected_at": document.version, "columns": _columns(document.cols), "folded": folded}
    facts = document.model_dump_json(exclude_none=True).encode()
    return b"%b,%b" % (facts[:-1], to_json(views)[1:])


def action(index: str, document: Document, version_type: str = "external_gte") -> _Field:
    """Return what a bulk request says of a document."""
    return {
        "_op_type": "index",
        "_index": index,
        "_id": document_id(document.source),
        "version": document.version,
        "version_type": version_type,
        "_source": entry(document),
    }


def read(fields: Mapping[str, Any]) -> Document:
    """Return the document that an index has.

    Raises:
        FlowError: it is none of ours.
    """
    try:
        return Document.model_validate({name: value for name, value in fields.items() if name not in VIEWS})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        msg = f"{fields.get('source')} is no document of this datafab ({first['loc'][0]}: {first['msg']}): delete it"
        raise FlowError(msg, code="index", field=str(first["loc"][0])) from error


def _columns(cols: Iterable[Column]) -> _Field:
    found: dict[str, list[str]] = defaultdict(list)
    for column in cols:
        if column.format:
            # A flattened field takes no null bytes, and `exists` sees values below a key, not objects.
            found[column.format].append(column.name.replace("\0", " "))
    return found
