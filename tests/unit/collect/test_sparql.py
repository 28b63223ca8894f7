"""SPARQL services: the answer as CSV, the query file, and the endpoint's log."""

from __future__ import annotations

import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from datafab.collect.endpoint import endpoint_hash
from datafab.collect.plugins.sparql_query import PREFIXES, split_url, to_csv
from datafab.core.item import Batch, Item, Status
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, expand, run_stage
from datafab.core.services import Services
from datafab.flows.chains import STAGES
from datafab.flows.registry import localise
from datafab.settings import Settings
from tests.servers.http import Answer, Site

ENTITY = PREFIXES["https://query.wikidata.org/sparql"]


def answer(names: list[str], *rows: dict[str, str]) -> dict:
    bindings = [{name: {"type": "literal", "value": value} for name, value in row.items()} for row in rows]
    return {"head": {"vars": names}, "results": {"bindings": bindings}}


@pytest.mark.parametrize(
    ("given", "prefix", "text"),
    [
        (answer(["b", "a_c"], {"a_c": "1", "b": "é"}), "", "a-c,b\r\n1,é\r\n"),
        (
            answer(["a", "b"], {"b": 'say "x, }"'}, {"a": "line\nbreak"}),
            "",
            'a,b\r\n,"say ""x, }"""\r\n"line\nbreak",\r\n',
        ),
        (answer(["item"], {"item": ENTITY + "Q1"}, {"item": "x" + ENTITY}), ENTITY, f"item\r\nQ1\r\nx{ENTITY}\r\n"),
        (answer(["item"], {"item": ENTITY + "Q1"}), "", f"item\r\n{ENTITY}Q1\r\n"),
        (answer(["item"], {"other": "not asked for"}), "", 'item\r\n""\r\n'),
        (answer([]), "", "\r\n"),
    ],
)
def test_an_answer_as_csv(given, prefix, text):
    assert b"".join(to_csv(given, prefix)).decode() == text


def test_a_long_answer_comes_in_parts():
    rows = [{"n": str(number)} for number in range(2500)]
    parts = list(to_csv(answer(["n"], *rows)))
    assert len(parts) == 3
    assert b"".join(parts).split() == [b"n", *(str(number).encode() for number in range(2500))]


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        None,
        {"head": {"vars": ["a"]}},
        {"head": {}, "results": {"bindings": []}},
        answer(["a"]) | {"results": {"bindings": [1]}},
    ],
)
def test_what_is_no_answer(given):
    with pytest.raises(ValueError, match=r"no head\.vars"):
        list(to_csv(given))


def test_an_address():
    assert split_url("https://a.example/sparql?x=1#q/a.rq") == ("https://a.example/sparql?x=1", "q/a.rq")
    assert split_url("https://a.example/sparql") == ("https://a.example/sparql", "")


class TestEndpoints:
    """Files below the folder of the endpoint.csv, or the collection."""

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "pipeline" / "query").mkdir(parents=True)
        (tmp_path / "pipeline" / "query" / "a.rq").write_text("SELECT ?é", encoding="utf-8")
        (tmp_path / "collection").mkdir()
        (tmp_path / "collection" / "b.rq").write_text("SELECT ?b")
        (tmp_path / "secret.rq").write_text("of others")
        (tmp_path / "pipeline" / "link.rq").symlink_to(tmp_path / "secret.rq")
        (tmp_path / "pipeline" / "secret.txt").write_text("of others")
        (tmp_path / "pipeline" / "other.rq").symlink_to(tmp_path / "pipeline" / "secret.txt")
        (tmp_path / "pipeline" / "long.rq").write_text("#" * 70_000)
        return tmp_path

    @staticmethod
    def run(folder, *urls: str, afar: bool = True) -> list[Item]:
        """Collect; ``afar``: by a worker that has the query files from the job only."""
        path = folder / "pipeline" / "endpoint.csv"
        path.write_text("\n".join(["endpoint,endpoint-url,plugin", *(f",{url},sparql" for url in urls), ""]))
        settings = Settings(home=folder / "home", allow_private_hosts=("*",), retry_delay=0.01)
        services = Services(settings, jobs=MemoryJobs())
        params = {"endpoints": str(path), "collection": str(folder / "collection")}
        if afar:
            params = localise("collect", params, services)
            for file in (path, *(folder / "pipeline").rglob("*.rq")):
                file.unlink()
        attempt = Attempt(Lease(job_created=time.time()))
        items = []
        for batch in expand(STAGES["endpoints"], Batch(job="j", flow="collect", params=params), services, attempt):
            items += run_stage(STAGES["collect"], batch, services, attempt)
        services.close()
        return sorted(items, key=lambda item: urls.index(item.url))

    @pytest.mark.parametrize("afar", [True, False])
    def test_a_query_of_either_folder(self, folder, afar):
        body = json.dumps(answer(["n_b", "a"], {"a": "1", "n_b": "2"})).encode()
        site = Site(router=lambda *_: Answer(body, content_type="application/sparql-results+json"))
        with site:
            first, second = self.run(folder, site.url("/sparql?x=1#query/a.rq"), site.url("/sparql#b.rq"), afar=afar)
            asked = [(parse_qs(urlsplit(path).query), headers["Accept"]) for path, headers in site.requests]
        assert ({"x": ["1"], "query": ["SELECT ?é"]}, "application/sparql-results+json") in asked
        assert [query["query"] for query, _ in asked if "x" not in query] == [["SELECT ?b"]]
        assert (first.status, first.media_type, first.sha256) == (Status.OK, "text/csv", second.sha256)
        kept = folder / "collection" / "resource" / str(first.sha256)
        assert kept.read_bytes() == b"a,n-b\r\n1,2\r\n"
        (path,) = folder.glob(f"collection/log/*/{endpoint_hash(str(first.url))}.json")
        log = json.loads(path.read_bytes())
        assert log.keys() == {"elapsed", "endpoint-url", "entry-date", "resource", "status"}
        assert log["status"] == "200"

    @pytest.mark.parametrize(
        "name",
        ["absent.rq", "../secret.rq", "/etc/hostname", "link.rq", "query", "long.rq", "secret.txt", "other.rq", ""],
    )
    def test_a_file_that_may_not_be_had(self, folder, name):
        with Site({}) as site:
            (item,) = self.run(folder, site.url(f"/sparql#{name}"))
            assert not site.requests
        assert item.error is not None
        assert (item.status, item.error.type, item.error.field) == (Status.FAILED, "missing_query", "endpoint-url")
        assert repr(name) in item.error.message or not name
        (path,) = folder.glob("collection/log/*/*.json")
        assert json.loads(path.read_bytes())["exception"] == "FileNotFoundError"

    def test_the_same_endpoint_twice(self, folder):
        body = json.dumps(answer(["a"])).encode()
        with Site(router=lambda *_: Answer(body)) as site:
            url = site.url("/sparql#b.rq")
            items = self.run(folder, url, url)
            assert len(site.requests) == 1
        assert [item.collect.status for item in items if item.collect] == ["OK", "ALREADY_FETCHED"]

    @pytest.mark.parametrize(
        ("reply", "code"),
        [
            (Answer(b"<sparql/>", content_type="text/xml"), "bad_result"),
            (Answer(b"no", 400), "http_400"),
            (Answer(b"[]"), "bad_result"),
        ],
    )
    def test_a_service_that_gives_something_else(self, folder, reply, code):
        with Site({"/sparql?query=SELECT+%3Fb": reply}) as site:
            (item,) = self.run(folder, site.url("/sparql#b.rq"))
        assert item.error is not None
        assert item.error.type == code
        assert site.url("/sparql") in item.error.message
