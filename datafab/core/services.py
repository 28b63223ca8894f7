"""The clients with which stages reach other systems: each is made at first use, and all are closed together."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Self, TypeVar, cast

from datafab.core.clock import Clock
from datafab.core.jobs import Jobs, RedisJobs
from datafab.core.locks import Locks, MemoryLocks, RedisLocks
from datafab.core.redis import ClusterRedis, connect
from datafab.core.secrets import RedisSecrets, Secrets
from datafab.errors import SettingError
from datafab.settings import Settings
from datafab.store.store import Store


class Client:
    """A client that one process shares. Each subclass knows how it is made; ``Services`` knows no subclass."""

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process.

        Raises:
            SettingError: a setting that it needs is missing.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close its connections, if it keeps any."""


C = TypeVar("C", bound=Client)


class Services:
    """The clients of one process: ``services.get(Fetcher)``. Those of the core, which every job needs, are attributes.

    Args:
        settings: of the clients.
        patience: seconds for which calls wait for a Redis that does not answer.
        jobs: used instead of those of the cluster.
        secrets: used instead of those of the cluster.
    """

    def __init__(
        self, settings: Settings, *, patience: float = 30, jobs: Jobs | None = None, secrets: Secrets | None = None
    ) -> None:
        self.settings = settings
        self.patience = patience
        self._clients: dict[type[Client], Client] = {}
        self._stores: dict[str, Store] = {}
        if jobs is not None:
            self.jobs = jobs
        if secrets is not None:
            self.secrets = secrets

    def get(self, kind: type[C]) -> C:
        """Return this process's client of a class, which is made at the first call."""
        if kind not in self._clients:
            self._clients[kind] = kind.connect(self)
        return cast(C, self._clients[kind])

    def put(self, kind: type[C], client: C) -> C:
        """Set this process's client of a class, and return it."""
        self._clients[kind] = client
        return client

    def redis(self, *, patience: float | None = None) -> ClusterRedis:
        """Return a new connection to the cluster's Redis, which the caller closes.

        Raises:
            SettingError: there is no cluster.
        """
        if self.settings.redis_url is None:
            msg = "DATAFAB_REDIS_URL is not set: no cluster to ask"
            raise SettingError(msg, field="DATAFAB_REDIS_URL")
        return connect(self.settings, patience=self.patience if patience is None else patience)

    @cached_property
    def jobs(self) -> Jobs:
        """The jobs of the cluster."""
        return RedisJobs(self.settings, self.redis())

    @cached_property
    def secrets(self) -> Secrets:
        """The secrets of jobs."""
        return RedisSecrets(self.settings, self.redis())

    @cached_property
    def clock(self) -> Clock:
        """The time of the cluster, for all times that are kept or compared with those of other hosts."""
        return Clock(None if self.settings.redis_url is None else self.redis())

    @cached_property
    def locks(self) -> Locks:
        """The locks that jobs hold. Without a cluster there is only one job."""
        return MemoryLocks() if self.settings.redis_url is None else RedisLocks(self.redis())

    def store(self, root: str) -> Store:
        """Return the store with this root URL."""
        if root not in self._stores:
            self._stores[root] = Store(root, self.settings.s3_endpoint)
        return self._stores[root]

    def tidy(self) -> None:
        """Leave nothing in the stores but what was stored: called when a batch has been through a stage."""
        for store in list(self._stores.values()):
            store.tidy()

    def close(self) -> None:
        """Close all clients, the newest first."""
        while self._clients:
            _, client = self._clients.popitem()
            client.close()
        for name in ("jobs", "clock"):
            opened: Any = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()
        self._stores.clear()
