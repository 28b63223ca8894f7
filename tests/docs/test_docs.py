"""The pages say what there is: those that are made of the code are of this code, and nothing is left untold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from datafab.cli.main import main
from datafab.core.item import Batch, Item, Status
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.runner import Attempt, run_stage
from datafab.core.services import Services
from datafab.settings import Settings, load
from tests.docs.pages import DOCS, PAGES, described, walked

ROOT = DOCS.parent
FILES = sorted(DOCS.glob("*.md"))
TEXTS = {file.name: file.read_text(encoding="utf-8") for file in FILES}
WRITTEN = "\n".join(TEXTS.values())


def told(name: str) -> bool:
    """Whether some page shows a name as such, and not as a part of another."""
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w/])", WRITTEN) is not None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of the pages as they are to be. Other tests have added stages to those of this process."""
    folder = tmp_path_factory.mktemp("docs")
    subprocess.run([sys.executable, "-m", "tests.docs", folder], cwd=ROOT, check=True, timeout=120)
    return folder


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_of_the_code_is_of_this_code(made: Path, name: str):
    said = (made / name).read_text(encoding="utf-8")
    assert TEXTS.get(name) == said, "run `python -m tests.docs` and commit what it writes"


def test_every_setting_is_told():
    untold = [name for field in Settings.model_fields if not told(name := f"DATAFAB_{field.upper()}")]
    assert not untold


def test_settings_that_are_told_are_there():
    named = set(re.findall(r"DATAFAB_[A-Z0-9_]*[A-Z0-9]", WRITTEN))
    # Of the tests and the Makefile, not of the application.
    others = {"DATAFAB_CHAOS", "DATAFAB_ARCHIVES", "DATAFAB_ENDPOINTS"}
    assert named <= {f"DATAFAB_{field.upper()}" for field in Settings.model_fields} | others


def test_every_command_is_told():
    commands = [context.command_path for context in walked(click.Context(main, info_name="datafab"))]
    assert len(commands) > 20
    assert not [command for command in commands if not told(command)]


def test_every_stage_and_flow_says_what_it_does():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", TEXTS["stages.md"], re.MULTILINE)
    assert {name for name, _ in rows} >= {"collect", "analyse", "index", "push", "archive", "publish"}
    assert not [name for name, title in rows if not title]


#: Flows and the pages that show them at work.
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


def test_every_flow_has_a_page_that_shows_what_comes_out():
    rows = re.findall(
        r"^\| `(\w+)` \| .*? \| .*? \| .*? \|$", TEXTS["stages.md"].partition("| stage |")[0], re.MULTILINE
    )
    assert set(PAGES_OF_FLOWS) == set(rows)
    for flow, page in PAGES_OF_FLOWS.items():
        assert re.search(rf"`{flow}`", TEXTS[page]), f"{page} does not name the flow {flow}"
        assert re.search(r"^ *\$ datafab .*(\\\n.*)*\n *[^$\s`]", TEXTS[page], re.MULTILINE), f"{page} has no output"


def test_every_route_is_told():
    assert not [path for path in described()["paths"] if not told(path)]


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


# --- the site ---


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [name for part in (nav.values() if isinstance(nav, dict) else nav) for name in _pages(part)]


def test_the_site_has_every_page_once():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(_pages(site["nav"])) == [file.name for file in FILES]


def _links(text: str) -> list[str]:
    bare = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    return [
        link for link in re.findall(r"\]\(([^)\s]+)\)", bare) if "://" not in link and not link.startswith("mailto:")
    ]


def _anchor(heading: str) -> str:
    """Return the anchor that a heading gets on the site and in the forge."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


@pytest.mark.parametrize("file", [*FILES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda file: file.name)
def test_every_link_leads_somewhere(file: Path):
    for link in _links(file.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = (file.parent / name).resolve() if name else file
        assert target.exists(), link
        if file.parent == DOCS:
            assert target.parent == DOCS, f"{link}: the site has docs/ only"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, headings), link
