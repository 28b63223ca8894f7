"""A real redis-server as a child process, with the persistence of the embedded cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis

from datafab.embedded import find_redis, free_port, redis_command, tail
from datafab.embedded.supervisor import lifeline

#: What the keys of a cluster begin with if its settings name no prefix.
PREFIX = "datafab:1:"


class RedisServer:
    """A redis-server on 127.0.0.1 that keeps its folder, port and URL over stops, kills and restarts.

    It ends with the thread that started it, so a killed test run leaves none behind.

    Args:
        folder: for its data and its log; made when missing.
        port: None: a free one.
        binary: None: the one that the embedded cluster would take.
        options: further options of its command line.
    """

    def __init__(
        self, folder: Path, port: int | None = None, *, binary: Path | None = None, options: Sequence[str] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.log = self.folder / "server.log"
        self._binary = binary or find_redis()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id; it must be running."""
        assert self._process is not None, "this redis-server is not running"
        return self._process.pid

    def start(self, limit: float = 60.0) -> Self:
        """Start it and wait until it has loaded its data and answers; ``limit`` seconds at most."""
        assert self._process is None, "this redis-server is running already"
        with self.log.open("ab") as log:
            command = lifeline((*redis_command(self._binary, self.port, self.folder), *self._options))
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_ready(time.monotonic() + limit)
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_until_ready(self, deadline: float) -> None:
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    break
                except redis.exceptions.ConnectionError:
                    assert self._process is not None
                    ended = self._process.poll() is not None
                    if ended or time.monotonic() > deadline:
                        msg = f"redis-server does not answer on port {self.port}:\n{tail(self.log)}"
                        raise AssertionError(msg) from None
                    time.sleep(0.02)
            # A leftover server on this port would look like one that has lost its data.
            assert client.info("server")["process_id"] == self.pid
            assert client.config_get("dir")["dir"] == str(self.folder)

    def stop(self) -> None:
        """Stop it in peace; its data is on disk then."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """Kill it with -9; the last second of its data may be lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def restart(self, *, killed: bool = False) -> None:
        """Stop (or kill) it and start it again on the same data and port."""
        if killed:
            self.kill()
        else:
            self.stop()
        self.start()

    def client(self) -> redis.Redis:
        """Return a new client that does not retry; close it after use."""
        return redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5, retry=None)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
