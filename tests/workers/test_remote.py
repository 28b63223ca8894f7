"""The command line and the Python API over HTTP, on real workers: as from another host, with a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from datafab import api
from datafab.cli.main import main
from datafab.core.job import JobStatus
from datafab.core.roles import Role
from datafab.core.services import Services
from datafab.core.tokens import Tokens
from datafab.errors import FlowError, NotFound
from datafab.sandbox.control import serving
from datafab.settings import load
from tests.workers.conftest import Bench
from webhook import create_app
from workers.app import use
from workers.canvas import start


class Remote:
    """A user of another host, who has nothing but the URL and a token."""

    def __init__(self, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tokens = tokens
        self._environment = monkeypatch

    def be(self, role: str) -> None:
        """Set the token of a role, which is created at its first use."""
        self._environment.setenv("DATAFAB_TOKEN", self.tokens.create(role, Role(role))[1])
        use(load())

    def run(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == code, f"{done.output} {done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def job(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(*arguments))
        return found


@pytest.fixture
def remote(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    # The webhook enqueues with the settings of the cluster, in this process too.
    def start_there(*args: Any, **kwargs: Any) -> Any:
        use(bench.settings)
        try:
            return start(*args, **kwargs)
        finally:
            use(load())

    services = Services(bench.settings, patience=5)
    with serving(create_app(bench.settings, services, start_there)) as url:
        monkeypatch.setenv("DATAFAB_URL", url)
        monkeypatch.setenv("DATAFAB_HOME", str(tmp_path))
        monkeypatch.delenv("DATAFAB_REDIS_URL", raising=False)
        tokens = services.get(Tokens)
        yield Remote(tokens, monkeypatch)
        for token in tokens.all():
            tokens.revoke(token.id)
    use(bench.settings)
    services.close()


def test_jobs_are_enqueued_followed_and_cancelled_over_http(remote: Remote, tmp_path: Path):
    remote.be("operator")
    handle = api.enqueue("check_url", url="http://127.0.0.1:1/", key="once")
    ended = handle.wait(timeout=600)
    assert (ended.status, ended.flow) == (JobStatus.SUCCEEDED, "check_url")
    assert handle.failures == {}
    assert api.enqueue("check_url", url="http://127.0.0.1:1/", key="once").id == handle.id
    assert remote.job("jobs", "show", handle.id, "--json")["id"] == handle.id
    assert handle.id in remote.run("jobs", "list", "--flow", "check_url")
    remote.run("jobs", "cancel", handle.id, code=1)
    assert handle.status == JobStatus.SUCCEEDED
    assert api.search("nothing-has-this-name").total == 0
    # A local file is uploaded; the collection is below the cluster's own root.
    (tmp_path / "endpoint.csv").write_text("endpoint,endpoint-url\n,http://127.0.0.1:1/a.csv\n")
    said = remote.run("collect", str(tmp_path / "endpoint.csv"), "--collection-dir", "remote", "--then", "none", code=3)
    assert "error" not in said
    assert api.cluster().newest(flow="collect", limit=1)[0].counts.failed == 1
    assert not (tmp_path / "log").exists()
    (tmp_path / "plan.json").write_text('{"integrations": 1}')
    assert api.enqueue("archive", plan=str(tmp_path / "plan.json")).job.params["plan"] == {"integrations": 1}
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(FlowError, match="not valid JSON"):
        api.enqueue("archive", plan=tmp_path / "plan.json")
    with pytest.raises(NotFound, match="no such file"):
        api.enqueue("collect", endpoints=str(tmp_path / "absent.csv"), collection="remote")


def test_what_is_refused_over_http_says_why(remote: Remote):
    remote.be("viewer")
    assert remote.run("jobs", "list", "--json", "--limit", "1") is not None
    assert "role operator" in remote.run("enqueue", "check_url", "-p", "url=http://x", code=1)
    with pytest.raises(FlowError, match="DATAFAB_URL"):
        api.enqueue("push", secrets={"api_key": "k"}, resource_id="r")
    assert "run it on a host of the cluster" in remote.run("jobs", "prune", code=1)
    with pytest.raises(NotFound, match="no job 'absent'"):
        _ = api.JobHandle("absent").job
    remote.tokens.revoke("viewer")
    said = remote.run("jobs", "list", code=1)
    assert "revoked" in said
    assert "DATAFAB_TOKEN" in said
