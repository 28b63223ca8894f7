"""Bodies, paths and queries that are valid for some parser only: every route refuses them, and none fails."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from datafab.settings import load
from tests.servers.redis import RedisServer
from webhook import create_app
from webhook.openapi import OPERATIONS, described_routes

KEYS = {"catalogue_push_key": "geheim", "allow_private_hosts": ("*",)}
BEARER = {"Authorization": "Bearer geheim"}

#: Valid bodies of every route that takes one.
BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("POST", "/api/jobs"): {"flow": "collect", "params": {"endpoints": "https://a.example/e.csv", "x": 1}},
    ("POST", "/api/check-url"): {"url": "https://a.example/a.csv", "parameters": {"x": 1}},
    ("POST", "/datapusher/job"): {
        "job_type": "push_to_datastore",
        "api_key": "k",
        "metadata": {"ckan_url": "http://ckan.example", "resource_id": "r", "x": 1},
    },
    ("POST", "/hooks/link-proxy"): {"key": "k", "ids": ["1"]},
    ("POST", "/hydra/api/resources"): {
        "resource_id": "r",
        "dataset_id": "d",
        "document": {"url": "https://a.example/a.csv", "title": 1},
    },
    ("PUT", "/hydra/api/resources/r"): {
        "resource_id": "r",
        "dataset_id": "d",
        "document": {"url": "https://a.example/a.csv", "title": 1},
    },
}

#: Values that Python's parser takes, as JSON text.
VALUES = {
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "a number beyond doubles": "1e999",
    "an integer of 5,000 digits": "9" * 5000,
    "half of a surrogate pair": '"\\ud800"',
    "half of a surrogate pair as a name": '{"\\udc00": 1}',
    "a name twice": '{"a": 1, "a": 2}',
    "300 levels": "[" * 300 + "]" * 300,
    "900 levels": '{"a":' * 900 + "1" + "}" * 900,
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
    "a control character": '"a\nb"',
    "a comment": "1 /* a */",
    "hexadecimal": "0x10",
    "a plus": "+1",
    "a leading zero": "01",
    "single quotes": "'a'",
}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    home = tmp_path_factory.mktemp("home")
    with RedisServer(home / "redis") as server:
        app = create_app(load(home=home, redis_url=server.url, **KEYS))
        yield app.test_client()
        app.extensions["datafab"].services.close()


def refused(answer: TestResponse) -> None:
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json is not None
    assert answer.json["error"]


def send(http: FlaskClient, route: tuple[str, str], data: bytes, **headers: str) -> TestResponse:
    method, path = route
    return http.open(path, method=method, data=data, content_type="application/json", headers=BEARER | headers)


@pytest.mark.parametrize("route", BODIES, ids=" ".join)
def test_what_other_parsers_read_otherwise_is_refused(http: FlaskClient, route: tuple[str, str]):
    text = json.dumps(BODIES[route])
    for name, value in VALUES.items():
        for data in (text.replace("1}", value + "}", 1), value):
            answer = send(http, route, data.encode())
            assert 400 <= answer.status_code < 500, (name, data[:80], answer.text[:200])
            assert answer.json["error"], name


@pytest.mark.parametrize("route", BODIES, ids=" ".join)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig", "cp037"])
def test_other_encodings_are_refused(http: FlaskClient, route: tuple[str, str], encoding: str):
    refused(send(http, route, json.dumps(BODIES[route]).encode(encoding)))


@pytest.mark.parametrize("route", BODIES, ids=" ".join)
def test_other_bodies_are_refused(http: FlaskClient, route: tuple[str, str]):
    text = json.dumps(BODIES[route]).encode()
    for data in (b"", b"\0", b"{}", b"[]", b"null", b'"a"', b"1", b"\xff", codecs.BOM_UTF8, text[:-1], text * 2):
        refused(send(http, route, data))
    refused(send(http, route, text + b" " * 2 * 1024**2))
    refused(send(http, route, text, **{"Content-Encoding": "gzip"}))


#: Values for every part of a body that is a text or a number.
ODD = ["", "\0", "a\0b", "a\r\nb: c", "\u2028", "\ufffe", "x" * 70_000, -1, 2**64, 10**4000, 1.5, True, None, [], {}]


@pytest.mark.parametrize("route", BODIES, ids=" ".join)
def test_no_value_of_a_field_is_a_fault_of_ours(http: FlaskClient, route: tuple[str, str]):
    for path in places(BODIES[route]):
        for value in ODD:
            body = json.loads(json.dumps(BODIES[route]))
            inner = body
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = value
            answer = send(http, route, json.dumps(body).encode())
            assert answer.status_code < 500, (path, str(value)[:40], answer.text[:300])


def places(body: dict[str, object]) -> Iterator[tuple[str, ...]]:
    for name, value in body.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *inner) for inner in places(value))


#: Parts of a path, and values of a query.
PARTS = ["%00", "a%00b", "%ff%fe", "%ed%a0%80", "%0d%0aX:y", "..%2f..", "%2e%2e", "a" * 3000, "%F0%9F%92%A9", "%c2%b2",
         "%25", "*", "-1", "9" * 5000, "%D9%A3", "NaN", "1e999", "[1]", "%22"]  # fmt: skip


def test_no_path_or_query_is_a_fault_of_ours(http: FlaskClient):
    for rule, method in described_routes(http.application):
        if rule.endpoint == "datapusher.admin":  # answers 501
            continue
        query = OPERATIONS[rule.endpoint].query
        names = [field.alias or name for name, field in query.model_fields.items()] if query else []
        for part in PARTS:
            path = rule.rule
            for name in rule.arguments:
                path = path.replace(f"<{name}>", part)
            urls = [path] if rule.arguments else []
            urls += [f"{path}?{name}={part}" for name in names]
            for url in urls:
                answer = http.open(url, method=method, headers=BEARER)
                assert answer.status_code < 500, (method, url[:100], answer.text[:300])


@pytest.mark.parametrize("text", ["text/html\r\nX-Y: z", "a\nb", "\0", "é", "", " ", "text/html"])
def test_the_content_type_of_a_push_is_a_content_type(http: FlaskClient, text: str):
    body = json.loads(json.dumps(BODIES["POST", "/datapusher/job"]))
    body["metadata"] |= {"mimetype": text}
    sent = send(http, ("POST", "/datapusher/job"), json.dumps(body).encode())
    assert sent.status_code == 200
    answer = http.get(f"/datapusher/job/{sent.json['job_id']}/data", headers={"Authorization": sent.json["job_key"]})
    assert answer.status_code == 200
    assert "X-Y" not in answer.headers
    log = http.get(
        f"/datapusher/job/{sent.json['job_id']}?limit=%C2%B2", headers={"Authorization": sent.json["job_key"]}
    )
    assert log.status_code == 200


@pytest.mark.parametrize("value", ["\xff", "é", "Bearer", "Bearer ", "Basic \xe9", "Bearer " + "x" * 8000, "\x00"])
def test_no_key_is_a_fault_of_ours(http: FlaskClient, value: str):
    environ = {"HTTP_AUTHORIZATION": value, "HTTP_X_DATAFAB_KEY": value}
    for method, path in [*BODIES, ("GET", "/datapusher/job/x"), ("POST", "/hooks/entrepot/x")]:
        answer = http.open(path, method=method, json=BODIES.get((method, path), {}), environ_overrides=environ)
        assert answer.status_code < 500, (method, path)
