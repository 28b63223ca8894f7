"""A layer of a WFS server, with the habits that real ones have."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from tests.servers.http import Answer

NAMES = (
    'xmlns:wfs="http://www.opengis.net/wfs/2.0" xmlns:gml="http://www.opengis.net/gml/3.2" xmlns:z="http://z.example"'
)


@dataclass
class Wfs:
    """Answers to ``/wfs``: give it to ``Site`` as its router.

    Attributes:
        features: how many there are.
        gives: features that it gives at once, whatever it is asked for.
        form: ``member``, ``featureMember``, ``featureMembers`` or ``json``.
        matched: what pages say of the number of all features; None: what is right.
        hits: what it counts when asked; None: what is right.
        pages: whether it knows startIndex.
        lost: features at the end that it counts but never gives.
    """

    features: int
    gives: int = 1000
    form: str = "member"
    matched: str | None = None
    hits: str | None = None
    pages: bool = True
    lost: int = 0
    queries: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, path: str, _headers: dict[str, str]) -> Answer:
        query = {name.lower(): value for name, value in parse_qsl(urlsplit(path).query)}
        self.queries.append(query)
        assert query["request"] == "GetFeature"
        if query.get("resulttype") == "hits":
            hits = str(self.features) if self.hits is None else self.hits
            return _xml(f'<wfs:FeatureCollection {NAMES} numberOfFeatures="{hits}" numberReturned="0"/>')
        start = int(query.get("startindex", 0)) if self.pages else 0
        size = int(query.get("count") or query.get("maxfeatures") or self.features)
        end = min(start + size, start + self.gives, self.features - self.lost)
        ids = range(start, max(start, end))
        matched = str(self.features) if self.matched is None else self.matched
        stamp = len(self.queries)
        if self.form == "json":
            features = [{"type": "Feature", "id": f"z.{n}", "properties": {"n": n, "t": "x, }"}} for n in ids]
            told = {"numberMatched": matched if matched == "unknown" else int(matched), "numberReturned": len(ids)}
            page = {"type": "FeatureCollection", "features": features, **told, "timeStamp": f"{stamp}", "crs": None}
            return Answer(json.dumps(page).encode(), content_type="application/json")
        feature = '<z:zone gml:id="zone.{}" fid="{}"><z:n>{}</z:n><z:t a=">">é, }}</z:t></z:zone>'
        texts = [feature.format(n, stamp, n) for n in ids]
        tag = "wfs:member" if self.form == "member" else f"gml:{self.form}"
        whole = "".join(texts) if self.form == "featureMembers" else f"</{tag}>\n <{tag}>".join(texts)
        inner = f"<{tag}>{whole}</{tag}>" if texts else ""
        return _xml(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {stamp} -->'
            f'<wfs:FeatureCollection {NAMES} timeStamp="{stamp}"'
            f' next="/wfs?startIndex={end}" numberMatched="{matched}" numberReturned="{len(texts)}">'
            f"<gml:boundedBy><gml:Envelope>{start}</gml:Envelope></gml:boundedBy>{inner}</wfs:FeatureCollection>"
        )


def _xml(text: str) -> Answer:
    return Answer(text.encode(), content_type="text/xml; subtype=gml/3.2")
