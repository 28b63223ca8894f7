"""What an analysis costs beside csv-detective's own, each in a process of its own: CPU without imports, and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import process_time
from typing import Any

from tests.benchmarks.tables import write

WAYS = ("csv-detective", "exact", "unfiltered", "sample", "reading")
#: Seconds that one analysis may take.
LIMIT = 3600


@dataclass(frozen=True)
class Cost:
    """What one way took."""

    #: CPU seconds without imports
    seconds: float
    #: most memory that the process had, imports included
    megabytes: float


@dataclass(frozen=True)
class Figures:
    """What was measured of one table, by way: ``csv-detective, exact, unfiltered, sample, reading``."""

    kind: str
    rows: int
    megabytes: float
    costs: dict[str, Cost]

    def ratio(self, way: str) -> float:
        """Return how many times as quick as csv-detective a way is."""
        return self.costs["csv-detective"].seconds / self.costs[way].seconds


def measure(folder: Path, kind: str, rows: int, ways: tuple[str, ...], times: int = 1) -> Figures:
    """Measure one table, whose rows stand there so many times, one way after the other."""
    path = folder / f"{kind}{rows}.csv"
    write(path, kind, rows, times)
    costs = {way: _cost(way, path) for way in ways}
    size = path.stat().st_size / 1e6
    path.unlink()
    return Figures(kind, rows * times, size, costs)


def _cost(way: str, path: Path) -> Cost:
    command = [sys.executable, "-m", "tests.benchmarks.analysing", way, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def _theirs(path: Path) -> Any:
    from csv_detective import routine  # noqa: PLC0415 - after ours, which brings its library

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            routine(str(path), num_rows=-1, output_profile=True, save_results=False, encoding="utf-8", sep=";")

    return run


def _reading(path: Path) -> Any:
    from datafab.analysis.detective import _find_table  # noqa: PLC0415 - as above
    from datafab.analysis.textfile import TextFile  # noqa: PLC0415

    def run() -> None:
        text = _find_table(TextFile(path=path, max_unpacked=10**12, check=lambda: None))
        for _ in text.read_with_pyarrow(lambda _: None):
            pass

    return run


def main(way: str, path: Path) -> None:
    """Run one way and print what it took."""
    from datafab.analysis.detective import Detective  # noqa: PLC0415 - what is imported is not measured

    match way:
        case "csv-detective":
            run = _theirs(path)
        case "reading":
            run = _reading(path)
        case _:
            detective = Detective(use_filters=way != "unfiltered")
            run = lambda: detective.analyse(path, mode="sample" if way == "sample" else "exact")  # noqa: E731
    began = process_time()
    run()
    seconds = process_time() - began
    print(json.dumps({"seconds": seconds, "megabytes": getrusage(RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
