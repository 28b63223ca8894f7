"""WMO's files, fetched from a mirror on this host: all of them, or nothing is changed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from datafab.errors import Fatal, FlowError
from datafab.fetch.session import Fetcher
from datafab.publish.wis2_bundle import BUNDLE_FILES, Wis2Bundle
from datafab.settings import load
from tests.servers.http import Answer, Site

TOPICS = "/wmo-im.github.io/wis2-topic-hierarchy/wth-bundle.zip"
SCHEMA = "/raw.githubusercontent.com/wmo-im/wcmp2/main/schemas/wcmp2-bundled.json"


def archive(**members: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, text in members.items():
            opened.writestr(name.replace("__", "/"), text)
    return packed.getvalue()


@pytest.fixture
def mirror() -> Iterator[Site]:
    with Site() as site:
        for source in BUNDLE_FILES:
            parts = urlsplit(source.url)
            body = b'{"title": "a schema"}' if source.url.endswith(".json") else f"of {parts.path}".encode()
            site.answers[f"/{parts.netloc}{parts.path}"] = Answer(body, content_type="text/plain")
        topics = {"earth-system-discipline.csv": "Name", "..__..__channel.csv": "Name", "README.md": "no table"}
        site.answers[TOPICS] = Answer(archive(**topics), content_type="application/zip")
        codelists = archive(**{"main__codelists__contact-role.csv": "Name"})
        site.answers["/github.com/wmo-im/wcmp2-codelists/archive/refs/heads/main.zip"] = Answer(codelists)
        yield site


def sync(mirror: Site, home: Path) -> list[str]:
    urls: list[str] = []
    fetcher = Fetcher(load({}, home=home, allow_private_hosts="127.0.0.1/32"))
    try:
        Wis2Bundle(fetcher, mirror.url("/")).sync(home, on_progress=urls.append)
    finally:
        fetcher.close()
    return urls


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def test_everything_comes_into_its_place(mirror: Site, tmp_path: Path):
    home = tmp_path / "home"
    assert len(sync(mirror, home)) == len(BUNDLE_FILES)
    assert files(home) == {
        ".pywis-pubsub/wis2-notification-message/wis2-notification-message-bundled.json",
        ".pywcmp/wcmp-2/wcmp2-bundled.json",
        ".pywcmp/wcmp-2/link-relations-1.csv",
        ".pywcmp/wcmp-2/codelists/contact-role.csv",
        ".pywcmp/wis2-topic-hierarchy/earth-system-discipline.csv",
        ".pywcmp/wis2-topic-hierarchy/channel.csv",
        ".pywis-topics/wis2-topic-hierarchy/earth-system-discipline.csv",
        ".pywis-topics/wis2-topic-hierarchy/channel.csv",
        ".pywis-topics/wis2-topic-hierarchy/tlds-alpha-by-domain.txt",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


def test_what_was_there_is_replaced_link_or_folder(mirror: Site, tmp_path: Path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (home / ".pywis-topics" / "old").mkdir(parents=True)
    (home / ".pywcmp").symlink_to(elsewhere)
    sync(mirror, home)
    assert not (home / ".pywis-topics" / "old").exists()
    assert not (home / ".pywcmp").is_symlink()
    assert files(elsewhere) == {"kept"}


@pytest.mark.parametrize(
    ("path", "answer", "says"),
    [
        (SCHEMA, Answer(b"no", status=404), "the server answered 404"),
        (SCHEMA, Answer(b"<!DOCTYPE html><html><body>Proxy</body></html>", content_type="text/html"), "a web page"),
        (SCHEMA, Answer(b'{"title": ', content_type="text/plain"), "not a JSON object"),
        (TOPICS, Answer(b"PK no zip", content_type="application/zip"), "not a readable zip archive"),
        (TOPICS, Answer(archive(**{"README.md": "x"}), content_type="application/zip"), "holds no table"),
        (TOPICS, Answer(archive(**{"a.csv": "x"}), content_type="application/zip"), "no earth-system-discipline.csv"),
    ],
)
def test_nothing_changes_where_one_file_is_no_good(mirror: Site, tmp_path: Path, path: str, answer: Answer, says: str):
    (tmp_path / ".pywcmp").mkdir()
    (tmp_path / ".pywcmp" / "mine").touch()
    mirror.answers[path] = answer
    with pytest.raises(Fatal, match=says):
        sync(mirror, tmp_path)
    assert files(tmp_path) == {".pywcmp/mine"}
    assert [path.name for path in tmp_path.iterdir()] == [".pywcmp"]


def test_a_home_that_cannot_be_written_is_named(mirror: Site, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(FlowError, match="DATAFAB_HOME="):
        sync(mirror, tmp_path / "file" / "home")
