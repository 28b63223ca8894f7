"""The contracts of pyproject.toml refuse what they should, and no modules import each other in a circle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("datafab", "workers", "webhook")

#: module, what is added to it, and the import that must be named as forbidden
FORBIDDEN = [
    ("datafab/ops/prune.py", "import flask", "datafab.ops.prune -> flask"),
    ("datafab/cli/terminal.py", "import celery", "datafab.cli.terminal -> celery"),
    ("datafab/core/runner.py", "from workers import canvas", "datafab.core.runner -> workers.canvas"),
    ("datafab/analysis/workbook.py", "import csv_detective", "datafab.analysis.workbook -> csv_detective"),
    ("datafab/collect/endpoint.py", "from datafab.push import ckan", "datafab.collect.endpoint -> datafab.push.ckan"),
    ("datafab/store/bucket.py", "from datafab.core import item", "datafab.store.bucket -> datafab.core.item"),
    ("datafab/index/owner.py", "from datafab.fetch import resolver", "datafab.index.owner -> datafab.fetch.resolver"),
    ("workers/leases.py", "import webhook.site", "workers.leases -> webhook.site"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the code, to be spoilt."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "celeryconfig.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def contracts(tree: Path) -> tuple[int, str]:
    """Check the contracts of a tree; return the exit code and what was printed, without its line breaks."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tree,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tree), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_contracts_refuse_each_forbidden_import(tree: Path):
    for file, line, _ in FORBIDDEN:
        with (tree / file).open("a") as module:
            module.write(f"\n{line}\n")
    code, printed = contracts(tree)
    assert code == 1, printed
    assert [named for _, _, named in FORBIDDEN if named not in printed] == [], printed


def test_a_module_that_stands_on_no_floor_is_refused(tree: Path):
    (tree / "datafab" / "novelty.py").write_text('"""A module of no room."""\n')
    code, printed = contracts(tree)
    assert code != 0
    assert "novelty" in printed, printed


def test_no_modules_import_each_other_in_a_circle():
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(arrows) > 200
    # What imports nothing that is left goes, until nothing goes any more: a circle stays.
    while gone := {module for module, imported in arrows.items() if not imported & arrows.keys()}:
        arrows = {module: imported for module, imported in arrows.items() if module not in gone}
    assert arrows == {}
