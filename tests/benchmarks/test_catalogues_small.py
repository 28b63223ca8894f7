import json
import os
import subprocess
import sys

from tests.servers.nursery import ROOT, unmeasured


def test_a_pass_is_measured_and_stays_small():
    command = [sys.executable, "-m", "tests.benchmarks.catalogues", "--datasets", "600", "--files", "0"]
    env = unmeasured(os.environ)
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False, env=env)
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout.splitlines()[0])
    assert figures["resources"] == 3_000
    # What is held of a dataset that was read is its id.
    assert figures["late"] - figures["early"] < 2
    assert 300 < figures["each"] < 1500
    # A large one takes 2.7 times as much; this one loads its certificates too, and on a busy machine.
    assert 1 < figures["ratio"] < 9
