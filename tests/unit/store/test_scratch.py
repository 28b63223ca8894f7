"""What killed processes leave in the folder for temporary files is swept, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from datafab.analysis.detective import Detective
from datafab.store.folder import sweep_paths
from datafab.store.scratch import PREFIX, sweep_work_folders, work_folder
from datafab.store.store import Store

KILLED = """
import time
from pathlib import Path
from datafab.store.scratch import work_folder
with work_folder() as folder:
    Path(folder, "resource").mkdir()
    Path(folder, "resource", "half").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""
LONG_AGO = time.time() - 90_000


@pytest.fixture
def passing(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "passing"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


def aged(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def tree(path: Path) -> Path:
    (path / "resource").mkdir(parents=True)
    (path / "resource" / "a").write_text("a")
    aged(path / "resource" / "a", path / "resource", path)
    return path


def test_a_work_folder_lives_as_long_as_its_work(passing):
    with work_folder() as folder:
        assert Path(folder).parent == passing
    assert list(passing.iterdir()) == []


def test_an_analysis_works_in_one(passing, tmp_path):
    path, seen = tmp_path / "a.zip", set()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "id;nom\n" + "1;x\n" * 100)

    def look() -> None:
        seen.update(each.name[: len(PREFIX)] for each in passing.iterdir())

    Detective().analyse(path, check=look)
    assert seen == {PREFIX}
    assert list(passing.iterdir()) == []


def test_a_killed_process_leaves_a_folder_that_the_next_collection_removes(passing, tmp_path):
    env = os.environ | {"TMPDIR": str(passing)}
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, env=env) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.kill()
    (left,) = passing.iterdir()
    store = Store(str(tmp_path / "store"))
    assert store.sweep() == 0
    aged(left / "resource" / "half", left / "resource", left)
    assert store.sweep() == 1
    assert list(passing.iterdir()) == []


def test_files_trees_and_links_go_and_what_is_not_ours_stays(passing, tmp_path):
    tree(passing / f"{PREFIX}tree")
    (passing / f"{PREFIX}file").write_text("half")
    kept = tree(tmp_path / "kept")
    (passing / f"{PREFIX}link").symlink_to(kept)
    (passing / f"{PREFIX}holds").mkdir()
    (passing / f"{PREFIX}holds" / "table.csv").symlink_to(kept / "resource" / "a")
    (passing / f"{PREFIX}nowhere").symlink_to(tmp_path / "absent")
    aged(passing / f"{PREFIX}holds" / "table.csv", *passing.glob(f"{PREFIX}*"))
    others = [tree(passing / name) for name in ("datafab-demo-x", "datafab-bench", "datafab-x", "work")]
    busy = tree(passing / f"{PREFIX}busy")
    (busy / "resource" / "a").write_text("still written")
    assert sweep_work_folders(time.time() - 3600) == 5
    assert sorted(passing.iterdir()) == sorted([*others, busy])
    assert (kept / "resource" / "a").read_text() == "a"


def test_what_another_user_left_stays(passing, monkeypatch):
    left = tree(passing / f"{PREFIX}theirs")
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    assert sweep_work_folders(time.time()) == 0
    assert left.exists()


def test_a_path_that_cannot_be_removed_stops_nothing(tmp_path):
    stays, goes = tree(tmp_path / "a-folder"), tmp_path / "b"
    goes.write_text("half")
    aged(goes)
    assert sweep_paths([stays, tmp_path / "gone", goes], time.time() - 3600) == 1
    assert stays.exists()
