"""What killed processes leave in the folder for temporary files is swept, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datafab.analysis.detective import Detective
from datafab.store.folder import sweep_paths
from datafab.store.scratch import LOCK_NAME, PREFIX, process_folder, sweep_work_folders, work_folder
from datafab.store.store import Store
from tests.servers.celery import until

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
#: Two processes with a folder each: the fork does not hold that of its parent.
FORKED = """
import os, time
from pathlib import Path
from datafab.store.scratch import process_folder
first = process_folder()
if os.fork() == 0:
    assert process_folder() != first
    time.sleep(0.5)
    os._exit(0)
Path(process_folder(), "half").write_text("half")
print("half", flush=True)
time.sleep(60)
"""
#: A library that makes temporary folders, as ``multiprocessing`` does.
LIBRARY = """
import tempfile, time
from multiprocessing.util import get_temp_dir
from pathlib import Path
from datafab.store.scratch import use_for_all
use_for_all()
Path(get_temp_dir(), "half").write_text("half")
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


def files(folder: Path) -> list[Path]:
    """Return what is in a folder, but for the folder and the lock of this process."""
    return [path for path in folder.rglob("*") if path.name != LOCK_NAME and path != process_folder()]


def tree(path: Path) -> Path:
    (path / "resource").mkdir(parents=True)
    (path / "resource" / "a").write_text("a")
    aged(path / "resource" / "a", path / "resource", path)
    return path


def test_a_work_folder_lives_as_long_as_its_work(passing):
    with work_folder() as folder:
        assert Path(folder).parent == process_folder()
        assert process_folder().parent == passing
    assert files(passing) == []


def test_an_analysis_works_in_one(passing, tmp_path):
    path, seen = tmp_path / "a.zip", set()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "id;nom\n" + "1;x\n" * 100)

    def look() -> None:
        seen.update(each.name for each in passing.rglob("member"))

    Detective().analyse(path, check=look)
    assert seen == {"member"}
    assert files(passing) == []


@contextmanager
def process(passing: Path, text: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has reached its ``print``."""
    env = os.environ | {"TMPDIR": str(passing)}
    with subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stdin=subprocess.PIPE, env=env
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        yield child
        child.kill()


@pytest.mark.parametrize("text", [KILLED, FORKED, LIBRARY])
def test_what_a_killed_process_has_left_goes_whatever_its_age_and_that_of_a_live_one_stays(passing, tmp_path, text):
    store = Store(str(tmp_path / "store"))
    with process(passing, text) as child:
        (left,) = {path.relative_to(passing).parts[0] for path in passing.rglob("half")}
        aged(*(passing / left).rglob("*"), passing / left)
        assert store.sweep() == 0
        child.kill()
        child.wait()
        # The fork of a process ends after it.
        until(lambda: store.sweep() >= 1, 5)
    until(lambda: store.sweep() or list(passing.iterdir()) == [], 5)


def test_a_process_that_ends_removes_its_folder(passing):
    with process(passing, KILLED.replace("time.sleep(60)", "pass")) as child:
        child.wait()
        assert list(passing.iterdir()) == []


def test_a_folder_that_somebody_has_removed_is_made_again(passing):
    shutil.rmtree(process_folder())
    with work_folder() as folder:
        assert Path(folder).is_dir()


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
