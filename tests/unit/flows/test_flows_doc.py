"""What docs/flows.md shows is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from datafab.core.condition import _COMPARE, ANALYSIS_FIELDS, parse
from datafab.flows.registry import FLOWS
from datafab.flows.table import KEYS, MAX_DEFAULTS_BYTES
from datafab.flows.toml import examine
from workers.schedule import cron

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "flows.md").read_text(encoding="utf-8")


def test_the_example_of_the_catalogue_is_in_order(tmp_path):
    page = (DOCS / "catalogue.md").read_text(encoding="utf-8")
    file = tmp_path / "datafab.toml"
    file.write_text(page.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    flows, problems = examine(file, FLOWS, cron)
    assert not problems
    (flow,) = flows.values()
    assert (flow.stages, flow.follow_up) == (FLOWS["catalogue"].stages, FLOWS["catalogue"].follow_up)
    assert flow.schedule


def test_the_example_is_in_order():
    flows, problems = examine(DOCS / "datafab.toml", FLOWS, cron)
    assert not problems
    assert [flow.title for flow in flows.values()] == [
        "endpoints > collect > analyse > index",
        "endpoints > collect > analyse > index > publish",
    ]
    assert not any(flow.needs for flow in flows.values())
    assert flows["communes"].schedule
    assert not flows["communes-companies"].schedule


def test_the_page_shows_the_file():
    assert f"```toml\n{(DOCS / 'datafab.toml').read_text(encoding='utf-8')}```" in TEXT


@pytest.mark.parametrize("word", [*KEYS, *_COMPARE, *ANALYSIS_FIELDS])
def test_the_page_tells_of_everything(word: str):
    assert f"`{word}`" in TEXT


@pytest.mark.parametrize("field", ["url", "media_type", "filename", "status", "dataset.title", "collect.plugin"])
def test_the_fields_that_the_page_names_can_be_compared(field: str):
    assert parse(f"{field} = x").groups


def test_the_page_knows_the_limit():
    assert f"at most {MAX_DEFAULTS_BYTES // 1024} KB" in TEXT
