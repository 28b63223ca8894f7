"""``datafab wis2`` as a user has it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from datafab.publish.notification import MessageIdentity, Subject, message
from datafab.publish.wis2_bundle import BUNDLE_FILES
from datafab.settings import child_environment, load
from datafab.store.regularfile import MAX_FILE_BYTES
from tests.records import METADATA, record
from tests.servers import nursery
from tests.servers.http import Answer, Site

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
BUNDLE, CORPUS = SHARED / "wis2-bundle", SHARED / "corpus" / "wis2"
TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
RIGHT = message(
    MessageIdentity(id="31e9d66a-cd83-4174-9429-b932f1abe1be", pubtime="2025-03-28T14:31:00Z"),
    Subject(
        data_id="wis2/fr-ifremer-argo/data/core/ocean/a.nc",
        href="https://data-argo.ifremer.fr/a.nc",
        metadata_id="urn:wmo:md:fr-ifremer-argo:cor:msg:argo",
        sha256="0" * 64,
    ),
)
Wis2 = Callable[..., subprocess.CompletedProcess[str]]

needs_bundle = pytest.mark.skipif(not (BUNDLE.is_dir() and CORPUS.is_dir()), reason="the suites' data are not here")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def wis2(home: Path) -> Wis2:
    def run(*arguments: str, code: int, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = child_environment(load(home=home)) | {"COLUMNS": "200"}
        done = nursery.run("datafab", "wis2", *arguments, env=environment, stdin=stdin)
        assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
        return done

    return run


def laid_out(home: Path) -> None:
    for name in ("pywis-pubsub", "pywcmp", "pywis-topics"):
        (home / f".{name}").symlink_to(BUNDLE / name)


def test_a_right_message(wis2: Wis2):
    done = wis2("check", "-", "--topic", TOPIC, code=0, stdin=json.dumps(RIGHT))
    assert "no errors" in done.stdout
    assert "WMO's own suites did not run: no .pywis-pubsub/" in done.stderr


def test_a_wrong_message_says_rule_field_and_fix(wis2: Wis2):
    wrong = RIGHT | {"properties": RIGHT["properties"] | {"pubtime": "yesterday"}}
    said = wis2(
        "check", "-", "--topic", TOPIC.replace("data/core", "core/data"), code=1, stdin=json.dumps(wrong)
    ).stdout
    assert "W9 properties.pubtime: 'yesterday' is not an RFC 3339 time in UTC" in said
    assert f"swap levels 5 and 6: {TOPIC}" in said
    assert "2 rules broken" in said
    found = map(json.loads, wis2("check", "-", "--json", code=1, stdin=json.dumps(wrong)).stdout.splitlines())
    (finding,) = [one for one in found if one["level"] == "error"]
    assert (finding["rule"], finding["field"], finding["level"]) == ("W9", "properties.pubtime", "error")
    assert finding["fix"].startswith("write the time of publication in UTC")


@pytest.mark.parametrize(
    "rings",
    [
        [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]],
        [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], [[5, 5], [6, 5], [6, 6], [5, 5]]],
        [[[0, 0], [4, 0], [8, 0], [0, 0]]],
    ],
    ids=["bow-tie", "hole outside its shell", "no area"],
)
def test_a_geometry_that_is_no_valid_one(wis2: Wis2, rings: list):
    """The suite of WMO asks for a valid one: so do we without its data."""
    wrong = RIGHT | {"geometry": {"type": "Polygon", "coordinates": rings}}
    said = wis2("check", "-", "--topic", TOPIC, code=1, stdin=json.dumps(wrong)).stdout
    assert "W7 geometry: it is not a valid geometry: " in said
    assert "1 rules broken" in said


def test_advice_is_no_fault(wis2: Wis2):
    mild = RIGHT | {"properties": {key: value for key, value in RIGHT["properties"].items() if key != "metadata_id"}}
    mild["properties"]["pubtime"] = "2999-01-01T00:00:00Z"
    said = wis2("check", "-", code=0, stdin=json.dumps(mild)).stdout
    assert "no errors, 3 pieces of advice" in said
    for advice in ("W10 properties.pubtime", "W12 properties.metadata_id", "W23 links[0].length"):
        assert advice in said


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        (["check", "-"], "id;nom", 1, "not valid JSON"),
        (["check", "-"], '{"id": 1, "id": 2}', 1, "has the member 'id' twice"),
        (["check", "-"], '{"id": NaN}', 1, "NaN is not a number in JSON"),
        (["check", "-"], '{"id": "\\udc00"}', 1, "half of a surrogate pair"),
        (["check", "absent.json"], "", 2, "No such file"),
        (["check", "-"], '{"id": "urn:wmo:md:fr-ifremer-argo:x"}', 1, "`datafab wis2 sync` fetches them"),
        (["sync", "--mirror", "http://127.0.0.1:9/"], "", 1, "127.0.0.1"),
    ],
)
def test_what_cannot_be_checked(wis2: Wis2, arguments: list[str], stdin: str, code: int, says: str):
    assert says in wis2(*arguments, code=code, stdin=stdin).stderr


def test_a_record_is_judged_by_our_rules_where_the_suites_data_are_not(wis2: Wis2):
    done = wis2("check", "-", "--topic", METADATA, code=0, stdin=json.dumps(record()))
    assert "no errors" in done.stdout
    assert "WMO's own suites did not run: no .pywcmp/" in done.stderr
    elsewhere = METADATA.replace("fr-ifremer-argo", "de-dwd")
    said = wis2("check", "-", "--topic", elsewhere, code=1, stdin=json.dumps(record(title=""))).stdout
    assert "C4 properties.title: there is none" in said
    assert "C1 id: its centre 'fr-ifremer-argo' is not that of the topic" in said
    assert "2 rules broken" in said


def test_a_message_with_a_list_for_a_rel_is_judged(wis2: Wis2):
    wrong = RIGHT | {"links": [{"href": "https://data-argo.ifremer.fr/a.nc", "rel": ["canonical"]}]}
    said = wis2("check", "-", "--topic", TOPIC, code=1, stdin=json.dumps(wrong)).stdout
    assert "W19 links[0]: it lacks href or rel" in said


def test_a_record_is_no_event(tmp_path: Path, home: Path):
    (tmp_path / "rec.json").write_text(json.dumps(record()), encoding="utf-8")
    environment = child_environment(load(home=home)) | {"COLUMNS": "200"}
    done = nursery.run("datafab", "publish", str(tmp_path / "rec.json"), "--topic", METADATA, env=environment)
    assert done.returncode == 1
    assert "rec.json is a WCMP2 record, not an event: put it on a web server" in done.stderr


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_an_event_is_a_regular_file(tmp_path: Path, home: Path, kind: str):
    path = Path("/dev/null") if kind == "device" else tmp_path / "pipe"
    if kind == "pipe":
        os.mkfifo(path)
    done = nursery.run("datafab", "publish", str(path), "--topic", TOPIC, env=child_environment(load(home=home)))
    assert done.returncode == 1
    assert f"is a {kind}, not a regular file" in done.stderr


def test_a_file_that_is_checked_has_a_limit(wis2: Wis2, tmp_path: Path):
    path = tmp_path / "endless.json"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert f"has more than {MAX_FILE_BYTES} bytes" in wis2("check", str(path), code=1).stderr


@needs_bundle
def test_the_suites_run_where_their_data_are(wis2: Wis2, home: Path):
    laid_out(home)
    done = wis2("check", "-", "--topic", TOPIC, code=0, stdin=json.dumps(RIGHT))
    assert "did not run" not in done.stderr
    made_up = wis2("check", "-", "--topic", f"{TOPIC}/bouteilles", code=1, stdin=json.dumps(RIGHT)).stdout
    assert f"T2 topic: {TOPIC}/bouteilles is not in WMO's tables" in made_up
    record = CORPUS / "ifremer-fr-ifremer-argo-core-metadata.json"
    assert "no errors" in wis2("check", str(record), code=0).stdout


@needs_bundle
def test_sync_makes_the_suites_run(wis2: Wis2, monkeypatch: pytest.MonkeyPatch):
    """From a mirror that has WMO's own files, as `sync` expects them."""
    monkeypatch.setenv("DATAFAB_ALLOW_PRIVATE_HOSTS", "127.0.0.1/32")
    with Site() as site:
        for source in BUNDLE_FILES:
            parts, place = urlsplit(source.url), BUNDLE / source.places[0].removeprefix(".")
            body = packed(place) if source.archive else place.read_bytes()
            site.answers[f"/{parts.netloc}{parts.path}"] = Answer(body, content_type="application/octet-stream")
        done = wis2("sync", "--mirror", site.url("/"), code=0)
    assert f"{site.url('/')}www.iana.org/assignments/link-relations" in done.stderr
    assert "WMO's own checks are ready" in done.stdout
    said = wis2("check", "-", "--topic", f"{TOPIC}/bouteilles", code=1, stdin=json.dumps(RIGHT))
    assert f"T2 topic: {TOPIC}/bouteilles is not in WMO's tables" in said.stdout
    assert "did not run" not in said.stderr
    record = CORPUS / "ifremer-fr-ifremer-argo-core-metadata.json"
    assert "no errors" in wis2("check", str(record), code=0).stdout


def packed(folder: Path) -> bytes:
    """Return a folder's files as an archive, below a folder as GitHub makes it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"main/{file.name}")
    return made.getvalue()
