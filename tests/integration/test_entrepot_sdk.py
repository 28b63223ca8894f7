"""The sandbox's entrepôt against IGN's own SDK, which delivers, makes and describes its example archive."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from datafab.sandbox.archives import Sandbox
from datafab.sandbox.control import Fault
from datafab.sandbox.entrepot import entrepot

EXAMPLES = Path(str(files("sdk_entrepot_gpf"))) / "_data"
DELIVERY = EXAMPLES / "datasets" / "2_dataset_archive" / "upload_descriptor.json"
WORKFLOW = EXAMPLES / "workflows" / "generic_archive.jsonc"
#: What the SDK reads of its own settings file; a dollar sign has to be doubled there.
SETTINGS = """
[store_authentification]
token_url={token_url}
grant_type=password
client_id={client_id}
client_secret={client_secret}
login={login}
password={password}
nb_attempts=1
[store_api]
root_url={url}
datastore={datastore}
nb_attempts=2
sec_between_attempt=0
[upload]
nb_sec_between_check_updates=1
[processing_execution]
nb_sec_between_check_updates=1
"""

Sdk = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with entrepot() as running:
        yield running


@pytest.fixture
def sdk(sandbox: Sandbox, tmp_path: Path) -> Sdk:
    """Return a function that runs the SDK's command line against the sandbox."""
    names = ("token_url", "client_id", "client_secret", "login", "password", "url", "datastore")
    ini = tmp_path / "sdk.ini"
    ini.write_text(SETTINGS.format(**{name: getattr(sandbox, name) for name in names}), encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-m", "sdk_entrepot_gpf", "--ini", str(ini), *arguments]
        env = os.environ | {"PYTHONIOENCODING": "utf-8"}
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False
        )

    return run


def test_the_sdk_delivers_makes_and_describes_its_example(sandbox: Sandbox, sdk: Sdk):
    for arguments in (
        ("delivery", str(DELIVERY)),
        ("workflow", "-f", str(WORKFLOW), "-s", "intégration-archive-livrée"),
        ("workflow", "-f", str(WORKFLOW), "-s", "patch-donnée-stockée"),
    ):
        done = sdk(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    (upload,), (execution,), (stored,) = (
        list(kind.values()) for kind in (sandbox.uploads, sandbox.executions, sandbox.stored)
    )
    assert (sandbox.state(upload), list(upload["files"])) == ("CLOSED", ["CANTON/CANTON.zip"])
    assert upload["tags"] == {"tuto": "oui"}
    assert [comment["text"] for comment in upload["comments"]]
    assert (sandbox.status(execution), sandbox.stored_status(stored)) == ("SUCCESS", "GENERATED")
    assert stored["edition"] == {"from": "2024-05-01", "to": "2024-06-02"}
    assert {each["status"] for each in sandbox.control.journal} <= {200, 201, 204, 206}


def test_the_sdk_shows_why_a_delivery_failed(sandbox: Sandbox, sdk: Sdk):
    sandbox.failing.add("Vérification archive")
    done = sdk("delivery", str(DELIVERY))
    assert done.returncode == 1
    assert sandbox.state(*sandbox.uploads.values()) == "UNSTABLE"


def test_the_sdk_makes_an_execution_twice_where_an_answer_is_lost(sandbox: Sandbox, sdk: Sdk):
    """Its known defect, which `tests/workers/test_archive.py` shows us not to have: so the fault is a real one."""
    assert sdk("delivery", str(DELIVERY)).returncode == 0
    sandbox.control.faults.append(Fault(method="POST", ends="executions", status=503, after=True))
    done = sdk("workflow", "-f", str(WORKFLOW), "-s", "intégration-archive-livrée")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(sandbox.executions) == len(sandbox.stored) == 2
