"""What is kept, or compared with another host's time, is by the cluster's clock (``Services.clock``, ``TIME``)."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Modules that read this host's clock, and why they may.
ALLOWED = {
    "datafab/cli/collection.py": "the day of tables that a person asks for",
    "datafab/cli/publish.py": "advice on the time of a message",
    "datafab/cli/run_job.py": "a run in one process",
    "datafab/core/backoff.py": "an answer without a Date",
    "datafab/core/clock.py": "where there is no Redis",
    "datafab/core/memory_jobs.py": "a run in one process",
    "datafab/embedded/parts.py": "the age of files of this host",
    "datafab/embedded/logs.py": "a line of this host's log",
    "datafab/index/elastic_indices.py": "only where no version is given",
    "datafab/ops/doctor.py": "what is compared with Redis's clock",
    "datafab/store/files.py": "the age of files of this host",
    "datafab/store/folder.py": "the age of files, which are kept for days",
    "workers/app.py": "until Redis has answered once",
}


def test_the_clock_of_a_host_is_read_where_that_does_no_harm():
    reads = re.compile(r"\btime\.time(_ns)?\b|datetime\.(now|utcnow|today)\(|date\.today\(")
    found = {
        str(path.relative_to(ROOT))
        for folder in ("datafab", "workers", "webhook")
        for path in (ROOT / folder).rglob("*.py")
        if "sandbox" not in path.parts and reads.search(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED.keys()
