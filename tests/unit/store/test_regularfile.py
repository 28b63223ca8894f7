"""What is not a regular file, or too large, is refused at once wherever a file of this host is read."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from datafab.cli.main import main
from datafab.core.services import Services
from datafab.errors import DatafabError, FlowError, Lost
from datafab.flows.registry import localise
from datafab.settings import load
from datafab.store.regularfile import NotRegular, read_regular
from datafab.store.store import Store

KINDS = {
    "/dev/zero": "is a device",
    "/dev/null": "is a device",
    "/proc/self/environ": "is a file of the kernel",
    "/proc/kcore": "is a file of the kernel",
    "/proc/self/../version": "is a file of the kernel",
    "/sys/kernel/notes": "is a file of the kernel",
    "/proc": "is a folder",
    "pipe": "is a pipe",
    "socket": "is a socket",
    "folder": "is a folder",
    "link": "is a device",
    "large": "has more than 134217728 bytes",
}


@pytest.fixture(params=[name for name in KINDS if not name.startswith("/") or Path(name).exists()])
def odd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Return something that is not a regular file, and what is said of it."""
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("link").symlink_to("/dev/zero")
    with Path("large").open("wb") as file:
        file.truncate(2**40)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    return Path(request.param), KINDS[request.param]


def test_it_is_refused_by_its_kind(odd: tuple[Path, str]):
    path, said = odd
    with pytest.raises(NotRegular, match=said) as caught:
        read_regular(path)
    assert caught.value.strerror.startswith(said)


def test_at_the_command_line_too(odd: tuple[Path, str], tmp_path: Path):
    path, said = odd
    services = Services(load({}, home=tmp_path / "home"))
    with pytest.raises(FlowError, match=said):
        localise("collect", {"endpoints": path, "collection": tmp_path / "c"}, services)
    with pytest.raises(DatafabError, match=said):
        localise("archive", {"plan": str(path)}, services)
    plan = tmp_path / "plan.json"
    output = {"name": "a"}
    plan.write_text(json.dumps({"integrations": [{"name": "a", "files": [str(path.absolute())], "output": output}]}))
    if path.name != "large":  # one of an archive may be larger
        with pytest.raises(DatafabError, match=said):
            localise("archive", {"plan": str(plan)}, services)
        answer = CliRunner().invoke(main, ["analyse", str(path)])
        assert said in f"{answer.output}{answer.exception}"
    services.close()


def test_a_file_of_an_archive_has_a_limit(tmp_path: Path):
    services = Services(load({}, home=tmp_path / "home", max_bytes=1000))
    (tmp_path / "large").write_bytes(b"x" * 1001)
    (tmp_path / "plan.json").write_text(
        json.dumps({"integrations": [{"name": "a", "files": ["large"], "output": {"name": "a"}}]})
    )
    with pytest.raises(FlowError, match=r"has more than 1000 bytes \(DATAFAB_MAX_BYTES\)"):
        localise("archive", {"plan": str(tmp_path / "plan.json")}, services)


def test_a_stores_pipe_holds_nobody(tmp_path: Path):
    (tmp_path / "resource").mkdir()
    os.mkfifo(tmp_path / "resource" / ("0" * 64))
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(FlowError, match="is not a regular file"):
        Store(str(tmp_path)).open("0" * 64)
    with pytest.raises(FlowError, match="is not a regular file"):
        Store(str(tmp_path)).read("log.csv")


def test_a_cancel_ends_the_reading(tmp_path: Path):
    blocks: list[int] = []

    def check() -> None:
        blocks.append(1)
        if len(blocks) == 2:
            raise Lost("cancelled")

    (tmp_path / "a").write_bytes(b"x" * 10 * 1024**2)
    with pytest.raises(Lost):
        read_regular(tmp_path / "a", check=check)
    assert len(blocks) == 2


def test_a_file_is_read_whole_up_to_the_limit(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"0123456789")
    assert read_regular(tmp_path / "a", 10) == b"0123456789"
    (tmp_path / "empty").touch()
    assert read_regular(tmp_path / "empty") == b""
    with pytest.raises(NotRegular, match="more than 9 bytes"):
        read_regular(tmp_path / "a", 9)
