"""What the original's own tests ask for, and what those who read its logs rely on, where no other test says it."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from datafab.collect.csv_rows import LOG_COLUMNS
from datafab.collect.csv_tables import save_csv
from datafab.collect.endpoint import endpoint_hash
from datafab.core.item import Status
from datafab.settings import load
from datafab.store.store import Store
from tests.servers.esri import Layer
from tests.servers.http import Answer, Site
from tests.servers.wfs import Wfs
from tests.unit.collect.test_stages import CSV, TODAY, Collection, closed_port, row

ROOT = Path(__file__).parents[3]


@pytest.fixture
def collection(tmp_path) -> Collection:
    return Collection(tmp_path)


@pytest.fixture(scope="module")
def site():
    with Site({"/a.csv": Answer(CSV), "/silent": Answer(CSV, fault="slow-head", pause=5)}) as site:
        yield site


@pytest.mark.parametrize(
    ("url", "exception"),
    [
        ("https://127.0.0.1:{port}/a.csv", "SSLError"),
        ("http://127.0.0.1:{closed}/a.csv", "ConnectionError"),
        ("http://127.0.0.1:{port}/silent", "ReadTimeout"),
        ("127.0.0.1/a.csv", "MissingSchema"),
    ],
)
def test_an_exception_is_logged_by_its_name(collection, site, url, exception):
    """The others of this list: ``test_stages.py``, ``TestLogsOfFailures``."""
    collection.settings = collection.settings.model_copy(update={"read_timeout": 0.3})
    url = url.format(port=site.ports[0], closed=closed_port())
    item = collection.one(row(url), log_facts=False)
    assert (item.status, item.sha256) == (Status.FAILED, None)
    log = collection.log(url)
    assert log.keys() == {"elapsed", "endpoint-url", "entry-date", "exception", "ssl-verify"}
    assert log["exception"] == exception


def test_a_refill_writes_over_a_failure_and_nothing_else_does(collection):
    with Site({"/a": Answer(b"", 404)}) as site:
        url = site.url("/a")
        assert collection.one(row(url)).status is Status.FAILED
        site.answers["/a"] = Answer(CSV)
        assert collection.one().status is Status.FAILED
        assert (collection.log(url)["status"], len(collection.logs())) == ("404", 1)
        assert collection.one(refill_todays_logs=True).status is Status.OK
        assert (collection.log(url)["status"], len(collection.logs())) == ("200", 1)


def test_every_log_can_be_read_by_the_original_s_tools(collection, site):
    """Whatever the plugin and the outcome: the rules of its reader hold, and its table has a row for each log."""
    collection.settings = collection.settings.model_copy(update={"file_root": collection.csv.parent})
    (collection.csv.parent / "local.csv").write_bytes(CSV)
    esri = [{"attributes": {"OBJECTID": n}, "geometry": {"x": n, "y": n}} for n in range(3)]
    with Site(router=Layer(esri)) as layer, Site(router=Wfs(5)) as wfs:
        rows = [
            row(site.url("/a.csv")),
            row(site.url("/absent.csv")),
            row(site.url("/a.csv?x"), plugin="gopher"),
            row("file:///local.csv"),
            row("file:///absent.csv"),
            row(layer.url("/layer/0"), plugin="arcgis"),
            row(wfs.url("/wfs?typeName=z:zone"), plugin="wfs"),
            row(wfs.url("/wfs?typeName=z:zone&x"), plugin="wfs", parameters='"{""page_size"":2}"'),
        ]
        items = collection.run(*rows, log_facts=False)
    paths = collection.logs()
    assert len(paths) == len(rows)
    for path in paths:
        log = json.loads(path.read_bytes())
        assert re.fullmatch(r"[0-9a-f]{64}\.json", path.name)
        assert endpoint_hash(log["endpoint-url"]) == path.stem
        assert datetime.fromisoformat(log["entry-date"]).tzinfo is None
        assert log["entry-date"].startswith(path.parent.name)
        assert {type(log[key]) for key in log.keys() & {"elapsed", "status", "exception", "resource"}} == {str}
        assert not log.keys() & {"url", "datetime"}
        assert json.dumps(log, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == path.read_bytes()
    warnings: list[str] = []
    saved = save_csv(Store(str(collection.folder)), datetime.now(UTC).date(), load({}), warn=warnings.append)
    assert (saved.logs, saved.resources) == (len(rows), len({item.sha256 for item in items} - {None}))
    assert warnings == []
    assert date.fromisoformat(TODAY)
    assert (collection.folder / "log.csv").read_text().startswith(",".join(LOG_COLUMNS))


def test_the_tests_that_docs_collect_md_names_are_there():
    page = (ROOT / "docs" / "collect.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 20
    for file, test in named:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^ *(?:def|class) {test}\b", text, re.MULTILINE), f"{file}: {test}"
