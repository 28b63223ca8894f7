"""Real Sentinels with a master and a replica; all of them ask for passwords."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import redis

from datafab.embedded import find_redis, free_port, tail
from datafab.embedded.supervisor import lifeline
from tests.servers.redis import RedisServer

SERVICE = "mymaster"
PASSWORD, SENTINEL_PASSWORD = "p@ss:word/1", "guards"
#: Milliseconds of silence after which a Sentinel takes a server for dead: short, but not for a busy machine.
DOWN_AFTER = 4000


class PasswordRedisServer(RedisServer):
    """A redis-server with a password, and a master unless it is one."""

    def __init__(self, folder: Path, master: RedisServer | None = None) -> None:
        login = ("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0")
        super().__init__(
            folder, options=(*login, *(("--replicaof", f"127.0.0.1 {master.port}") if master is not None else ()))
        )

    def client(self) -> redis.Redis:
        """Return a new client that does not retry; close it after use."""
        return redis.Redis(port=self.port, password=PASSWORD, decode_responses=True, socket_timeout=5, retry=None)


class Guarded:
    """A master with a replica, guarded by three Sentinels, of which two must agree."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.master = PasswordRedisServer(folder / "one")
        self.replica = PasswordRedisServer(folder / "two", self.master)
        self.ports = [free_port() for _ in range(3)]
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        login = f":{PASSWORD.replace('@', '%40').replace(':', '%3A').replace('/', '%2F')}@"
        self.url = f"sentinel://{login}{hosts}/{SERVICE}?db=2&sentinel_password={SENTINEL_PASSWORD}"

    def __enter__(self) -> Self:
        self._stack.enter_context(self.master)
        self._stack.enter_context(self.replica)
        self._wait_until(lambda: self._replicates(self.replica))
        for number, port in enumerate(self.ports):
            self._start(number, port)
        # Each must know the replica and the other Sentinels before it can replace the master.
        self._wait_until(lambda: all(self._knows_all(port) for port in self.ports))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def present_master(self) -> int | None:
        """Return the port that the first Sentinel names."""
        with self._sentinel(self.ports[0]) as client:
            address = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(address[1]) if address else None

    def _start(self, number: int, port: int) -> None:
        folder = self._folder / f"sentinel{number}"
        folder.mkdir()
        conf, log = folder / "sentinel.conf", folder / "server.log"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nrequirepass {SENTINEL_PASSWORD}\n"
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.master.port} 2\n"
            f'sentinel auth-pass {SERVICE} "{PASSWORD}"\n'
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\n"
            f"sentinel failover-timeout {SERVICE} 20000\n"
        )
        with log.open("ab") as out:
            process = subprocess.Popen(
                lifeline((str(find_redis()), str(conf), "--sentinel")),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self._stack.callback(process.wait, 60)
        self._stack.callback(process.terminate)

    def _sentinel(self, port: int) -> redis.Redis:
        return redis.Redis(
            port=port, password=SENTINEL_PASSWORD, decode_responses=True, socket_timeout=5, retry=None, protocol=2
        )

    def _knows_all(self, port: int) -> bool:
        with self._sentinel(port) as client:
            others = client.execute_command("SENTINEL", "SENTINELS", SERVICE)
            replicas = client.execute_command("SENTINEL", "REPLICAS", SERVICE)
        return len(others) == len(self.ports) - 1 and len(replicas) == 1

    @staticmethod
    def _replicates(server: RedisServer) -> bool:
        with server.client() as client:
            return client.info("replication").get("master_link_status") == "up"

    def _wait_until(self, condition: object, limit: float = 120) -> None:
        end = time.monotonic() + limit
        while True:
            try:
                if condition():  # type: ignore[operator]
                    return
            except redis.exceptions.ConnectionError:
                pass
            if time.monotonic() > end:
                raise AssertionError("\n".join(tail(path) for path in self._folder.glob("*/server.log")))
            time.sleep(0.1)
