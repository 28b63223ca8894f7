"""``/openapi.json`` says what the routes are, and the routes do what it says, whatever they are sent."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from datafab.catalogue.source_state import Look
from datafab.catalogue.sources import SourceRegistry
from datafab.collect.check_url_stage import finding_name
from datafab.collect.urlcheck import Finding, Table
from datafab.core.document import Document
from datafab.core.item import Item, ItemError, Status
from datafab.core.job import JobStatus
from datafab.core.job_fields import Record
from datafab.core.roles import Role
from datafab.core.tokens import Tokens
from datafab.index.access import IndexAccess
from datafab.settings import load
from tests.servers.redis import RedisServer
from webhook import create_app
from webhook.access import ACCESS
from webhook.openapi import OPERATIONS, UNDESCRIBED, described_routes

KEYS = {"catalogue_push_key": "geheim", "allow_private_hosts": ("*",), "ckan_urls": ("http://c",)}
HEADERS = {"hydra": {"Authorization": "Bearer geheim"}}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
#: It says 501, as it must.
REFUSED = "datapusher.admin"


#: Every kind of caller, by the role of its token; each sends requests of every kind to every route.
ROLES = (None, *Role)
#: Requests of a kind to a route, for each role.
EXAMPLES = 3
roles = pytest.mark.parametrize("role", ROLES, ids=lambda role: role or "nobody")
#: Views that may refuse a caller who has the role of their route, for what the request asks or shows.
STRICTER = {"login.log_in", "api.enqueue"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with RedisServer(home / "redis") as server:
        app = create_app(load(home=home, redis_url=server.url, **KEYS))
        yield app
        app.extensions["datafab"].services.close()


@pytest.fixture(scope="module")
def http(app):
    return app.test_client()


@pytest.fixture(scope="module")
def tokens(app):
    """The headers of callers by role."""
    made = app.extensions["datafab"].services.get(Tokens)
    return {None: {}} | {role: {"Authorization": f"Bearer {made.create(role, role)[1]}"} for role in Role}


@pytest.fixture(scope="module")
def admin(tokens):
    return tokens[Role.ADMIN]


@pytest.fixture(scope="module")
def schema(app):
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


def test_every_view_is_told_and_nothing_else(app):
    views = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert views == OPERATIONS.keys() | UNDESCRIBED, "describe the new view in OPERATIONS of webhook/openapi.py"


def test_every_route_and_method_is_described_and_nothing_else(app, http):
    described = {(path, method) for path, found in http.get("/openapi.json").json["paths"].items() for method in found}
    routes = {
        (str(rule).replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint not in UNDESCRIBED
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert described == routes


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does(http):
    found = [told for path in http.get("/openapi.json").json["paths"].values() for told in path.values()]
    assert len({told["operationId"] for told in found}) == len(found)
    assert all(told["summary"].endswith(".") for told in found)


NAMES = sorted(
    (rule.endpoint, method, rule.rule)
    for rule, method in described_routes(
        create_app(load(redis_url="redis://127.0.0.1:1/0"), start=lambda *_, **__: None)
    )
    if rule.endpoint != REFUSED
)


BODIES = [name for name in NAMES if OPERATIONS[name[0]].body or OPERATIONS[name[0]].query]


def operation(schema, method, rule):
    return schema[rule.replace("<", "{").replace(">", "}")][method]


def ask(role, headers, endpoint, strategy):
    """Send requests of a kind, the same in each run, and see that the right ones are let in."""
    needed = ACCESS[endpoint]
    if not isinstance(needed, Role):
        headers = HEADERS.get(endpoint.partition(".")[0], {})

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def send(case):
        # No worker runs here, so that /ready is right to say that the cluster is not.
        excluded = [schemathesis.checks.not_a_server_error] if endpoint == "health.ready" else []
        answer = case.call_and_validate(checks=CHECKS, excluded_checks=excluded, headers=headers)
        if isinstance(needed, Role) and (role is None or not role.includes(needed)):
            assert answer.status_code in {400, 401, 403, 429}, "wrongly open"
        elif isinstance(needed, Role) and endpoint not in STRICTER:
            assert answer.status_code not in {401, 403}, "wrongly closed"

    send()


@roles
@pytest.mark.parametrize(("endpoint", "method", "rule"), NAMES)
def test_whatever_is_sent_is_answered_as_described(schema, tokens, role, endpoint, method, rule):  # noqa: PLR0917 - cases
    ask(role, tokens[role], endpoint, operation(schema, method, rule).as_strategy())


@roles
@pytest.mark.parametrize(("endpoint", "method", "rule"), BODIES)
def test_what_is_not_as_described_is_no_fault_of_ours(schema, tokens, role, endpoint, method, rule):  # noqa: PLR0917 - cases
    strategy = operation(schema, method, rule).as_strategy(generation_mode=GenerationMode.NEGATIVE)
    ask(role, tokens[role], endpoint, strategy)


@pytest.fixture(scope="module")
def filled(app):
    """Have something of every kind, so that what is described is not only that nothing is there."""
    site = app.extensions["datafab"]
    source = "endpoint:a"
    job, _ = site.start("collect", {"endpoints": "e.csv", "collection": "c"}, "key")
    site.jobs.set_total(job.id, 1)
    error = ItemError(type="http_404", message="no such page", field="url")
    item = Item(source=source, status=Status.FAILED, error=error)
    site.jobs.record(job.id, "collect", None, [Record(0, item, touched=True)], [{"event": "e", "level": "info"}])
    site.jobs.end(job.id, JobStatus.SUCCEEDED)
    site.services.get(SourceRegistry).record_look(source, Look(job.created, "ok", job.id), etag="e", sha256="a" * 64)
    site.services.get(IndexAccess).reading.put_many(
        [Document(source=source, version=1, status=Status.OK, title="a", header=("b",))]
    )
    check, _ = site.start("check_url", {"url": "http://example.org/"}, None)
    found = Finding(url="http://example.org/", ok=True, table=Table(rows=1, columns=("a",)))
    site.services.store(site.services.settings.store).write(finding_name(check.id), found.model_dump_json().encode())
    push = {"job_type": "push_to_datastore", "api_key": "k", "metadata": {"ckan_url": "http://c", "resource_id": "r"}}
    pushed = app.test_client().post("/datapusher/job", json=push).json
    return {"job": job.id, "check": check.id, "source": source, "push": pushed["job_id"], "key": pushed["job_key"]}


@pytest.mark.parametrize(
    ("path", "name", "query"),
    [
        ("/api/jobs", None, {}),
        ("/api/tokens", None, {}),
        ("/api/me", None, {}),
        ("/api/jobs/{job_id}", "job", {"log": 9}),
        ("/api/check-url/{job_id}", "check", {}),
        ("/api/sources", None, {"id": "endpoint:a"}),
        ("/api/search", None, {"q": "a", "facets": "all"}),
        ("/datapusher/job", None, {}),
        ("/datapusher/job/{job_id}", "push", {}),
        ("/datapusher/status", None, {}),
    ],
)
def test_what_is_there_is_answered_as_described(schema, filled, admin, path, name, query):  # noqa: PLR0917 - a table
    case = schema[path]["GET"].Case(path_parameters={"job_id": filled[name]} if name else {}, query=query)
    answer = case.call_and_validate(
        checks=CHECKS, headers={"Authorization": filled["key"]} if "datapusher" in path else admin
    )
    assert answer.status_code == 200


def test_an_answer_that_is_not_as_described_is_found(app, schema, filled, admin, monkeypatch):
    monkeypatch.setitem(app.view_functions, "api.list_flows", lambda: {"flows": [], "stages": [], "more": 1})
    with pytest.raises(FailureGroup):
        schema["/api/flows"]["GET"].Case().call_and_validate(checks=CHECKS, headers=admin)
