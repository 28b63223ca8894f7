"""A home with a running cluster for the faces, and sample files on a local portal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from datafab.embedded import CORE, Cluster
from datafab.sandbox.portal import endpoint_csv, portal
from datafab.settings import Settings, child_environment, load
from tests.servers import nursery

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with portal() as url:
        yield url


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    # Each tick costs ten milliseconds of a core, whether there is something to do or not.
    own = {"lease": 3, "tick": 0.5, "io_threads": 8, "io_processes": 1, "cpu_processes": 1}
    return load(home=home, allow_private_hosts="127.0.0.1/32", **own)


@pytest.fixture(scope="module")
def cluster(settings: Settings) -> Iterator[Cluster]:
    with ExitStack() as stack:
        with nursery.unmeasured_children():  # its parts are measured in test_embedded.py, their tasks in tests/workers
            running = stack.enter_context(Cluster(settings, CORE))
        yield running


@pytest.fixture(scope="module")
def datafab(settings: Settings) -> Run:
    """Return a function that runs the command line in a process of its own, in this home."""

    def run(
        *arguments: str, code: int = 0, cwd: Path | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        environment = child_environment(settings) | {"COLUMNS": "200"}
        done = nursery.run("datafab", *arguments, env=environment, cwd=cwd, timeout=timeout)
        assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def collection(tmp_path: Path, site: str) -> Path:
    folder = tmp_path / "collection"
    folder.mkdir()
    (folder / "endpoint.csv").write_text(endpoint_csv(site), encoding="utf-8")
    return folder


def printed(done: subprocess.CompletedProcess[str]) -> list[dict]:
    """Return the JSON lines that a command printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]
