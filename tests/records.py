"""A WCMP2 record to change in tests."""

from __future__ import annotations

import json
from typing import Any

RECORD_ID = "urn:wmo:md:fr-ifremer-argo:floats"
METADATA = "origin/a/wis2/fr-ifremer-argo/metadata"


def record(**changes: Any) -> dict[str, Any]:
    """Return a record that is in order, but for these members."""
    scheme = "https://codes.wmo.int/wis/topic-hierarchy/earth-system-discipline"
    properties = {
        "type": "dataset",
        "title": "Profiles of Argo floats",
        "description": "Temperature and salinity of the upper ocean, as drifting floats measure them.",
        "created": "2024-11-09T21:08:00Z",
        "contacts": [
            {
                "organization": "Ifremer",
                "roles": ["host"],
                "emails": [{"value": "argo@example.org"}],
                "links": [{"href": "https://example.org/", "rel": "about", "type": "text/html"}],
            }
        ],
        "themes": [{"concepts": [{"id": "ocean"}], "scheme": scheme}],
        "wmo:dataPolicy": "core",
    }
    channel = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
    made = {
        "id": RECORD_ID,
        "conformsTo": ["http://wis.wmo.int/spec/wcmp/2/conf/core"],
        "type": "Feature",
        "time": {"interval": ["1999-01-01", ".."], "resolution": "P1D"},
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
        },
        "properties": properties,
        "links": [
            {"rel": "items", "href": "mqtts://example.org:8883", "channel": channel, "type": "application/json"},
        ],
    }
    for name, value in changes.items():
        whole = properties if name in properties or name == "wmo:status" else made
        if value is ...:
            del whole[name]
        else:
            whole[name] = value
    return json.loads(json.dumps(made))
