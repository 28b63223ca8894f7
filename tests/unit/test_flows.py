from __future__ import annotations

import pytest

from datafab.domain.payload import Item
from datafab.errors import FlowError, NotFound
from datafab.flows import FLOWS, check, plan
from datafab.stage import Stage
from datafab.stages import STAGES

GIVEN = {"endpoints": "endpoint.csv", "collection": "collection"}


@pytest.mark.parametrize(
    ("flow", "params", "error", "field", "says"),
    [
        ("nothing", {}, NotFound, "flow", "no flow 'nothing'; there are "),
        ("collect", {"endpoints": "x"}, FlowError, "collection", "needs the parameter 'collection'"),
        ("collect", GIVEN | {"then": ["nothing"]}, FlowError, "then", "no stage 'nothing'; there are "),
        ("collect", GIVEN | {"then": ["index", "index"]}, FlowError, "index", "stands there twice"),
    ],
)
def test_what_cannot_run_says_why(flow, params, error, field, says):
    with pytest.raises(error, match=says) as raised:
        plan(flow, params)
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("then", "names"),
    [(None, ["collect", "analyse", "index"]), ([], ["collect"]), (["index"], ["collect", "index"])],
)
def test_then_replaces_what_follows(then, names):
    source, stages = plan("collect", GIVEN if then is None else GIVEN | {"then": then})
    assert source.name == "endpoints"
    assert [stage.name for stage in stages] == names


def test_a_stage_must_find_what_it_requires():
    source = Stage(name="s", queue="io", expand=lambda _: iter(()), provides=frozenset({"url"}))
    needs = Stage(name="n", queue="io", run=lambda item, _: item, requires=frozenset({"sha256", "url"}))
    with pytest.raises(FlowError, match="stage 'n' needs sha256, which no stage before it provides"):
        check(source, [needs])
    odd = Stage(name="o", queue="io", run=lambda item, _: item, provides=frozenset({"colour"}))
    with pytest.raises(FlowError, match="items have no field colour"):
        check(source, [odd])


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
