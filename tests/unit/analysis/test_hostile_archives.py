"""Of archives with hostile names or kinds of members, only the table is unpacked, and only where it belongs."""

from __future__ import annotations

import gzip
import io
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest

from datafab.analysis import zip as zip_archive
from datafab.analysis.detective import Detective
from datafab.errors import Fatal
from datafab.store.scratch import process_folder

TABLE = b"id;nom\n" + b"1;Paris\n2;Lyon\n" * 20
NAMES = [
    "a.csv", "../../../../var/slip.csv", "/var/slip.csv", "/etc/cron.d/slip.csv", "..\\..\\slip.csv", "C:\\slip.csv",
    "C:slip.csv", "//host/share/slip.csv", "a/../../slip.csv", "~/slip.csv", "slip\x1b[31m.csv", "slip\n.csv",
    "file:///var/slip.csv", "con.csv", "x" * 60_000 + ".csv", "slip\0.csv",
]  # fmt: skip


def packed(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


def link(name: str, mode: int = stat.S_IFLNK | 0o777) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder deep within a host's folder for temporary files, where all that is written can be seen."""
    (tmp_path / "host" / "a" / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "host" / "a" / "tmp"))
    process_folder()
    return tmp_path / "host"


def written(place: Path) -> set[Path]:
    return set(place.rglob("*"))


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:30])
def test_a_name_leads_nowhere(place: Path, name: str):
    path = place / "archive.zip"
    path.write_bytes(packed((name, TABLE)))
    before, seen = written(place), set[str]()

    def look() -> None:
        seen.update(each.name for each in written(place) - before)

    try:
        found = Detective().analyse(path, check=look)
    except Fatal as error:
        assert error.code in {"unsupported", "corrupt_archive"}  # noqa: PT017 - some names hide the suffix
    else:
        assert found["total_lines"] == 40
        assert {each for each in seen if not each.startswith("tmp")} <= {"member"}
    assert written(place) == before
    assert not any(Path(folder, "slip.csv").exists() for folder in ("/var", "/etc/cron.d", Path.home(), Path.cwd()))


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_link_or_device_is_no_table(place: Path, mode: int):
    path = place / "archive.zip"
    path.write_bytes(packed((link("larger.csv", mode | 0o777), b"/etc/passwd;" * 1000), ("a.csv", TABLE)))
    found = Detective().analyse(path)
    assert (found["member"], found["members"], found["total_lines"]) == ("a.csv", ["a.csv"], 40)
    path.write_bytes(packed((link("a.csv", mode | 0o777), b"/etc/passwd")))
    with pytest.raises(Fatal, match="without a table"):
        Detective().analyse(path)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (packed(("a.zip", packed(("a.csv", TABLE)))), "unsupported"),
        (packed(("a.csv", packed(("a.csv", TABLE)))), "unsupported"),
        (packed(("a.gz", packed(("a.csv", TABLE)))), "unsupported"),
        (gzip.compress(packed(("a.csv", TABLE))), "unsupported"),
        (packed(("a.csv", gzip.compress(gzip.compress(TABLE)))), "unsupported"),
        (packed(("a.txt", b"")), "empty"),
        (packed(("a.csv", TABLE))[:-30], "corrupt_archive"),
    ],
)
def test_archives_in_archives_are_refused(place: Path, content: bytes, code: str):
    path = place / "archive.zip"
    path.write_bytes(content)
    before = written(place)
    with pytest.raises(Fatal) as refused:
        Detective().analyse(path)
    assert refused.value.code == code
    assert written(place) == before


def test_many_members_are_read_and_too_many_refused(place: Path, monkeypatch: pytest.MonkeyPatch):
    path = place / "archive.zip"
    path.write_bytes(packed(*((f"{number}.csv", b"") for number in range(10_000)), ("a.csv", TABLE)))
    found = Detective().analyse(path)
    assert (found["member"], len(found["members"]), found["total_lines"]) == ("a.csv", 100, 40)
    monkeypatch.setattr(zip_archive, "MAX_DIRECTORY_BYTES", 500_000)
    with pytest.raises(Fatal, match="lists its members") as refused:
        Detective().analyse(path)
    assert refused.value.code == "too_large"


def test_a_list_of_members_in_the_long_form_is_measured_too(place: Path):
    """The sizes of a ZIP64 are in another place."""
    path = place / "archive.zip"
    content = packed(("a.csv", TABLE))
    start = content.rindex(b"PK\5\6")
    size, offset = 9_000_000, content.index(b"PK\1\2")
    end64 = b"PK\6\6" + (44).to_bytes(8, "little") + bytes(4) + bytes(8) + (1).to_bytes(8, "little") * 2
    end64 += size.to_bytes(8, "little") + offset.to_bytes(8, "little")
    locator = b"PK\6\7" + bytes(4) + start.to_bytes(8, "little") + (1).to_bytes(4, "little")
    end = b"PK\5\6" + bytes(4) + b"\xff" * 12 + bytes(2)
    path.write_bytes(content[:start] + end64 + locator + end)
    with pytest.raises(Fatal, match="lists its members"):
        Detective().analyse(path)
