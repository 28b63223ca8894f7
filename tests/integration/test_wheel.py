"""The wheel, installed in a virtual environment of its own, works in a folder that has nothing of this tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from datafab.sandbox.portal import endpoint_csv, portal
from datafab.version import __version__
from tests.servers.redis import RedisServer

ROOT = Path(__file__).parents[2]
PACKAGES = ("datafab", "workers", "webhook")
#: what the script `datafab` does that an installer writes
SCRIPT = "from importlib.metadata import entry_points as all; all(group='console_scripts')['datafab'].load()()"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=480, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


def needed(ours: Distribution) -> list[Distribution]:
    """Return what an installer would bring for us, out of this environment."""
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [(ours, "")]
    while waiting:
        library, extra = waiting.pop()
        for requirement in map(Requirement, library.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                name = canonicalize_name(requirement.name)
                found.setdefault(name, distribution(name))
                new = {(name, extra) for extra in ("", *requirement.extras)} - asked
                asked |= new
                waiting += [(found[name], extra) for _, extra in new]
    return list(found.values())


def link(library: Distribution, site: Path) -> None:
    """Put a library into another environment, file by file only where two share a folder."""
    for file in library.files or ():
        if file.parts[0] in {"..", "__pycache__"}:
            continue
        top = site / file.parts[0]
        target = Path(str(library.locate_file(file.parts[0])))
        if not top.exists():
            top.symlink_to(target)
        elif not top.is_symlink() or top.readlink() != target:
            raise AssertionError(f"{library.name}: {top} is another's")


class Installed:
    """The wheel in a virtual environment, with the libraries that it asks for and none besides."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        venv.create(folder / "venv", symlinks=True)
        self.folder = folder / "elsewhere"
        self.folder.mkdir()
        self.python = folder / "venv" / "bin" / "python"
        site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "venv")}))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        (metadata,) = site.glob("datafab-*.dist-info")
        for library in needed(Distribution.at(metadata)):
            link(library, site)
        self.site = site

    def run(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run ``python`` with these arguments, and return what it printed."""
        bare = {
            key: value for key, value in os.environ.items() if not key.startswith(("DATAFAB_", "PYTHON", "COVERAGE_"))
        }
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=bare | {"DATAFAB_HOME": str(self.folder / "home")} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=480,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_it_holds_what_the_tree_holds_and_no_more(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    ours = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert names == ours | {"celeryconfig.py"}
    assert wheel.name == f"datafab-{__version__}-py3-none-any.whl"


def test_every_module_is_taken_from_it_and_finds_what_it_imports(installed: Installed):
    code = f"""
import importlib, pkgutil, celeryconfig, {", ".join(PACKAGES)}
print(celeryconfig.__file__)
for package in ({", ".join(PACKAGES)}):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith((".__main__", ".wsgi")):
            print(importlib.import_module(module.name).__file__)
"""
    files = installed.run("-c", code).split()
    assert len(files) > 100
    assert all(Path(file).is_relative_to(installed.site) for file in files), files


def test_celery_reports(installed: Installed, tmp_path: Path):
    with RedisServer(tmp_path) as redis:
        report = installed.run("-m", "celery", "-A", "workers", "report", DATAFAB_REDIS_URL=redis.url)
    assert "celery:5.7.0" in report
    assert "datafab.tick" in report


def test_the_commands_work(installed: Installed):
    assert "collect" in installed.run("-c", SCRIPT, "--help")
    (installed.folder / "communes.csv").write_text(
        "nom,code_commune\n" + "Lyon,69123\nParis,75056\nNantes,44109\n" * 20, encoding="utf-8"
    )
    analysis = json.loads(installed.run("-c", SCRIPT, "analyse", "communes.csv", "--json"))
    assert analysis["columns"]["code_commune"]["format"] == "code_commune"


def test_a_collection_runs(installed: Installed):
    with portal() as url:
        (installed.folder / "endpoint.csv").write_text(endpoint_csv(url), encoding="utf-8")
        # Some of the sample endpoints fail, so the exit code is 3.
        said = installed.run(
            *("-c", SCRIPT, "collect", "endpoint.csv", "--inline", "--json"),
            code=3,
            DATAFAB_ALLOW_PRIVATE_HOSTS="127.0.0.1/32",
        )
    assert said
    assert len(list((installed.folder / "resource").iterdir())) >= 5
