"""A real Elasticsearch as a child process, one for all processes of a test run.

It is the distribution of Elasticsearch's own integration tests, the only one on Maven Central: the server itself with
few modules (no language analyzers, no ``_reindex``, not even ``GET /``). ``tests/servers/install`` brings it; it is
neither kept in the tree nor handed on.

Who uses the server holds a shared lock. A process of its own keeps the server alive, starts it again when a test has
killed it, and ends with it as soon as nobody holds the lock, however that came about.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from datafab.embedded import free_port, tail
from datafab.embedded.supervisor import lifeline

VERSION = "8.19.20"
SHA256 = "f75a726a3ccac1a3cefc3b99b2458def9cda69b3b3fc9a42e98bbef21c10e949"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "datafab-test"
ZIP = CACHE / f"elasticsearch-{VERSION}.zip"
GROUP = "org.elasticsearch.distribution.integ-test-zip"
CENTRAL = "https://repo1.maven.org/maven2"
ROOT = Path(__file__).parents[2]
#: Elasticsearch does not run as root.
NOBODY = 65534
#: The first start on a busy machine of two cores takes 40 seconds, elsewhere ten.
START = 180
#: It starts in a third less time so, and does more work later.
QUICK = "-XX:TieredStopAtLevel=1"
#: The last line: garbage would count as used memory, and the collector that is quick to start comes late.
CONFIG = """
discovery.type: single-node
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport}
path.data: {folder}/data
path.logs: {folder}/logs
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
cluster.max_shards_per_node: 5000
indices.breaker.total.use_real_memory: false
"""


@dataclass(frozen=True)
class Elasticsearch:
    """A server that runs."""

    url: str
    folder: Path

    @contextmanager
    def used(self, *, alone: bool = False) -> Iterator[None]:
        """Use it together with others, or alone."""
        with (self.folder / "alone").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield

    @property
    def pid(self) -> int:
        """Process id of the server."""
        nodes = requests.get(f"{self.url}/_nodes/_local/process", timeout=30).json()["nodes"]
        (node,) = nodes.values()
        pid: int = node["process"]["id"]
        return pid

    def kill(self) -> None:
        """Kill it with -9; it is started again on its data."""
        os.kill(self.pid, signal.SIGKILL)

    def ready(self) -> bool:
        """Whether it answers."""
        try:
            return requests.get(f"{self.url}/_cluster/health", timeout=5).ok
        except requests.ConnectionError:
            return False


def missing() -> str | None:
    """Return why no Elasticsearch can be started here; None: one can."""
    if java_home() is None:
        return "no Java of at least 17: apt install default-jre-headless"
    if not ZIP.exists():
        return "no Elasticsearch: run tests/servers/install"
    return None


def java_home() -> Path | None:
    """Return the folder of a Java of version 17 or later."""
    program = shutil.which("java")
    named = os.environ.get("JAVA_HOME")
    for home in (Path(named) if named else None, Path(program).resolve().parents[1] if program else None):
        release = home / "release" if home else None
        if release and release.exists():
            version = re.search(r'JAVA_VERSION="(\d+)', release.read_text())
            if version and int(version[1]) >= 17:
                return home
    return None


def bring() -> None:
    """Bring the distribution into the cache, by Maven, which knows the mirrors of this host, or without it."""
    if ZIP.exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    new = ZIP.with_suffix(f".{os.getpid()}")
    try:
        if not (shutil.which("mvn") and _by_maven(new)):
            name = f"{GROUP.replace('.', '/')}/elasticsearch/{VERSION}/elasticsearch-{VERSION}.zip"
            with requests.get(f"{CENTRAL}/{name}", timeout=60, stream=True) as answer, new.open("wb") as file:
                answer.raise_for_status()
                for part in answer.iter_content(1024**2):
                    file.write(part)
        with new.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != SHA256:
            sys.exit(f"Elasticsearch {VERSION} has the sha256 {found}, not {SHA256}: it is not used")
        new.rename(ZIP)
    finally:
        new.unlink(missing_ok=True)


def _by_maven(new: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="datafab-maven-") as folder:
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
        artifact = f"-Dartifact={GROUP}:elasticsearch:{VERSION}:zip"
        command = ["mvn", "-B", "-q", plugin, artifact, f"-DoutputDirectory={folder}"]
        if subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL, timeout=600).returncode:
            return False
        shutil.move(f"{folder}/elasticsearch-{VERSION}.zip", new)
        return True


@contextmanager
def elasticsearch(folder: Path, *, options: str = QUICK) -> Iterator[Elasticsearch]:
    """Use the server of a test run.

    Args:
        folder: the same for all processes of that run.
        options: of its Java, when it is this process that starts it.
    """
    folder.mkdir(exist_ok=True)
    state = folder / "state.json"
    with (folder / "start").open("w") as start, (folder / "users").open("w") as users:
        fcntl.flock(start, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if not state.exists():
            with (folder / "keeper.log").open("ab") as log:
                command = [sys.executable, "-m", "tests.servers.elasticsearch", str(folder), options]
                # Not a child of ours: the process that starts it may end long before others do.
                # It ends after the run, too late to tell what it has covered.
                env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
                subprocess.run(["setsid", "--fork", *command], cwd=ROOT, env=env, stdout=log, stderr=log, check=True)
            end = time.monotonic() + START
            while not state.exists():
                failed, told = (folder / "failed").exists(), tail(folder / "keeper.log", 30)
                assert not failed, f"Elasticsearch does not start:\n{told}"
                assert time.monotonic() < end, f"Elasticsearch does not answer within {START} s:\n{told}"
                time.sleep(0.1)
        server = Elasticsearch(json.loads(state.read_text())["url"], folder)
        fcntl.flock(start, fcntl.LOCK_UN)
        yield server


def keep(folder: Path, options: str) -> None:
    """Keep a server alive as long as somebody uses it."""
    with (
        (folder / "users").open("w") as users,
        # Below /tmp, for it runs as another user where we are root, and may not enter our folders.
        tempfile.TemporaryDirectory(prefix="datafab-elasticsearch-", ignore_cleanup_errors=True) as name,
    ):
        home = Path(name) / f"elasticsearch-{VERSION}"
        with zipfile.ZipFile(ZIP) as archive:
            archive.extractall(name)
        server = Elasticsearch(f"http://127.0.0.1:{_configure(Path(name), home)}", folder)
        child = _start(home, options)
        state = folder / "state.json"
        try:
            while True:
                try:
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pass
                if child.poll() is not None:
                    if not state.exists():
                        (folder / "failed").touch()
                        sys.exit(f"it ended with {child.returncode}")
                    child = _start(home, options)
                if not state.exists() and server.ready():
                    new = folder / "state.new"
                    new.write_text(json.dumps({"url": server.url}))
                    new.rename(state)
                time.sleep(0.1)
        finally:
            state.unlink(missing_ok=True)
            child.terminate()
            child.wait(30)


def _configure(folder: Path, home: Path) -> int:
    """Write the configuration; return the port."""
    port = free_port()
    text = CONFIG.format(port=port, transport=free_port(), folder=folder)
    (home / "config" / "elasticsearch.yml").write_text(text)
    options = home / "config" / "jvm.options"
    # Quick to start and small: one collector thread, no logs of it, no dumps.
    lines = [line for line in options.read_text().splitlines() if not line.startswith(("-Xlog:gc", "-XX:+HeapDump"))]
    options.write_text("\n".join(lines).replace("-XX:+UseG1GC", "-XX:+UseSerialGC"))
    folder.chmod(0o755)
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    return port


def _start(home: Path, options: str) -> subprocess.Popen[bytes]:
    command = ["bash", str(home / "bin" / "elasticsearch")]
    # A keeper that is killed leaves no server behind; this must be said after the user has changed.
    if os.getuid() == 0:
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        command = [*drop, "setpriv", "--pdeathsig", "TERM", *command]
    else:
        command = lifeline(["/bin/bash", *command[1:]])
    env = {
        "PATH": os.defpath,
        "HOME": str(home),
        "ES_JAVA_HOME": str(java_home()),
        "CLI_JAVA_OPTS": QUICK,
        "ES_JAVA_OPTS": f"-Xms512m -Xmx512m {options}",
    }
    return subprocess.Popen(command, cwd=home, env=env, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        bring()
    else:
        keep(Path(sys.argv[1]), sys.argv[2])
