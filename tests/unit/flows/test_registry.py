from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from datafab.core.item import Item
from datafab.core.services import Services
from datafab.core.stage import Stage
from datafab.errors import FlowError, NotFound, SettingError
from datafab.flows.chains import STAGES
from datafab.flows.parameters import SECRETS
from datafab.flows.registry import (
    FLOWS,
    check_sequence,
    flows,
    localise,
    plan,
    plan_new_job,
    use,
    with_defaults,
)
from datafab.settings import load

PUSH = ["ckan_resource", "ckan_fetch", "ckan_types", "datastore", "ckan_restore", "ckan_hash"]
GIVEN = {"endpoints": "endpoint.csv", "collection": "collection"}


@pytest.mark.parametrize(
    ("flow", "params", "error", "field", "says"),
    [
        ("nothing", {}, NotFound, "flow", "no flow 'nothing'; there are "),
        ("collect", {"endpoints": "x"}, FlowError, "collection", "needs the parameter 'collection'"),
        ("collect", GIVEN | {"then": ["nothing"]}, FlowError, "then", "no stage 'nothing'; there are "),
        ("collect", GIVEN | {"then": ["index", "index"]}, FlowError, "index", "occurs twice"),
        ("collect", GIVEN | {"then": ["endpoints"]}, FlowError, "endpoints", "it can only come first"),
        ("collect", GIVEN | {"then": "index"}, FlowError, "then", "a list of stages is needed, not 'index'"),
        ("collect", GIVEN | {"then": [1]}, FlowError, "then", "a list of stages is needed"),
        (
            "collect",
            GIVEN | {"when": "size > 1"},
            FlowError,
            "when",
            "an object of conditions by stage is needed, not 'size > 1'",
        ),
        ("collect", GIVEN | {"when": {"index": 1}}, FlowError, "when", "an object of conditions by stage is needed"),
        ("collect", GIVEN | {"when": {"index": "size"}}, FlowError, "when", "condition 'size': a comparison is"),
        ("collect", GIVEN | {"when": {"push_": "size > 1"}}, FlowError, "when.push_", "no stage of this flow"),
        ("collect", GIVEN | {"when": {"collect": "size > 1"}}, FlowError, "when.collect", "names size, which no stage"),
    ],
)
def test_what_cannot_run_says_why(flow, params, error, field, says):
    with pytest.raises(error, match=says) as raised:
        plan(flow, params)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("flow", "params", "field"),
    [
        ("push", {"ckan_url": "http://u:geheim@ckan.example"}, "ckan_url"),
        ("push", {"ckan_url": "u:geheim@ckan.example"}, "ckan_url"),
        ("push", {"ckan_url": "HTTP:\\\\geheim@ckan.example"}, "ckan_url"),
        ("push", {"metadata": {"ckan_url": " http://u:ge@heim@ckan.example/x"}}, "metadata.ckan_url"),
        ("push", {"result_url": "http://u:geheim@ckan.example"}, "result_url"),
        ("collect", GIVEN | {"then": ["push"], "ckan_url": "http://u:geheim@ckan.example"}, "ckan_url"),
        ("catalogue", {"url": "https://u:geheim@udata.example/api/1"}, "url"),
        ("catalogue", {"export": "https://u:geheim@udata.example/e.csv"}, "export"),
        ("source", {"source": "s", "url": "http://e.org/", "catalogue": "https://u:geheim@udata.example"}, "catalogue"),
        ("withdraw", {"source": "s", "catalogue": "https://geheim@udata.example"}, "catalogue"),
    ],
)
def test_the_address_of_a_service_holds_no_login(flow, params, field):
    with pytest.raises(FlowError, match="a user or a password") as raised:
        plan_new_job(flow, params)
    assert (raised.value.field, raised.value.code) == (field, "secret")
    assert "geheim" not in raised.value.message


def test_the_address_of_a_file_may_hold_a_login_and_an_at_sign_is_none():
    plan_new_job("source", {"source": "s", "url": "http://u:p@example.org/a.csv"})
    plan_new_job("push", {"ckan_url": "http://ckan.example/a@b"})
    plan_new_job("catalogue", {"url": "https://udata.example/api/1?mail=a@b"})


@pytest.mark.parametrize(
    ("then", "names"),
    [
        (None, ["collect", "analyse", "index"]),
        ([], ["collect"]),
        (["index"], ["collect", "index"]),
        # a flow stands for its stages, but for those that are there already; `publish` is a stage too
        (["analyse", "push", "publish"], ["collect", "analyse", *PUSH, "publish"]),
        (["push"], ["collect", "ckan_resource", "ckan_fetch", "analyse", *PUSH[2:]]),
    ],
)
def test_then_replaces_what_follows(then, names):
    source, stages = plan("collect", GIVEN if then is None else GIVEN | {"then": then})
    assert source.name == "endpoints"
    assert [stage.name for stage in stages] == names


@pytest.mark.parametrize(
    ("flow", "params", "field", "text"),
    [
        (
            "collect",
            GIVEN | {"retry_faild": True},
            "retry_faild",
            r"no parameter 'retry_faild'; did you mean 'retry_failed'\?",
        ),
        ("collect", GIVEN | {"xyz": 1}, "xyz", "no parameter 'xyz'; there are adaptive, as_served, bad_rows, "),
        ("again", {"limits": 3}, "limits", "did you mean 'limit'"),
        ("publish", {"event": "e", "metadata": "m", "then": []}, "metadata", "did you mean 'metadata_id'"),
    ],
)
def test_a_parameter_that_no_stage_reads_is_a_mistake(flow, params, field, text):
    with pytest.raises(FlowError, match=text) as raised:
        plan_new_job(flow, params)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("flow", "params"),
    [
        ("collect", GIVEN | {"retry_failed": True, "save_csv": True, "then": [], "when": {}, "priority": 1}),
        ("collect", GIVEN | {"then": ["push"], "ckan_url": "http://ckan.example", "resource_id": "r"}),
        ("push", {"whatever": 1}),
        ("source", {"source": "s", "url": "u", "again": True, "format": "csv", "catalogue": "c"}),
    ],
)
def test_a_parameter_that_some_stage_may_read_is_none(flow, params):
    assert plan_new_job(flow, params) == plan(flow, params)


@pytest.mark.parametrize("name", [*sorted(SECRETS), "API-Key"])
def test_a_secret_among_the_parameters_is_refused(name):
    with pytest.raises(FlowError, match=f"'{name}' is a secret") as raised:
        plan("push", {"resource_id": "r", name: "x"})
    assert (raised.value.code, raised.value.field) == ("secret", name)


def test_a_stage_must_find_what_it_requires():
    source = Stage(name="s", queue="io", expand=lambda _: iter(()), provides=frozenset({"url"}))
    needs = Stage(name="n", queue="io", run=lambda item, _: item, requires=frozenset({"sha256", "url"}))
    with pytest.raises(FlowError, match="stage 'n' needs sha256, which no stage before it provides"):
        check_sequence(source, [needs])
    odd = Stage(name="o", queue="io", run=lambda item, _: item, provides=frozenset({"colour"}))
    with pytest.raises(FlowError, match="items have no field colour"):
        check_sequence(source, [odd])


@pytest.mark.parametrize("name", sorted(FLOWS))
def test_every_flow_hangs_together(name):
    flow = FLOWS[name]
    plan(name, dict.fromkeys(flow.requires, "x"))
    assert flow.title
    assert flow.files | flow.folders <= flow.requires


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_every_stage_says_what_it_does_and_needs(stage: Stage):
    assert [stage.run, stage.run_many, stage.expand].count(None) == 2
    assert stage.title.endswith(".")
    assert stage.requires | stage.provides <= set(Item.model_fields)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A file of flows of one's own, which this process reads."""
    file = tmp_path / "datafab.toml"
    (tmp_path / "endpoint.csv").write_text("endpoint-url\n", encoding="utf-8")
    file.write_text(
        '[[flow]]\nname = "communes"\nsource = "collect"\n'
        'with = { endpoints = "endpoint.csv", collection = "c", retry_failed = true }\n'
        "when = { index = 'size > 0', analyse = 'media_type = text/csv' }\n",
        encoding="utf-8",
    )
    use(file)
    yield file
    use(load().config)


def test_flows_of_ones_own_stand_beside_the_built_in_ones(own):
    assert list(flows()) == [*FLOWS, "communes"]
    source, stages = plan("communes", {})
    assert (source.name, [stage.name for stage in stages]) == ("endpoints", ["collect", "analyse", "index"])
    with pytest.raises(NotFound, match=r"no flow 'x'; there are .*communes"):
        plan("x", {})


def test_the_file_is_read_once(own):
    before = flows()
    own.write_text("nothing", encoding="utf-8")
    assert flows() == before


def test_without_the_file_there_are_the_built_in_ones(own):
    use(None)
    assert flows() == FLOWS
    use(own.parent / "absent.toml")
    with pytest.raises(SettingError, match=r"absent.toml: No such file"):
        flows()


def test_a_job_wins_over_its_flow(own):
    mine = with_defaults("communes", {"retry_failed": False, "then": ["index"], "when": {"index": "size > 9"}})
    assert mine["retry_failed"] is False
    assert mine["when"] == {"index": "size > 9"}  # analyse is not there, nor is its condition
    assert with_defaults("communes", mine) == mine
    assert with_defaults("communes", {})["when"] == {"index": "size > 0", "analyse": "media_type = text/csv"}
    assert "when" not in with_defaults("collect", {})


def test_a_file_that_a_flow_brings_along_goes_to_the_store(own, tmp_path):
    services = Services(load(home=tmp_path / "home"))
    params = localise("communes", {"collection": Path("ailleurs")}, services)
    sha256, _, name = params["endpoints"].removeprefix("list:").partition("#")
    assert services.store(services.settings.store).read_list(sha256) == b"endpoint-url\n"
    assert (name, params["collection"]) == (str(tmp_path / "endpoint.csv"), str(Path("ailleurs").absolute()))
    (tmp_path / "endpoint.csv").unlink()
    with pytest.raises(NotFound, match=r"endpoint.csv: no such file"):
        localise("communes", {}, services)
    services.close()


@pytest.mark.parametrize("flow", FLOWS.values(), ids=lambda flow: flow.name)
def test_a_flow_can_be_shown_as_json(flow):
    shown = flow.dump()
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["on"], set(shown["requires"])) == ("event", flow.requires)
