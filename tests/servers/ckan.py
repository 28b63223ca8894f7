"""A real CKAN 2.11 with its datastore: PostgreSQL, Redis and gunicorn as child processes, Solr answered from nothing.

``tests/servers/install`` brings what it needs. Where that is not there, ``missing()`` says what.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from datafab.embedded import free_port, tail
from datafab.embedded.supervisor import lifeline
from tests.servers.redis import RedisServer
from tests.servers.solr import solr

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "datafab-test" / "ckan"
VENV = CACHE / "venv"

INI = """
[app:main]
SECRET_KEY = of-a-test
api_token.jwt.encode.secret = string:of-a-test-that-needs-no-secret-of-any-kind
api_token.jwt.decode.secret = string:of-a-test-that-needs-no-secret-of-any-kind
beaker.session.secret = of-a-test
ckan.site_id = default
ckan.site_url = http://127.0.0.1:{port}
ckan.storage_path = {folder}/storage
ckan.plugins = datastore {plugins}
ckan.datapusher.url = {pusher}
ckan.datapusher.api_token = TOKEN
ckan.auth.create_unowned_dataset = true
sqlalchemy.url = {postgres}ckan:ckan@{at}/ckan
ckan.datastore.write_url = {postgres}ckan:ckan@{at}/datastore
ckan.datastore.read_url = {postgres}reader:reader@{at}/datastore
ckan.redis.url = {redis}
solr_url = {solr}

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(levelname)s [%(name)s] %(message)s
"""
WSGI = """
from ckan.cli import load_config
from ckan.config.middleware import make_app

application = make_app(load_config({ini!r}))
"""


@dataclass(frozen=True)
class RealCkan:
    """A CKAN that runs."""

    url: str
    #: an administrator's
    token: str
    #: port of its PostgreSQL
    postgres: int

    def sql(self, query: str, *, datestyle: str = "ISO, MDY") -> list[list[str]]:
        """Ask the datastore's database itself; null is an empty text."""
        folder = postgres_folder()
        assert folder is not None
        where = ["-h", "127.0.0.1", "-p", str(self.postgres), "-U", "postgres", "-d", "datastore"]
        done = subprocess.run(
            [str(folder / "psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", *where],
            input=query, capture_output=True, text=True, check=False, env=os.environ | {"PGOPTIONS": _set(datestyle)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]


def _set(datestyle: str) -> str:
    return f"-c datestyle={datestyle.replace(' ', '')} -c timezone=UTC"


def missing() -> str | None:
    """Return why no real CKAN can be started here; None: one can."""
    if postgres_folder() is None:
        return "no PostgreSQL: apt install postgresql"
    if not (CACHE / "ready").exists():
        return "no CKAN: run tests/servers/install"
    return None


def postgres_folder() -> Path | None:
    """Return where the newest PostgreSQL's programs lie."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    beside = shutil.which("initdb")
    return found[-1] if found else (Path(beside).resolve().parent if beside else None)


@contextmanager
def real_ckan(pusher: str = "") -> Iterator[RealCkan]:
    """Run a CKAN that is empty but for its administrator; ``pusher``: URL of the DataPusher that it submits to."""
    with ExitStack() as stack:
        # Below /tmp, for PostgreSQL runs as another user where we are root, and may not enter our folders.
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="datafab-ckan-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o755)
        postgres = stack.enter_context(_postgres(folder / "postgres"))
        redis = stack.enter_context(RedisServer(folder / "redis"))
        schema = next(VENV.glob("lib/python*/site-packages/ckan/config/solr/schema.xml")).read_bytes()
        index = stack.enter_context(solr(schema))
        port, ini = free_port(), folder / "ckan.ini"
        where = {"postgres": "postgresql://", "at": f"127.0.0.1:{postgres}", "redis": redis.url, "solr": index}
        plugin = {"pusher": pusher, "plugins": "datapusher" if pusher else ""}
        text = INI.format(port=port, folder=folder, **where, **plugin)
        ini.write_text(text, encoding="utf-8")
        token = _set_up(ini, f"postgresql://postgres@127.0.0.1:{postgres}/")
        ini.write_text(text.replace("TOKEN", token), encoding="utf-8")
        stack.enter_context(_gunicorn(folder, ini, port))
        yield RealCkan(f"http://127.0.0.1:{port}", token, postgres)


@contextmanager
def _postgres(data: Path) -> Iterator[int]:
    """Run a PostgreSQL of its own, as the user ``postgres`` where we are root; gives its port."""
    programs, port = postgres_folder(), free_port()
    assert programs is not None
    data.mkdir(mode=0o700)
    drop: list[str] = []
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(data, user.pw_uid, user.pw_gid)
        drop = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    make = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
    subprocess.run([*drop, *map(str, make)], check=True, stdout=subprocess.DEVNULL, cwd="/")
    options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    serve = [programs / "postgres", "-D", data, "-p", port, *(f"--{name}={value}" for name, value in options.items())]
    # A test run that is killed leaves none behind; this must be said after the user has changed.
    bind = ["setpriv", "--pdeathsig", "INT"]
    with _child([*drop, *bind, *map(str, serve)], data.parent / "postgres.log", signal.SIGINT):
        yield port


@contextmanager
def _child(command: list[str], log: Path, end: signal.Signals = signal.SIGTERM, **env: str) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd="/", env=os.environ | env, start_new_session=True
        )
    try:
        yield
    finally:
        process.send_signal(end)
        process.wait(20)


def _set_up(ini: Path, superuser: str) -> str:
    """Make the databases and the administrator; return the latter's token."""
    command = [str(VENV / "bin" / "python"), "-I", str(HERE / "ckan_setup.py"), str(ini), superuser]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ini.parent)
        if done.returncode == 0:
            return next(line for line in done.stdout.splitlines() if line.startswith("token=")).removeprefix("token=")
        starting = "Connection refused" in done.stderr or "starting up" in done.stderr
        if not starting or time.monotonic() > deadline:
            raise AssertionError(done.stderr[-3000:])
        time.sleep(0.1)


@contextmanager
def _gunicorn(folder: Path, ini: Path, port: int) -> Iterator[None]:
    (folder / "ckan_app.py").write_text(WSGI.format(ini=str(ini)), encoding="utf-8")
    options = ["-w", "1", "--threads", "4", "-t", "120", "-b", f"127.0.0.1:{port}", "--pythonpath", str(folder)]
    command = lifeline([str(VENV / "bin" / "gunicorn"), *options, "ckan_app:application"])
    log = folder / "ckan.log"
    with _child(command, log):
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}/api/3/action/status_show", timeout=30).raise_for_status()
                break
            except requests.RequestException:
                assert time.monotonic() < deadline, tail(log)
                time.sleep(0.1)
        yield
