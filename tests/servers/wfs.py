"""A layer of a WFS server, with the habits that real ones have.

Sources: OGC 09-025r2 (WFS 2.0) for ``GetFeature`` by key-value pairs: ``count``, ``startIndex`` from 0 on,
``resultType=hits`` (no member, ``numberReturned`` 0), ``numberMatched`` as a number or ``unknown``, ``next``,
``timeStamp``, ``truncatedResponse``; ``ExceptionReport`` of OGC 06-121r9 (OWS Common 2.0). OGC 04-094 (WFS 1.1):
``maxFeatures``, ``numberOfFeatures``, which counts what is given, and all that there is where hits are asked for; its
``startIndex`` is GeoServer's and MapServer's. JSON: ``GeoJSONGetFeatureResponse`` of geoserver/geoserver.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from tests.servers.http import Answer

NAMES = (
    'xmlns:wfs="http://www.opengis.net/wfs/2.0" xmlns:gml="http://www.opengis.net/gml/3.2" xmlns:z="http://z.example"'
)
REPORT = (
    '<ows:ExceptionReport xmlns:ows="http://www.opengis.net/ows/1.1" version="2.0.0"><ows:Exception'
    ' exceptionCode="{}"><ows:ExceptionText>{}</ows:ExceptionText></ows:Exception></ows:ExceptionReport>'
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
        breaks: whether it breaks off after its features with the report of an error.
    """

    features: int
    gives: int = 1000
    form: str = "member"
    matched: str | None = None
    hits: str | None = None
    pages: bool = True
    lost: int = 0
    breaks: bool = False
    queries: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, path: str, _headers: dict[str, str]) -> Answer:
        query = {name.lower(): value for name, value in parse_qsl(urlsplit(path).query)}
        self.queries.append(query)
        assert query["service"] == "WFS"
        assert query["request"] == "GetFeature"
        new = query.get("version", "2").startswith("2")
        if not query.get("typenames" if new else "typename") and not query.get("typename"):  # GeoServer takes both
            return _xml(REPORT.format("MissingParameterValue", "typeNames is missing"), 400)
        if query.get("resulttype") == "hits":
            hits = str(self.features) if self.hits is None else self.hits
            counts = f'numberMatched="{hits}" numberReturned="0"' if new else f'numberOfFeatures="{hits}"'
            return _xml(f'<wfs:FeatureCollection {NAMES} timeStamp="{len(self.queries)}" {counts}/>')
        start = int(query.get("startindex", 0)) if self.pages else 0
        size = int(query.get("count") or query.get("maxfeatures") or self.features)
        end = min(start + size, start + self.gives, self.features - self.lost)
        ids = range(start, max(start, end))
        matched = str(self.features) if self.matched is None else self.matched
        stamp = len(self.queries)
        if self.form == "json":
            features = [{"type": "Feature", "id": f"z.{n}", "properties": {"n": n, "t": "x, }"}} for n in ids]
            told = {"totalFeatures": int(matched) if matched.isdigit() else matched}
            told |= {"numberMatched": int(matched)} if matched.isdigit() else {}
            told |= {"numberReturned": len(ids), "timeStamp": f"{stamp}", "crs": None}
            page = {"type": "FeatureCollection", "features": features, **told}
            return Answer(json.dumps(page).encode(), content_type="application/json")
        feature = '<z:zone gml:id="zone.{}" fid="{}"><z:n>{}</z:n><z:t a=">">é, }}</z:t></z:zone>'
        texts = [feature.format(n, stamp, n) for n in ids]
        tag = "wfs:member" if self.form == "member" else f"gml:{self.form}"
        whole = "".join(texts) if self.form == "featureMembers" else f"</{tag}>\n <{tag}>".join(texts)
        inner = f"<{tag}>{whole}</{tag}>" if texts else ""
        if self.breaks:
            report = REPORT.format("OperationProcessingFailed", "the database is away")
            inner += f"<wfs:truncatedResponse>{report}</wfs:truncatedResponse>"
        counts = (
            f'numberMatched="{matched}" numberReturned="{len(texts)}"' if new else f'numberOfFeatures="{len(texts)}"'
        )
        return _xml(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- {stamp} -->'
            f'<wfs:FeatureCollection {NAMES} timeStamp="{stamp}"'
            f' next="/wfs?startIndex={end}" {counts}>'
            f"<gml:boundedBy><gml:Envelope>{start}</gml:Envelope></gml:boundedBy>{inner}</wfs:FeatureCollection>"
        )


def _xml(text: str, status: int = 200) -> Answer:
    return Answer(text.encode(), status, content_type="text/xml; subtype=gml/3.2")
