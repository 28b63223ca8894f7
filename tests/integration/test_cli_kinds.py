"""What ``datafab collect`` says of endpoints that serve no tables: that they were collected."""

from __future__ import annotations

from pathlib import Path

import pytest

from datafab.embedded import Cluster
from tests.integration.conftest import Run
from tests.servers.http import Answer, Site


@pytest.mark.parametrize("how", ["cluster", "inline"])
def test_what_is_no_table_is_collected_all_the_same(datafab: Run, cluster: Cluster, tmp_path: Path, how: str):
    options = ["--inline"] if how == "inline" else []
    kml = b'<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document/></kml>'
    answers = {
        "/zones.kml": Answer(kml, content_type="application/vnd.google-earth.kml+xml"),
        "/a.csv": Answer(b"a,b\n1,2\n"),
    }
    file = tmp_path / "endpoint.csv"
    with Site(answers) as site:
        file.write_text("endpoint,endpoint-url\n" + "".join(f",{site.url(path)}\n" for path in answers))
        said = datafab("collect", str(file), *options).stdout
        assert "2 endpoints: 2 collected; analysed 1, 1 is no table" in said
        again = datafab("collect", str(file), *options).stdout
        assert "2 endpoints: 2 unchanged; analysed 1, 1 is no table" in again
