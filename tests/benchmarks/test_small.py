import os
import re
import subprocess
import sys

from tests.servers.nursery import ROOT, unmeasured


def test_the_benchmark_runs_and_writes_what_it_measured(tmp_path):
    output = tmp_path / "benchmarks.md"
    command = [sys.executable, "-m", "tests.benchmarks", "--small", "--output", str(output)]
    env = unmeasured(os.environ)
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False, env=env)
    assert run.returncode == 0, run.stdout + run.stderr
    text = output.read_text()
    heads = re.findall(r"^##+ (.*)", text, re.MULTILINE)
    sections = ["Targets", "Five no-op tasks", "threads -c 8", "40 endpoints", "The ledger", "Memory"]
    assert heads == [*sections, "Searching 200 documents", "Analysing tables"]
    rows = (
        "bare",
        "ledger",
        "stages",
        "job",
        "one after another",
        "ours",
        "workers of io",
        "io",
        "cpu",
        "control",
        "SQLite",
        "A, 100",
    )
    for row in rows:
        (values,) = re.findall(rf"^\| {row} \| (.*) \|$", text, re.MULTILINE)
        # A run as small as this may use less CPU than the kernel's clock can tell.
        numbers = [float(number) for number in re.findall(r"[\d.]+", values)]
        assert numbers[0] > 0, values
    assert "its task began 1 time and the job succeeded" in " ".join(text.split())
    assert str(tmp_path) not in text
