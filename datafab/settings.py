"""The settings. This is the only module that reads the environment (``DATAFAB_...``)."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from datafab.errors import SettingError
from datafab.setting_types import (
    AbsolutePath,
    Folder,
    KeyPrefix,
    Networks,
    PublicUrl,
    RedisUrl,
    RootUrl,
    Sizes,
    Texts,
    TimeZone,
    UrlsWithoutLogin,
)
from datafab.urls import without_credentials
from datafab.version import __version__

#: Version of the data in Redis, a part of every key.
DATA_VERSION = 1
#: Largest size of an unpacked file, as a multiple of the largest download.
MAX_UNPACK_RATIO = 10


def _default_home() -> Path:
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "datafab"


class Settings(BaseSettings):
    """The settings of a process. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="DATAFAB_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(default_factory=_default_home)
    """Folder of the embedded cluster: Redis data, store, index, logs and ``cluster.json``; unset:
    ``~/.local/share/datafab``."""
    redis_url: RedisUrl | None = Field(default=None, repr=False)
    """Redis >= 6.2 of the cluster: ``redis://:password@host:6379/0``, ``rediss://`` with TLS, or the Sentinels that
    know the master: ``sentinel://:password@host1:26379,host2:26379/mymaster?db=0``, ``sentinels://`` with TLS. Unset:
    an embedded cluster on this host."""
    redis_ca: AbsolutePath | None = None
    """File of the certificate authorities that sign the certificates of Redis and its Sentinels; unset:
    ``DATAFAB_CA_BUNDLE``, else those of the system."""
    redis_cert: AbsolutePath | None = None
    """File of the certificate that a Redis with ``tls-auth-clients yes`` asks for, and unless it has a file of its own,
    of its key."""
    redis_key: AbsolutePath | None = None
    """File of the private key of this certificate."""
    key_prefix: KeyPrefix = "datafab"
    """First part of every key in Redis: letters, digits, ``.``, ``_`` and ``-``. Clusters that share a database must
    have different ones; all processes of a cluster must have the same."""
    store_url: Folder | None = None
    """Root of the default store, a folder or ``s3://bucket/prefix``; unset: ``<home>/store``."""
    s3_endpoint: str | None = None
    """URL of an object store other than Amazon's; keys and region are read from ``AWS_...``."""
    index_url: str | None = Field(default=None, repr=False)
    """URL of the index: ``sqlite:///path``, or ``http(s)://host:9200/name`` for Elasticsearch; unset:
    ``<home>/index.db``."""
    index_login: str | None = None
    """User of Elasticsearch, unless the URL has one."""
    index_password: str | None = Field(default=None, repr=False)
    """Password of that user."""
    index_api_key: str | None = Field(default=None, repr=False)
    """API key of Elasticsearch, instead of user and password."""
    index_legacy: str | None = None
    """Name of a second Elasticsearch index, which has the fields of the original; unset: there is none."""
    mqtt_url: str | None = Field(default=None, repr=False)
    """URL of the MQTT broker: ``mqtt://user:password@host:1883``, ``mqtts://``, or web sockets: ``ws://host:80/mqtt``,
    ``wss://``; ``?version=3`` selects MQTT 3.1.1 instead of 5. Unset: ``datafab up`` starts a broker of its own."""
    mqtt_ca: AbsolutePath | None = None
    """File or folder of certificate authorities to trust for the broker, besides those of ``DATAFAB_CA_BUNDLE`` or of
    the system."""
    mqtt_cert: AbsolutePath | None = None
    """File of the certificate that a broker may ask for, and unless it has a file of its own, of its key."""
    mqtt_key: AbsolutePath | None = None
    """File of the private key of this certificate."""
    event_topic: Texts = ()
    """Topics to which the listener subscribes, separated by commas; ``+`` and ``#`` are wildcards."""
    listener_id: str = "datafab-listener"
    """MQTT client id of the listener, under which the broker queues its messages; it must differ between listeners."""
    wis2_topic: str | None = None
    """WIS2 topic on which files are announced, unless a job names another."""
    wis2_metadata_id: str | None = None
    """Identifier of the WCMP2 record of announced files, ``urn:wmo:md:...``, unless a job names another."""
    bind: str = "127.0.0.1:8800"
    """Address and port on which the webhook listens. If other hosts can connect there, create a token first
    (``datafab token create``)."""
    anonymous: Literal["viewer"] | None = None
    """``viewer``: callers without a token may read jobs, sources, the index and metrics; unset: they may do nothing."""
    url: RootUrl | None = None
    """URL of the webhook of a cluster on another host: ``datafab jobs``, ``search``, ``enqueue`` and the commands that
    run a flow, and the Python API, use it over HTTP instead of ``DATAFAB_REDIS_URL``."""
    token: str | None = Field(default=None, repr=False)
    """Token that is sent to ``DATAFAB_URL``. It is not passed on to the cluster's processes."""
    request_timeout: float = Field(default=20.0, gt=0)
    """Seconds in which a request must reach the webhook; longer while at least 16 KB a second arrive."""
    flower_bind: str = "127.0.0.1:5555"
    """Address and port on which Flower listens in the embedded cluster."""
    retention_days: int = Field(default=30, ge=1)
    """Days for which ended jobs and their logs are kept."""
    lease: float = Field(default=30.0, gt=0)
    """Seconds after which a worker that has not renewed its lease loses the task (four times as long on the queue
    ``cpu``)."""
    heartbeat: float | None = Field(default=None, gt=0)
    """Seconds between two renewals of a lease; unset: a third of the lease."""
    tick: float = Field(default=1.0, gt=0)
    """Seconds between two ticks, at which beat sends the tasks that are due."""
    visibility_timeout: float = Field(default=60.0, gt=0)
    """Seconds after which Redis delivers an unacknowledged message to another worker; the ledger drops the copies."""
    job_deadline: float = Field(default=24 * 3600.0, gt=0)
    """Seconds after which a job that has not ended fails."""
    stop_limit: float = Field(default=25.0, gt=0)
    """Seconds that a stopping worker has to finish its tasks; unfinished ones are returned to the queue."""
    max_deaths: int = Field(default=3, ge=1)
    """Number of times that its worker may die before a task is parked."""
    batch_size: int = Field(default=50, ge=1)
    """Maximum number of items in a batch."""
    per_host: int = Field(default=4, ge=1)
    """Maximum number of simultaneous connections to one host, per job."""
    io_threads: int = Field(default=64, ge=1)
    """Threads of a worker of the queue ``io`` that ``datafab up`` or compose starts; others have ``-c``."""
    io_processes: int = Field(default_factory=lambda: min(4, os.cpu_count() or 1), ge=1)
    """Number of such workers that ``datafab up`` starts, each a process; unset: one per core, four at most."""
    cpu_processes: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Processes of such a worker of the queue ``cpu``; unset: one per core."""
    connect_timeout: float = Field(default=10.0, gt=0)
    """Maximum number of seconds to connect to a server."""
    read_timeout: float = Field(default=60.0, gt=0)
    """Maximum number of seconds between two parts of a response."""
    total_timeout: float = Field(default=1800.0, gt=0)
    """Maximum number of seconds for a whole response."""
    max_bytes: int = Field(default=10 * 1024**3, ge=1)
    """Largest response body; unpacked, it may be ten times as large."""
    max_workbook_bytes: int = Field(default=256 * 1024**2, ge=1)
    """Largest workbook or JSON document that is analysed, unpacked. It is held in memory, where it takes several times
    its size."""
    analysis_slab_bytes: int = Field(default=64 * 1024**2, ge=1024**2)
    """Bytes of a column that an analysis processes at once: a smaller value needs less memory, but more time for wide
    columns."""
    date_order: Literal["dmy", "mdy", "none"] = "none"
    """How to read dates such as ``01/02/2020`` if neither their column nor the other dates of the file show the order:
    day first (``dmy``), month first (``mdy``), or as text (``none``)."""
    bad_rows: Literal["quarantine", "refuse"] = "quarantine"
    """What jobs do with rows of a text that have more cells than its header: leave them out of the table if they are
    1 % of the rows at most, and list them (``quarantine``), or refuse the file (``refuse``). Files with more such
    rows are always refused."""
    max_redirects: int = Field(default=10, ge=0)
    """Maximum number of redirects that are followed."""
    collections: Folder | None = None
    """Folder or ``s3://bucket/prefix`` below which callers over HTTP may name files and collections; unset:
    ``<home>/collections``. The command line and the Python API may name any path."""
    file_root: AbsolutePath | None = None
    """Folder whose files may be collected by ``file:`` URLs, which are relative to it; unset: they are refused."""
    adaptive_least: float = Field(default=12.0, gt=0)
    """Minimum number of hours between two checks of an endpoint by an adaptive collection."""
    adaptive_most: float = Field(default=720.0, gt=0)
    """Maximum number of hours between two such checks, however seldom the endpoint changes."""
    retry_delay: float = Field(default=2.0, gt=0)
    """Seconds before the first retry after a failure; each further delay is three times as long, up to ten minutes."""
    allow_private_hosts: Networks = ()
    """Private addresses from which may be fetched: networks separated by commas (``10.0.0.0/8,127.0.0.1``), or ``*``
    for all."""
    ckan_urls: UrlsWithoutLogin = ()
    """Root URLs of the CKANs to which pushes and callbacks may go, separated by commas; empty: any that a job names,
    and ``/datapusher`` serves only callers on this host."""
    ckan_key_headers: Texts = ("Authorization", "X-CKAN-API-Key")
    """Headers that a submitted key may select for callbacks (``Header:key``), separated by commas."""
    ckan_api_key: str | None = Field(default=None, repr=False)
    """API key for ``datafab push``; unset: the command asks for it. It is not passed on to the cluster's processes."""
    catalogue_url: RootUrl = "https://www.data.gouv.fr/api/1"
    """Root URL of version 1 of the API of a udata catalogue, without ``/datasets/``; that of version 2 is derived."""
    catalogue_exclude: Texts = (
        "resources/donnees-temps-reel-de-mesure-des-concentrations-de-polluants-atmospheriques-reglementes-1",
        "files.data.gouv.fr/lcsqa/concentrations-de-polluants-atmospheriques-reglementes",
        "files.geo.data.gouv.fr/link-proxy/",
    )
    """Texts separated by commas: resources of the catalogue whose URL contains one of them are left out."""
    catalogue_overlap: float = Field(default=24.0, ge=0)
    """Hours before the last pass over the catalogue that the next one reads again, because dates arrive late."""
    catalogue_export: str | None = None
    """URL of the catalogue's exported list of resources (CSV), which a full pass reads instead of the pages of the
    API."""
    catalogue_backlog: int = Field(default=10_000, ge=1)
    """Number of unended jobs at which a pass waits before it enqueues more."""
    catalogue_host_rate: float = Field(default=30.0, ge=0)
    """Maximum number of files of a catalogue that are fetched from one server per minute, except urgent ones; 0: no
    limit."""
    catalogue_host_burst: int = Field(default=180, ge=1)
    """Number of files that may be fetched from one server before this limit applies."""
    catalogue_hosts_free: Texts = (
        "static.data.gouv.fr",
        "www.data.gouv.fr",
        "inspire.data.gouv.fr",
    )
    """Servers without this limit, separated by commas."""
    catalogue_sizes: Sizes = ()
    """Largest file of a catalogue by format, in bytes (``xlsx=50000000,ods=10000000``), if less than
    ``DATAFAB_MAX_BYTES``."""
    catalogue_large: Texts = ()
    """Ids of resources to which these sizes do not apply, separated by commas."""
    catalogue_key: str | None = Field(default=None, repr=False)
    """An administrator's API key, with which results are written to the catalogue (extras); unset: they are not."""
    catalogue_push_key: str | None = Field(default=None, repr=False)
    """Key that udata sends with its notifications to ``/hydra/api/resources``; unset: all are refused."""
    linkproxy_url: RootUrl | None = Field(default=None, repr=False)
    """Root URL of a link-proxy that watches the catalogue's files; unset: each file is fetched directly."""
    linkproxy_token: str | None = Field(default=None, repr=False)
    """Token that link-proxy sends with its webhooks (``Authorization: Basic <token>``); unset: only those from this
    host are accepted."""
    entrepot_url: str = "https://data.geopf.fr/api"
    """Root URL of the API of a Géoplateforme entrepôt."""
    entrepot_datastore: str | None = None
    """Id of the datastore to which archives are delivered, unless their plan names another."""
    entrepot_token_url: str = "https://sso.geopf.fr/realms/geoplateforme/protocol/openid-connect/token"  # noqa: S105 - a URL
    """URL that issues OAuth 2 tokens for the entrepôt."""
    entrepot_client_id: str | None = None
    """OAuth client id."""
    entrepot_client_secret: str | None = Field(default=None, repr=False)
    """Secret of the OAuth client."""
    entrepot_login: str | None = None
    """User for whom tokens are requested; unset: the client itself."""
    entrepot_password: str | None = Field(default=None, repr=False)
    """Password of that user."""
    public_url: PublicUrl | None = None
    """Public URLs and bare host names of the webhook and Flower, separated by commas
    (``https://data.example.org,webhook``). Requests for other host names are refused, except ``localhost`` and IP
    addresses. The first URL is used for callbacks of other services; without a URL, no callbacks are requested."""
    poll_delay: float = Field(default=2.0, gt=0)
    """Seconds between the first two queries of a task in another system; the delays grow to a minute."""
    user_agent: str = f"datafab/{__version__} (+https://github.com/datafab/datafab)"
    """Value of the header ``User-Agent`` of every request."""
    proxy: str | None = Field(default=None, repr=False)
    """Proxy for fetches; checking for private addresses is then up to the proxy."""
    ca_bundle: Path | None = None
    """File of certificate authorities to trust, instead of the default ones."""
    config: AbsolutePath | None = None
    """Path of a ``datafab.toml`` with your own flows (``[[flow]]``); unset: only the built-in flows exist."""
    timezone: TimeZone = "UTC"
    """Time zone of schedules."""
    log_level: str = "INFO"
    """Lowest level of messages that are logged."""

    @cached_property
    def redis_prefix(self) -> str:
        """What every key in Redis begins with."""
        return f"{self.key_prefix}:{DATA_VERSION}:"

    @cached_property
    def store(self) -> str:
        """Root URL of the default store."""
        return self.store_url or (self.home / "store").absolute().as_uri()

    @cached_property
    def collection_root(self) -> str:
        """Root URL of the files and collections that callers over HTTP may name."""
        root = self.collections or str(self.home / "collections")
        return root if "://" in root else Path(root).absolute().as_uri()

    @cached_property
    def index(self) -> str:
        """URL of the index."""
        return self.index_url or f"sqlite:///{(self.home / 'index.db').absolute()}"

    @cached_property
    def catalogue_largest(self) -> dict[str, int]:
        """Largest file of a catalogue by format, in bytes."""
        return {name: int(size) for name, _, size in (part.partition("=") for part in self.catalogue_sizes)}

    @cached_property
    def stalled_after(self) -> float:
        """Seconds after which a queue with messages that no worker takes is reported as broken."""
        return 2 * self.lease

    @cached_property
    def heartbeat_interval(self) -> float:
        """Seconds between two renewals of a lease."""
        return self.heartbeat or self.lease / 3


def load(environ: dict[str, str] | None = None, **changes: Any) -> Settings:
    """Read the settings from the environment; ``changes`` take precedence.

    Raises:
        SettingError: a value is invalid; ``field`` is the variable.
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


def variable_names() -> list[str]:
    """Return the names of all environment variables that are settings."""
    return [f"DATAFAB_{name.upper()}" for name in Settings.model_fields]


def unknown_variables() -> list[str]:
    """Return the names of this process's ``DATAFAB_`` variables that are not settings, which are probably misspelt."""
    return sorted(name for name in os.environ if name.startswith("DATAFAB_") and name not in variable_names())


def _shown(name: str, value: Any) -> str:
    """Return a setting's value for an error message: without secrets, users and passwords."""
    field = Settings.model_fields.get(name)
    if field is not None and not field.repr:
        return "(secret)"
    return without_credentials(repr(value))


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the environment for a child process with the same settings, without those of commands alone."""
    values = {
        f"DATAFAB_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in settings.model_dump().items()
        if value is not None and name in settings.model_fields_set
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, **values, "PATH": path}
    for name in ("DATAFAB_CKAN_API_KEY", "DATAFAB_TOKEN", "DATAFAB_URL"):
        environment.pop(name, None)
    return environment
