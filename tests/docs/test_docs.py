"""The pages show what exists: those made from the code are current, and nothing is left undocumented."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from datafab.cli.main import main
from datafab.core import ledger
from datafab.core.item import Batch, Item, Status
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, run_stage
from datafab.core.services import Services
from datafab.flows.chains import CHAINS
from datafab.settings import Settings, load
from tests.docs.pages import DOCS, PAGES, described, walked

ROOT = DOCS.parent
FILES = sorted(DOCS.rglob("*.md"))
TEXTS = {str(file.relative_to(DOCS)): file.read_text(encoding="utf-8") for file in FILES}
WRITTEN = "\n".join(TEXTS.values())
#: Pages of the root that name files too.
ROOTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


def documented(name: str) -> bool:
    """Tell whether some page shows a name by itself, and not as a part of another."""
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/])", WRITTEN) is not None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the pages as they must be, made by a process that has no stages of other tests."""
    folder = tmp_path_factory.mktemp("docs")
    subprocess.run([sys.executable, "-m", "tests.docs", folder], cwd=ROOT, check=True, timeout=120)
    return folder


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_from_the_code_is_of_this_code(made: Path, name: str):
    expected = (made / name).read_text(encoding="utf-8")
    assert TEXTS.get(name) == expected, "run `python -m tests.docs` and commit what it writes"


def test_every_setting_is_documented():
    missing = [name for field in Settings.model_fields if not documented(name := f"DATAFAB_{field.upper()}")]
    assert not missing


def test_documented_settings_exist():
    named = set(re.findall(r"DATAFAB_[A-Z0-9_]*[A-Z0-9]", WRITTEN))
    # Settings of the tests and the Makefile.
    others = {"DATAFAB_CHAOS", "DATAFAB_ARCHIVES", "DATAFAB_ENDPOINTS"}
    assert named <= {f"DATAFAB_{field.upper()}" for field in Settings.model_fields} | others


def test_every_command_is_documented():
    commands = [context.command_path for context in walked(click.Context(main, info_name="datafab"))]
    assert len(commands) > 20
    assert not [command for command in commands if not documented(command)]


def test_every_stage_and_flow_says_what_it_does():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", TEXTS["stages.md"], re.MULTILINE)
    assert {name for name, _ in rows} >= {"collect", "analyse", "index", "push", "archive", "publish"}
    assert not [name for name, title in rows if not title]


#: The page that shows each flow.
PAGES_OF_FLOWS = {
    "collect": "collect.md",
    "collection": "collect.md",
    "check_url": "collect.md",
    "catalogue": "catalogue.md",
    "source": "catalogue.md",
    "again": "catalogue.md",
    "withdraw": "catalogue.md",
    "archive": "archive.md",
    "publish": "publish.md",
    "push": "push.md",
    "callback": "push.md",
}


def test_every_flow_has_a_page_that_shows_its_output():
    rows = re.findall(
        r"^\| `(\w+)` \| .*? \| .*? \| .*? \|$", TEXTS["stages.md"].partition("| stage |")[0], re.MULTILINE
    )
    assert set(PAGES_OF_FLOWS) == set(rows)
    for flow, page in PAGES_OF_FLOWS.items():
        assert re.search(rf"`{flow}`", TEXTS[page]), f"{page} does not name the flow {flow}"
        assert re.search(r"^ *\$ datafab .*(\\\n.*)*\n *[^$\s`]", TEXTS[page], re.MULTILINE), f"{page} has no output"


def test_every_route_is_documented():
    assert not [path for path in described()["paths"] if not documented(path)]


def test_the_example_of_a_stage_works(tmp_path: Path):
    example: dict[str, Any] = {}
    exec(TEXTS["add-a-stage.md"].partition("```python\n")[2].partition("```")[0], example)  # noqa: S102 - our own page
    (stage,) = example["STAGES"]
    services = Services(load({}, home=tmp_path), jobs=MemoryJobs())
    store = services.store(services.settings.store)
    with store.new_resource() as resource:
        resource.write(b"a,b\n1,2\n")
        sha256, size = resource.commit()
    item = Item(source="s", store=services.settings.store, sha256=sha256)
    (done,) = run_stage(stage, Batch(job="j", flow="f", items=(item,)), services, Attempt())
    assert (done.status, done.size) == (Status.OK, size)
    services.close()


# --- how it is built ---


def _defines(name: str, text: str) -> bool:
    return re.search(rf"^ *(?:def|class) {re.escape(name)}\b", text, re.MULTILINE) is not None


def _wrong_tests(text: str) -> list[str]:
    """Return the ``file::name`` of a page that name no test."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    return [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file() or not _defines(name, (ROOT / file).read_text(encoding="utf-8"))
    ]


#: Files that users make.
OTHERS = {"deploy/settings.env", "datafab/collect/count_stage.py"}


@pytest.mark.parametrize("file", [*FILES, *ROOTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_the_files_that_pages_name_exist(file: Path):
    text = file.read_text(encoding="utf-8")
    named = re.findall(r"`((?:datafab|workers|webhook|tests|docs|deploy)/[\w./-]*)`", text)
    assert not [path for path in named if path not in OTHERS and not (ROOT / path).exists()]
    assert not _wrong_tests(text)


def test_every_promise_has_a_test():
    rows = re.findall(r"^\| (?!promise|---)(.+) \| (.+) \|$", TEXTS["promises.md"], re.MULTILINE)
    assert len(rows) > 30
    assert not [promise for promise, tests in rows if "`tests/" not in tests]


def test_every_defence_has_a_test():
    text = TEXTS["security.md"]
    attackers = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len(attackers) == 9
    for attacker in attackers:
        rows = re.findall(r"^\| (?!attempt|---)(.+) \| (.+) \| (.+) \|$", attacker, re.MULTILINE)
        assert attacker.startswith("Limits") or len(rows) > 1, attacker[:40]
        # The file alone would be a claim that anything in it shows this.
        assert not [
            attempt for attempt, _, tests in rows if not re.fullmatch(r"(`tests/[\w/]+\.py::\w+`(, )?)+", tests)
        ]


#: The parts of a decision, in their order.
PARTS = ("Context", "Decision", "Cost", "Test")
DECISIONS = [
    pytest.param(part, id=f"{name}: {part.partition(chr(10))[0]}")
    for name, text in TEXTS.items()
    if name.startswith("decisions/")
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]
]


@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_has_its_parts_and_a_test(decision: str):
    parts = re.split(r"^\*\*(\w+)\.\*\* ", decision, flags=re.MULTILINE)[1:]
    assert tuple(parts[::2]) == PARTS
    assert all(part.strip() for part in parts[1::2])
    assert re.search(r"`tests/[\w/]+\.py::\w+`", parts[-1])


def test_no_decision_is_lost():
    assert len(DECISIONS) > 60


def test_the_page_on_architecture_is_short():
    words = [word for word in TEXTS["architecture.md"].split() if re.search(r"\w", word)]
    assert len(words) <= 900


def test_every_chain_has_a_row_for_everything():
    (head,) = re.findall(r"^\| chain \|(.+)\|$", TEXTS["architecture.md"], re.MULTILINE)
    assert head.replace("`", "").replace("|", " ").split() == [chain.name for chain in CHAINS]
    for label in ("replaces", "folder", "starts at", "flows", "stages", "tests", "page"):
        (row,) = re.findall(rf"^\| {label} \|(.+)\|$", TEXTS["architecture.md"], re.MULTILINE)
        assert all(cell.strip() for cell in row.split("|")), f"{label}: a chain has none"


def test_the_picture_of_the_floors_is_that_of_the_contract():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (floors,) = (one["layers"] for one in tools["importlinter"]["contracts"] if one["name"] == "Floors")
    picture = TEXTS["architecture.md"].partition("```\n")[2].partition("```")[0]
    drawn = [re.split(r"  +", line)[0] for line in picture.partition("\n\n")[2].splitlines()]
    assert drawn == floors[1:]  # __main__ only starts the command line


def test_the_states_of_a_row_are_those_of_the_ledger():
    states = re.findall(r"^(\w+)  +\S", ledger.__doc__ or "", re.MULTILINE)
    drawn = re.findall(r"^\| `(\w+)` \| .* \| .* \|$", TEXTS["architecture.md"], re.MULTILINE)
    assert drawn == [state for state in states if state != "state"]


# --- the site ---


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [name for part in (nav.values() if isinstance(nav, dict) else nav) for name in _pages(part)]


def test_the_site_has_every_page_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(_pages(site["nav"])) == sorted(TEXTS)


def _links(text: str) -> list[str]:
    bare = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return [
        link for link in re.findall(r"\]\(([^)\s]+)\)", bare) if "://" not in link and not link.startswith("mailto:")
    ]


def _anchor(heading: str) -> str:
    """Return the anchor that a heading gets on the site and in the forge."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


@pytest.mark.parametrize("file", [*FILES, *ROOTS], ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_has_a_target(file: Path):
    for link in _links(file.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (file.parent / name).resolve() if name else file
        assert target.exists(), link
        if file.is_relative_to(DOCS):
            assert target.is_relative_to(DOCS), f"{link}: the site has docs/ only"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, headings), link
