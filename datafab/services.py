"""The clients of outside systems, built once per process, closed and pinged together."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

from redis.exceptions import RedisError

from datafab.clients.callback import Callback
from datafab.clients.ckan import Ckan
from datafab.clients.clock import Clock
from datafab.clients.cors import Cors
from datafab.clients.datagouv import Datagouv
from datafab.clients.entrepot import Entrepot
from datafab.clients.fetch import Fetcher
from datafab.clients.gates import Gates, MemoryGates, RedisGates
from datafab.clients.index import Index, index_file, open_index
from datafab.clients.index.owner import Owner
from datafab.clients.jobs import Jobs, RedisJobs, connect
from datafab.clients.linkproxy import LinkProxy
from datafab.clients.measures import Measures
from datafab.clients.publications import Publications
from datafab.clients.secrets import RedisSecrets, Secrets
from datafab.clients.sources import Sources
from datafab.clients.store import Store
from datafab.clients.turns import Turns
from datafab.clients.wis2suite import Wis2Suite
from datafab.domain.dayorder import Wish
from datafab.errors import DatafabError, SettingError
from datafab.settings import Settings

if TYPE_CHECKING:
    from datafab.clients.detective import Detective
    from datafab.clients.mqtt import Mqtt


#: How many times the bytes of a fetch a file may unpack to.
UNPACKED = 10


class Pinged(Protocol):
    """A client that can be asked whether its system answers."""

    def ping(self) -> None:
        """Raise when it does not."""


class Services:
    """What stages reach the world through. Each client is made when it is first asked for."""

    def __init__(
        self,
        settings: Settings,
        *,
        patience: float = 30,
        jobs: Jobs | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        """Make them.

        Args:
            settings: what they need to know.
            patience: seconds for which a Redis that does not answer is waited for.
            jobs: instead of those of the cluster.
            secrets: instead of those of the cluster.
        """
        self.settings = settings
        self.patience = patience
        self._stores: dict[str, Store] = {}
        if jobs is not None:
            self.jobs = jobs
        if secrets is not None:
            self.secrets = secrets

    @property
    def _redis_url(self) -> str:
        if self.settings.redis_url is None:
            msg = "DATAFAB_REDIS_URL is not set: no cluster to ask"
            raise SettingError(msg, field="DATAFAB_REDIS_URL")
        return self.settings.redis_url

    @cached_property
    def jobs(self) -> Jobs:
        """The jobs of the cluster."""
        return RedisJobs(self.settings, connect(self._redis_url, patience=self.patience))

    @cached_property
    def secrets(self) -> Secrets:
        """The secrets of jobs."""
        return RedisSecrets(self.settings, connect(self._redis_url, patience=self.patience))

    @cached_property
    def clock(self) -> Clock:
        """The time of the cluster, for all that is kept or compared with what other hosts have kept."""
        if self.settings.redis_url is None:
            return Clock()
        return Clock(connect(self.settings.redis_url, patience=self.patience))

    @cached_property
    def gates(self) -> Gates:
        """What one job at a time may pass. Without a cluster there is but one."""
        if self.settings.redis_url is None:
            return MemoryGates()
        return RedisGates(connect(self.settings.redis_url, patience=self.patience))

    @cached_property
    def callback(self) -> Callback:
        """Answers to whoever submitted a job."""
        return Callback(self.settings)

    def ckan(self, url: str, key: str | None = None) -> Ckan:
        """Return a client of this CKAN with this key, to be closed."""
        return Ckan(url, key, self.settings)

    @cached_property
    def datagouv(self) -> Datagouv:
        """The catalogue of the settings."""
        return Datagouv(self.settings)

    @cached_property
    def cors(self) -> Cors:
        """CORS preflights for pages of the catalogue."""
        return Cors(self.settings)

    def catalogue(self, url: str | None) -> Datagouv:
        """Return this catalogue, or that of the settings."""
        return self.datagouv if url is None else Datagouv(self.settings, url)

    @cached_property
    def sources(self) -> Sources:
        """What is known of sources between two jobs."""
        return Sources(self.settings, connect(self._redis_url, patience=self.patience))

    @cached_property
    def measures(self) -> Measures:
        """The numbers of the cluster; whoever asks for them does not wait for Redis."""
        return Measures(connect(self._redis_url, patience=1))

    @cached_property
    def turns(self) -> Turns:
        """The turns at the servers of others."""
        return Turns(self.settings, connect(self._redis_url, patience=self.patience))

    @cached_property
    def linkproxy(self) -> LinkProxy:
        """The link-proxy of the settings."""
        return LinkProxy(self.settings)

    @cached_property
    def entrepot(self) -> Entrepot:
        """The Géoplateforme entrepôt."""
        return Entrepot(self.settings)

    @cached_property
    def fetcher(self) -> Fetcher:
        """Downloads, within the limits of the settings."""
        return Fetcher(self.settings)

    @cached_property
    def mqtt(self) -> Mqtt:
        """The MQTT broker; connects when it is first used, and is imported only there: it costs a tenth of a second."""
        from datafab.clients.mqtt import Broker, Mqtt  # noqa: PLC0415 - see above

        url = self.settings.mqtt_url
        if url is None:
            msg = "DATAFAB_MQTT_URL is not set: no broker to publish to; e.g. mqtt://broker.example.org:1883"
            raise SettingError(msg, field="DATAFAB_MQTT_URL")
        return Mqtt(Broker.of(url, self.settings.ca_bundle), connect=self.settings.connect_timeout)

    @cached_property
    def publications(self) -> Publications:
        """What was announced over WIS2."""
        return Publications(self.settings, connect(self._redis_url, patience=self.patience))

    @cached_property
    def wis2suite(self) -> Wis2Suite:
        """WMO's own checks of what is announced."""
        return Wis2Suite(self.settings.home)

    @cached_property
    def index(self) -> Index:
        """The index of what was analysed."""
        if self.index_owner is not None:
            self.index_owner.check()
        return open_index(self.settings.index, self.settings)

    @property
    def written_index(self) -> Index:
        """The same, for whoever writes it: asked for each time, as it may have been moved to another host meanwhile."""
        if self.index_owner is not None:
            self.index_owner.claim()
        return self.index

    @cached_property
    def index_owner(self) -> Owner | None:
        """The file that the cluster has as its index, where it is one."""
        file = index_file(self.settings.index)
        if self.settings.redis_url is None or file is None:
            return None
        return Owner(connect(self.settings.redis_url, patience=self.patience), file)

    @cached_property
    def detective(self) -> Detective:
        """csv-detective. Imported only where it is used: it costs a second and 150 MB."""
        from datafab.clients.detective import Detective  # noqa: PLC0415 - see above

        unpacked = UNPACKED * self.settings.max_bytes
        workbook, slab = self.settings.max_workbook_bytes, self.settings.analysis_slab_bytes
        order = Wish(self.settings.date_order)
        return Detective(max_unpacked=unpacked, max_workbook=workbook, at_once=slab, order=order)

    def store(self, root: str) -> Store:
        """Return the store with this root URL."""
        if root not in self._stores:
            self._stores[root] = Store(root, self.settings.s3_endpoint)
        return self._stores[root]

    def tidy(self) -> None:
        """Leave nothing in the stores but what was stored: called when a batch has been through a stage."""
        for store in list(self._stores.values()):
            store.tidy()

    def pings(self) -> dict[str, str | None]:
        """Ask every configured service; name -> what is wrong with it, or None."""
        asked: dict[str, Callable[[], Pinged]] = {
            "redis": lambda: self.jobs,
            "store": lambda: self.store(self.settings.store),
            "index": lambda: self.index,
        }
        if self.settings.mqtt_url is not None:
            asked["mqtt"] = lambda: self.mqtt
        if self.settings.linkproxy_url is not None:
            asked["link-proxy"] = lambda: self.linkproxy
        if "catalogue_url" in self.settings.model_fields_set:  # the default is no promise to use it
            asked["catalogue"] = lambda: self.datagouv
        if self.settings.entrepot_client_id is not None:
            asked["entrepot"] = lambda: self.entrepot
        asked |= {f"ckan {url}": partial(self.ckan, url) for url in self.settings.ckan_urls}
        answers: dict[str, str | None] = {}
        for name, client in asked.items():
            try:
                client().ping()
            except DatafabError as error:
                answers[name] = error.message
            except RedisError as error:
                answers[name] = f"{type(error).__name__}: {error}"
            else:
                answers[name] = None
        return answers

    def close(self) -> None:
        """Close what was opened."""
        for name in ("jobs", "clock", "fetcher", "mqtt", "publications", "sources", "turns", "index"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        if owner := self.__dict__.pop("index_owner", None):
            owner.close()
        self._stores.clear()
