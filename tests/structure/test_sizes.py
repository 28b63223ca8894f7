"""The tree stays easy to find one's way in: no large room, module or function."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for package in ("datafab", "workers", "webhook") for path in (ROOT / package).rglob("*.py"))
MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 50
MAX_ROOM_SHARE = 0.15


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def room(path: Path) -> str:
    """Return the folder below ``datafab``, or the package."""
    parts = path.relative_to(ROOT).parts
    return "/".join(parts[:2]) if parts[0] == "datafab" and len(parts) > 2 else parts[0]


def test_no_module_is_long():
    assert {str(path.relative_to(ROOT)): n for path in MODULES if (n := lines(path)) > MAX_MODULE_LINES} == {}


@pytest.mark.parametrize("package", ["datafab", "workers", "webhook"])
def test_no_function_is_long(package: str):
    long = {}
    for path in MODULES:
        if path.relative_to(ROOT).parts[0] != package:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long[f"{path.relative_to(ROOT)}::{node.name}"] = length
    assert long == {}


def test_no_room_holds_a_large_part_of_the_code():
    sizes: Counter[str] = Counter()
    for path in MODULES:
        sizes[room(path)] += lines(path)
    name, most = sizes.most_common(1)[0]
    assert most <= MAX_ROOM_SHARE * sizes.total(), f"{name} has {most} of {sizes.total()} lines"


def test_a_noun_is_spelled_the_same_on_every_floor():
    for chain in ("collect", "catalogue", "push", "archive", "publish"):
        assert (ROOT / "datafab" / chain / "chain.py").is_file()
        assert (ROOT / "tests" / "unit" / chain).is_dir()
        assert (ROOT / "docs" / f"{chain}.md").is_file()
