"""Record a cluster of an earlier version in the middle of its work, for ``test_upgrade.py``.

Run it in a checkout of that version, with this folder copied into it: ``python tests/upgrade/record.py OUT``. It
leaves ``OUT/redis.json`` (all keys, with placeholders for what differs between machines) and ``OUT/home.zip``
(the store, the collection and the index).
"""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import redis

sys.path[:0] = [str(Path.cwd()), str(Path(__file__).parent)]
from files_site import AWAY, DONE, HANGING, HOST, LATER, MISSING, SLOW, Site, files  # noqa: E402 - see above

ROOT = Path(tempfile.mkdtemp(prefix="datafab-upgrade-"))
TIMES = {
    "DATAFAB_LEASE": "2",
    "DATAFAB_HEARTBEAT": "0.5",
    "DATAFAB_TICK": "0.4",
    "DATAFAB_VISIBILITY_TIMEOUT": "5",
    "DATAFAB_RETRY_DELAY": "300",
    "DATAFAB_BATCH_SIZE": "1",
}


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """Return what the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise SystemExit(f"not within {seconds} s")


@contextmanager
def redis_server() -> Iterator[redis.Redis]:
    port = 20000 + os.getpid() % 20000
    server = subprocess.Popen(["redis-server", "--port", str(port), "--dir", str(ROOT), "--save", ""], stdout=-3)
    client = redis.Redis(port=port, decode_responses=True)
    os.environ["DATAFAB_REDIS_URL"] = f"redis://127.0.0.1:{port}/0"

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False

    until(answers, 10)
    try:
        yield client
    finally:
        server.terminate()
        server.wait()


def worker(name: str, queues: str, pool: str = "threads") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "workers", "-A", "workers", "worker", "-n", f"{name}@old", "-Q", queues]
    command += ["-P", pool, "-c", "2", "--without-gossip", "--without-mingle"]
    return subprocess.Popen(command, start_new_session=True)


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def enqueue(name: str, *endpoints: str) -> str:
    """Enqueue a collection of its own; return the job's id."""
    from datafab import api  # noqa: PLC0415 - reads the settings, which are set by now

    lines = [f",{HOST}/{endpoint}.csv,,,2026-01-01,2026-01-01," for endpoint in endpoints]
    head = "endpoint,endpoint-url,parameters,plugin,entry-date,start-date,end-date"
    file = ROOT / f"{name}.csv"
    file.write_text("\n".join([head, *lines]) + "\n")
    return str(api.enqueue("collect", endpoints=str(file), collection=str(ROOT / name)).id)


def work(client: redis.Redis, site: Site) -> dict[str, str]:
    """Bring jobs into every state that a row can have; return their ids by what they are."""
    jobs: dict[str, str] = {}

    def status(name: str) -> str | None:
        return client.hget(f"datafab:1:job:{jobs[name]}", "status")

    control, io, cpu = worker("control", "control", "solo"), worker("io", "io"), worker("cpu", "cpu", "prefork")
    beat = subprocess.Popen(
        [sys.executable, "-m", "workers", "-A", "workers", "beat", "-s", str(ROOT / "beat"), "--pidfile", ""],
        start_new_session=True,
    )
    jobs["done"] = enqueue("done", *DONE, *MISSING)
    until(lambda: status("done") in {"succeeded", "failed"}, 120)
    jobs["waiting"] = enqueue("waiting", *AWAY)
    until(lambda: any(client.hget(key, "state") == "wait" for key in client.scan_iter("datafab:1:row:*")), 60)
    jobs["parked"] = enqueue("parked", *HANGING)

    def parked() -> bool:
        nonlocal io, cpu
        if status("parked") == "parked":
            return True
        if HANGING[0] in site.asked:
            site.asked.clear()
            time.sleep(1)
            kill(io)
            kill(cpu)
            io, cpu = worker("io", "io"), worker("cpu", "cpu", "prefork")
        return False

    until(parked, 300)
    jobs["running"] = enqueue("running", *SLOW)
    until(lambda: SLOW[2] in site.asked, 60)
    for process in (io, cpu, control, beat):
        kill(process)
    jobs["queued"] = enqueue("queued", *LATER)
    print({name: status(name) for name in jobs})
    return jobs


def plain(text: str) -> str:
    """Return a value with placeholders for this machine."""
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for here, name in ((str(ROOT), "%ROOT%"), (kernel, "%KERNEL%"), (f'"{platform.node()}"', '"%HOST%"')):
        text = text.replace(here, name)
    return text


def opened(text: str) -> Any:
    """Return a value; the body of a message of kombu's, which is base64, as text."""
    try:
        message = json.loads(text)
    except ValueError:
        return plain(text)
    one = message[0] if isinstance(message, list) and message and isinstance(message[0], dict) else message
    if not (isinstance(one, dict) and one.get("properties", {}).get("body_encoding") == "base64"):
        return plain(text)
    one["body"] = base64.b64decode(one["body"]).decode()
    return {"message": json.loads(plain(json.dumps(message)))}


def dump(client: redis.Redis) -> dict[str, Any]:
    read: dict[str, Callable[[str], Any]] = {
        "string": lambda key: opened(client.get(key)),
        "hash": lambda key: {name: opened(value) for name, value in client.hgetall(key).items()},
        "set": lambda key: sorted(map(plain, client.smembers(key))),
        "list": lambda key: [opened(value) for value in client.lrange(key, 0, -1)],
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    kinds = {key: client.type(key) for key in sorted(client.scan_iter("*"))}
    return {key: {"type": kind, "value": read[kind](key)} for key, kind in kinds.items()}


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    os.environ |= TIMES | {"DATAFAB_HOME": str(ROOT / "home"), "PYTHONPATH": str(Path.cwd())}
    with files(healthy=False) as site, redis_server() as client:
        os.environ["DATAFAB_PROXY"] = site.url
        jobs = work(client, site)
        found = {"recorded": time.time(), "jobs": jobs, "keys": dump(client)}
    (out / "redis.json").write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    for path in ROOT.glob("beat*"):
        path.unlink()
    with closing(sqlite3.connect(ROOT / "home" / "index.db")) as index:
        index.execute("pragma wal_checkpoint(truncate)")
    shutil.make_archive(str(out / "home"), "zip", ROOT)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
