"""All settings, read in this one place from the environment (``DATAFAB_...``)."""

from __future__ import annotations

import os
import re
import sys
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from datafab.errors import SettingError
from datafab.version import __version__

#: Every key in Redis begins with this; the number is the version of what stands there.
PREFIX = "datafab:1:"
#: How many times the bytes of a fetch a file may unpack to.
UNPACKED = 10
#: A part of DATAFAB_PUBLIC_URL: a URL without login and query, or a host name alone.
_PUBLIC = re.compile(
    r"https?://(?:[\w.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?(?:/[^?#\s]*)?|[\w.-]+", re.IGNORECASE | re.ASCII
)
#: How a URL with a user or a password begins, with or without its scheme.
_LOGIN = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?[/\\]*[^/\\?#]*@", re.IGNORECASE)


def _default_home() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "datafab"


class Settings(BaseSettings):
    """What can be set, from the environment. Times are seconds, sizes are bytes."""

    model_config = SettingsConfigDict(env_prefix="DATAFAB_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(default_factory=_default_home)
    """Folder of the embedded cluster: Redis data, store, index, logs, ``cluster.json``; unset:
    ``~/.local/share/datafab``."""
    redis_url: str | None = Field(default=None, repr=False)
    """Redis >= 6.2 of the cluster; unset: an embedded cluster on this host."""
    store_url: str | None = None
    """Root of the default store, a folder or ``s3://bucket/prefix``; unset: ``<home>/store``."""
    s3_endpoint: str | None = None
    """URL of an object store that is not Amazon's; keys and region come from ``AWS_...``."""
    index_url: str | None = Field(default=None, repr=False)
    """Index, ``sqlite:///path`` or an Elasticsearch, ``http(s)://host:9200/name``; unset: ``<home>/index.db``."""
    index_login: str | None = None
    """User of Elasticsearch, unless the URL names one."""
    index_password: str | None = Field(default=None, repr=False)
    """Its password."""
    index_api_key: str | None = Field(default=None, repr=False)
    """API key of Elasticsearch, instead of a user."""
    index_legacy: str | None = None
    """Name of a further index there, with the fields of the original; unset: none is kept."""
    mqtt_url: str | None = Field(default=None, repr=False)
    """MQTT broker: ``mqtt://user:password@host:1883``, ``mqtts://``; ``?version=3`` for MQTT 3.1.1 instead of 5.
    Unset: ``datafab up`` runs one of its own."""
    event_topic: Annotated[tuple[str, ...], NoDecode] = ()
    """Topics on which files are announced to the listener, separated by commas; ``+`` and ``#`` stand for levels."""
    listener_id: str = "datafab-listener"
    """MQTT client id of the listener, by which the broker keeps its messages; another one for each listener."""
    wis2_topic: str | None = None
    """WIS2 topic to announce files on, unless a job names another."""
    wis2_metadata_id: str | None = None
    """WCMP2 record of the files announced, ``urn:wmo:md:...``, unless a job names another."""
    bind: str = "127.0.0.1:8800"
    """Address and port of the webhook."""
    flower_bind: str = "127.0.0.1:5555"
    """Address and port of Flower in the embedded cluster."""
    retention_days: int = Field(default=30, ge=1)
    """Days that ended jobs and their logs are kept."""
    lease: float = Field(default=30.0, gt=0)
    """A silent holder loses its task after this long (four times as long on the queue ``cpu``)."""
    heartbeat: float | None = Field(default=None, gt=0)
    """How often a holder renews its leases; unset: a third of the lease."""
    tick: float = Field(default=1.0, gt=0)
    """How often beat sends what is due again."""
    visibility_timeout: float = Field(default=60.0, gt=0)
    """Redis hands an unacknowledged message to another worker after this long; the ledger drops the copies."""
    job_deadline: float = Field(default=24 * 3600.0, gt=0)
    """A job that has not ended by then fails."""
    stop_limit: float = Field(default=25.0, gt=0)
    """Seconds that a worker that is told to stop has to finish what it does; the rest is given back, for another."""
    max_deaths: int = Field(default=3, ge=1)
    """A task is parked when its worker died this often."""
    batch_size: int = Field(default=50, ge=1)
    """Items in a batch."""
    per_host: int = Field(default=4, ge=1)
    """Connections to one host at once, per job."""
    io_threads: int = Field(default=64, ge=1)
    """Threads of a worker on the queue ``io`` that ``datafab up`` or compose starts; elsewhere ``-c`` tells."""
    io_processes: int = Field(default_factory=lambda: min(4, os.cpu_count() or 1), ge=1)
    """How many of these workers ``datafab up`` starts, each a process; unset: one per core, four at most."""
    cpu_processes: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Processes of such a worker on the queue ``cpu``; unset: one per core."""
    connect_timeout: float = Field(default=10.0, gt=0)
    """Seconds to connect to a server."""
    read_timeout: float = Field(default=60.0, gt=0)
    """Seconds between two parts of an answer."""
    total_timeout: float = Field(default=1800.0, gt=0)
    """Seconds for a whole answer."""
    max_bytes: int = Field(default=10 * 1024**3, ge=1)
    """Largest body fetched; unpacked it may be ten times as large."""
    max_workbook_bytes: int = Field(default=256 * 1024**2, ge=1)
    """Largest workbook or JSON document analysed, unpacked: it is held in memory, where it takes some times as much."""
    analysis_slab_bytes: int = Field(default=64 * 1024**2, ge=1024**2)
    """Bytes of a column that an analysis looks at in one go: less takes less memory, and longer on wide columns."""
    date_order: Literal["dmy", "mdy", "none"] = "none"
    """How dates such as ``01/02/2020`` are read where neither their column nor the other dates of the file say:
    day first (``dmy``), month first (``mdy``), or not at all (``none``): then they are kept as text."""
    max_redirects: int = Field(default=10, ge=0)
    """Redirects followed."""
    collections: str | None = None
    """Where callers over HTTP may name files and collections, a folder or ``s3://bucket/prefix``; unset:
    ``<home>/collections``. The command line and the Python API may name any."""
    file_root: Path | None = None
    """Folder whose files may be collected by ``file:`` URLs, which count from it on; unset: none may."""
    adaptive_least: float = Field(default=12.0, gt=0)
    """Hours that pass at any rate before an adaptive collection looks at an endpoint again."""
    adaptive_most: float = Field(default=720.0, gt=0)
    """Hours after which it does, however seldom the endpoint changes."""
    retry_delay: float = Field(default=2.0, gt=0)
    """Seconds before something that failed is tried again; three times as long each further time, up to ten minutes."""
    allow_private_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Private addresses that may be fetched: networks separated by commas (``10.0.0.0/8,127.0.0.1``), or ``*``."""
    ckan_urls: Annotated[tuple[str, ...], NoDecode] = ()
    """Roots of the CKANs that may be pushed to and called back, separated by commas; empty: any that a job names."""
    ckan_key_headers: Annotated[tuple[str, ...], NoDecode] = ("Authorization", "X-CKAN-API-Key")
    """Headers that a submitted key may ask to be sent in with callbacks (``Header:key``), separated by commas."""
    ckan_api_key: str | None = Field(default=None, repr=False)
    """API key for ``datafab push``; unset: it is asked for. Only that command sees it, not the cluster's processes."""
    catalogue_url: str = "https://www.data.gouv.fr/api/1"
    """Root of the API 1 of a udata catalogue, without ``/datasets/``; its API 2 is found from it."""
    catalogue_exclude: Annotated[tuple[str, ...], NoDecode] = (
        "resources/donnees-temps-reel-de-mesure-des-concentrations-de-polluants-atmospheriques-reglementes-1",
        "files.data.gouv.fr/lcsqa/concentrations-de-polluants-atmospheriques-reglementes",
        "files.geo.data.gouv.fr/link-proxy/",
    )
    """Resources of the catalogue whose URL contains one of these, separated by commas, are left out."""
    catalogue_overlap: float = Field(default=24.0, ge=0)
    """Hours before the last pass over the catalogue that are read again: dates arrive late."""
    catalogue_export: str | None = None
    """URL of the catalogue's exported list of resources (CSV), which a full pass reads instead of all its pages."""
    catalogue_backlog: int = Field(default=10_000, ge=1)
    """A pass waits while so many jobs have not ended."""
    catalogue_host_rate: float = Field(default=30.0, ge=0)
    """Files of a catalogue that are fetched from one server in a minute, but for urgent ones; 0: any number."""
    catalogue_host_burst: int = Field(default=180, ge=1)
    """Files fetched from one server at once before that counts."""
    catalogue_hosts_free: Annotated[tuple[str, ...], NoDecode] = (
        "static.data.gouv.fr",
        "www.data.gouv.fr",
        "inspire.data.gouv.fr",
    )
    """Servers for which it does not count, separated by commas."""
    catalogue_sizes: Annotated[tuple[str, ...], NoDecode] = ()
    """Largest files of a catalogue by format, in bytes (``xlsx=50000000,ods=10000000``), where less than MAX_BYTES."""
    catalogue_large: Annotated[tuple[str, ...], NoDecode] = ()
    """Ids of resources that may be larger than that all the same, separated by commas."""
    catalogue_key: str | None = Field(default=None, repr=False)
    """An administrator's API key, by which the catalogue is told how its files are (extras); unset: it is not told."""
    catalogue_push_key: str | None = Field(default=None, repr=False)
    """Key that udata shows when it pushes a resource to ``/hydra/api/resources``; unset: nobody may."""
    linkproxy_url: str | None = Field(default=None, repr=False)
    """Root of a link-proxy that watches the catalogue's files; unset: each is fetched directly."""
    linkproxy_token: str | None = Field(default=None, repr=False)
    """What link-proxy sends with its webhooks as ``Authorization: Basic <token>``; unset: anybody may send them."""
    entrepot_url: str = "https://data.geopf.fr/api"
    """Root of the API of a Géoplateforme entrepôt."""
    entrepot_datastore: str | None = None
    """Id of the datastore that archives go to, unless their plan names another."""
    entrepot_token_url: str = "https://sso.geopf.fr/realms/geoplateforme/protocol/openid-connect/token"  # noqa: S105 - a URL
    """Where tokens for it are given out (OAuth 2)."""
    entrepot_client_id: str | None = None
    """OAuth client that asks for them."""
    entrepot_client_secret: str | None = Field(default=None, repr=False)
    """Its secret."""
    entrepot_login: str | None = None
    """User who asks for them; unset: the client itself."""
    entrepot_password: str | None = Field(default=None, repr=False)
    """The user's password."""
    public_url: str | None = None
    """Where others reach the webhook and Flower, separated by commas: URLs and bare host names
    (``https://data.example.org,webhook``). Requests for other host names are refused, but for ``localhost`` and IP
    addresses. The first URL is given to services that call back; without one, none is asked to."""
    poll_delay: float = Field(default=2.0, gt=0)
    """Seconds before a second look at what an outside system is working on; they grow up to a minute."""
    user_agent: str = f"datafab/{__version__} (+https://github.com/datafab/datafab)"
    """Sent with every request."""
    proxy: str | None = Field(default=None, repr=False)
    """Proxy for fetches; the private-address check is then the proxy's."""
    ca_bundle: Path | None = None
    """Certificates to trust instead of the usual ones."""
    config: Path | None = None
    """``datafab.toml`` with flows of one's own (``[[flow]]``); unset: the built-in ones only."""
    timezone: str = "UTC"
    """Time zone of schedules."""
    log_level: str = "INFO"
    """Least level that is logged."""

    @field_validator(
        "allow_private_hosts",
        "ckan_urls",
        "ckan_key_headers",
        "event_topic",
        "catalogue_exclude",
        "catalogue_hosts_free",
        "catalogue_sizes",
        "catalogue_large",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allow_private_hosts")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            if part != "*":
                ip_network(part, strict=False)
        return value

    @field_validator("ckan_urls")
    @classmethod
    def _without_login(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """A login in the URL would be sent in the place of the API key, and the URL is shown to everybody."""
        if any(_LOGIN.match(part) for part in value):
            msg = "the URL of a CKAN must not hold a user or a password: CKAN is shown the API key alone"
            raise ValueError(msg)
        return value

    @field_validator("catalogue_sizes")
    @classmethod
    def _sizes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            if not re.fullmatch(r"[a-z0-9.]+=[0-9]+", part):
                msg = f"{part!r} is no format with its bytes, such as xlsx=50000000"
                raise ValueError(msg)
        return value

    @field_validator("store_url", "collections")
    @classmethod
    def _folder(cls, value: str | None) -> str | None:
        """Processes of one host may work in several folders."""
        return str(Path(value).absolute()) if value and not urlsplit(value).scheme else value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://")):
            msg = "must begin with redis:// or rediss://, such as redis://:password@host:6379/0"
            raise ValueError(msg)
        return value

    @field_validator("catalogue_url", "linkproxy_url")
    @classmethod
    def _root(cls, value: str | None) -> str | None:
        """Roots are joined with paths."""
        if value is not None and not value.lower().startswith(("http://", "https://")):
            msg = "must begin with http:// or https://"
            raise ValueError(msg)
        return value and value.rstrip("/")

    @field_validator("public_url")
    @classmethod
    def _public(cls, value: str | None) -> str | None:
        for part in (value or "").split(","):
            if part.strip() and not _PUBLIC.fullmatch(part.strip()):
                msg = f"{part.strip()!r} is neither a URL (https://data.example.org) nor a host name (webhook)"
                raise ValueError(msg)
        return value

    @field_validator("config", "file_root")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """Children may work in another folder."""
        return value and value.absolute()

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            msg = f"no time zone is called {value!r}"
            raise ValueError(msg) from error
        return value

    @cached_property
    def store(self) -> str:
        """Root URL of the default store."""
        return self.store_url or (self.home / "store").absolute().as_uri()

    @cached_property
    def collection_root(self) -> str:
        """Root URL of what callers over HTTP may name."""
        root = self.collections or str(self.home / "collections")
        return root if "://" in root else Path(root).absolute().as_uri()

    @cached_property
    def index(self) -> str:
        """URL of the index."""
        return self.index_url or f"sqlite:///{(self.home / 'index.db').absolute()}"

    @cached_property
    def catalogue_largest(self) -> dict[str, int]:
        """Largest files of a catalogue, by format."""
        return {name: int(size) for name, _, size in (part.partition("=") for part in self.catalogue_sizes)}

    @cached_property
    def still_after(self) -> float:
        """Seconds after which a queue with messages that nobody takes is out of order."""
        return 2 * self.lease

    @cached_property
    def beat_every(self) -> float:
        """Seconds between heartbeats."""
        return self.heartbeat or self.lease / 3


def load(environ: dict[str, str] | None = None, **changes: Any) -> Settings:
    """Read the settings from the environment; ``changes`` win over it.

    Raises:
        SettingError: a value cannot be used; names the variable.
    """
    if environ is not None:
        changes = {name.removeprefix("DATAFAB_").lower(): value for name, value in environ.items()} | changes
    try:
        return Settings(**changes)
    except ValidationError as error:
        first = error.errors()[0]
        name = "DATAFAB_" + str(first["loc"][0]).upper() if first["loc"] else "DATAFAB_?"
        msg = f"{name}={_shown(str(first['loc'][0]) if first['loc'] else '', first.get('input'))}: {first['msg']}"
        raise SettingError(msg, field=name) from error


def names() -> list[str]:
    """Return the variables that are settings."""
    return [f"DATAFAB_{name.upper()}" for name in Settings.model_fields]


def strangers() -> list[str]:
    """Return the variables of this process that look like settings, and are none: misspelt ones, most likely."""
    return sorted(name for name in os.environ if name.startswith("DATAFAB_") and name not in names())


def _shown(name: str, value: Any) -> str:
    """Return a setting's value for people: not a secret one, nor the user and password of a URL."""
    field = Settings.model_fields.get(name)
    if field is not None and not field.repr:
        return "(secret)"
    return re.sub(r"(?<=//)[^/?#\s]*@", "", repr(value))


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment for a child process that shall see the same settings, but for a command's own key."""
    values = {
        f"DATAFAB_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in settings.model_dump().items()
        if value is not None and name in settings.model_fields_set
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, **values, "PATH": path}
    environment.pop("DATAFAB_CKAN_API_KEY", None)
    return environment
