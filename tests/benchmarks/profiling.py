"""Where the CPU time of an endpoint goes: the stage ``collect`` under cProfile, in this process, without Redis."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import Counter
from pathlib import Path

from datafab.core import runner
from datafab.core.item import Batch
from datafab.core.lease import Lease
from datafab.core.memory_jobs import MemoryJobs
from datafab.core.services import Services
from datafab.flows.chains import STAGES
from tests.benchmarks.collecting import addresses, servers, write_list
from tests.benchmarks.rig import Rig

#: what the HTTP client's parts are called
CLIENT = ("urllib3", "requests", "http.client, email")
#: part of a file's path -> what its time counts as; the first that fits
OWNERS = {
    "/urllib3/": CLIENT[0],
    "/requests/": CLIENT[1],
    "/http/client": CLIENT[2],
    "/email/": CLIENT[2],
    "/pydantic": "items (pydantic)",
    "/copy.py": "items (pydantic)",
    "/json/": "logs (json)",
    "fetchlog.py": "logs (json)",
    "store/store.py": "files and hashes",
    "store/folder.py": "files and hashes",
    "datafab/fetch/": "limits and redirects around the HTTP client",
    "/datafab/": "runner, stage",
}


def shares(rig: Rig, count: int = 500) -> dict[str, float]:
    """Return who takes which share of the time, the largest first. Built-in functions count for those who call them."""
    profile = cProfile.Profile(time.process_time)
    with servers(delay=0) as (ports, _):
        _collect(rig, ports, count, None)
        _collect(rig, ports, count, profile)
    spent: Counter[str] = Counter()
    for function, (_, _, own, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if function[0] == "~":
            for caller, (_, _, its, _) in callers.items():
                spent[_owner(caller[0])] += its
        else:
            spent[_owner(function[0])] += own
    total = spent.total()
    return {name: seconds / total for name, seconds in spent.most_common()}


def _owner(path: str) -> str:
    return next(
        (owner for part, owner in OWNERS.items() if part in path), "other standard library: urls, sockets, paths, ids"
    )


def _collect(rig: Rig, ports: list[int], count: int, profile: cProfile.Profile | None) -> None:
    folder = rig.memory / f"profile-{time.monotonic_ns()}"
    params = {"endpoints": write_list(folder, addresses(ports, count)), "collection": str(folder)}
    services = Services(rig.settings, jobs=MemoryJobs())
    attempt = runner.Attempt(Lease(job_created=time.time()))
    whole = Batch(job="profile", flow="collect", params=params)
    batches = list(runner.expand(STAGES["endpoints"], whole, services, attempt))
    if profile:
        profile.enable()
    for batch in batches:
        runner.run_stage(STAGES["collect"], batch, services, attempt)
    if profile:
        profile.disable()
    services.close()
    assert len(list(Path(folder, "resource").iterdir())) == count
