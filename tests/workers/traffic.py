"""Jobs of all chains for a cluster under test, and what has come of them at those who receive it.

Every kind of job has a receiver outside of the cluster, which counts: a CKAN, an entrepôt, a subscriber of an MQTT
broker, a collection, an index, a Redis list.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
from redis.exceptions import RedisError

from datafab.collect.endpoint import endpoint_hash
from datafab.embedded import free_port
from datafab.flows.registry import localise
from datafab.index.access import IndexAccess
from datafab.publish.event import announcement
from datafab.publish.mqtt import Broker, Mqtt
from datafab.sandbox.catalogue import catalogue
from datafab.sandbox.ckan import TOKEN, ckan
from datafab.sandbox.entrepot import entrepot
from tests.servers.celery import until
from tests.servers.http import Answer, Site, table
from tests.servers.mosquitto import Mosquitto, Subscriber
from workers.app import services
from workers.canvas import start

TOPIC = "origin/a/wis2/fr-ifremer-argo/data/core/ocean/surface-based-observations/drifting-ocean-profilers"
EVENTS = "diffusion/files/coriolis/argo/netcdf"
EXTENT = {"type": "Polygon", "coordinates": [[[1.0, 44.0], [2.0, 44.0], [2.0, 45.0], [1.0, 44.0]]]}
#: How often each kind is asked for.
WEIGHTS = {"collect": 6, "push": 4, "publish": 4, "archive": 2, "catalogue": 1, "toy": 4}
#: Files that a pass over the catalogue finds anew.
NEW_FILES = 4
ROWS = 300  # bytes of a table


class Receivers:
    """Everything outside of the cluster."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.site = stack.enter_context(Site(router=lambda path, _: Answer(table(path, ROWS))))
        self.ckan = stack.enter_context(ckan())
        self.entrepot = stack.enter_context(entrepot())
        self.udata = stack.enter_context(catalogue())
        self.broker = stack.enter_context(Mosquitto(folder / "broker"))
        self.mqtt = Mqtt(Broker.of(self.broker.url))
        stack.callback(self.mqtt.close)
        self.subscriber = stack.enter_context(Subscriber(self.broker.url, "origin/#"))
        self.webhook = f"127.0.0.1:{free_port()}"
        self.collections = folder / "collections"
        self.collections.mkdir()

    def settings(self) -> dict[str, str]:
        """Return the settings of a cluster whose jobs come here."""
        return {
            "DATAFAB_STORE_URL": str(self.folder / "store"),
            "DATAFAB_INDEX_URL": f"sqlite:///{self.folder}/index.db",
            "DATAFAB_COLLECTIONS": str(self.collections),
            "DATAFAB_BIND": self.webhook,
            "DATAFAB_ALLOW_PRIVATE_HOSTS": "127.0.0.1/32",
            "DATAFAB_POLL_DELAY": "0.2",
            "DATAFAB_MAX_DEATHS": "50",
            "DATAFAB_MQTT_URL": self.broker.url,
            "DATAFAB_EVENT_TOPIC": "diffusion/files/#",
            "DATAFAB_WIS2_TOPIC": TOPIC,
            "DATAFAB_WIS2_METADATA_ID": "urn:wmo:md:fr-ifremer-argo:cor:msg:argo",
            "DATAFAB_ENTREPOT_URL": self.entrepot.url,
            "DATAFAB_ENTREPOT_TOKEN_URL": self.entrepot.token_url,
            "DATAFAB_ENTREPOT_DATASTORE": self.entrepot.datastore,
            "DATAFAB_ENTREPOT_CLIENT_ID": self.entrepot.client_id,
            "DATAFAB_ENTREPOT_CLIENT_SECRET": self.entrepot.client_secret,
            "DATAFAB_ENTREPOT_LOGIN": self.entrepot.login,
            "DATAFAB_ENTREPOT_PASSWORD": self.entrepot.password,
        }


@contextmanager
def receivers(folder: Path) -> Iterator[Receivers]:
    """Run all receivers."""
    with ExitStack() as stack:
        yield Receivers(folder, stack)


class Traffic:
    """Asks for jobs, each until it is accepted, and knows what must come of them.

    Attributes:
        asked: how many of each kind.
    """

    def __init__(self, outside: Receivers, seed: int, redis: Any) -> None:
        self.outside, self.redis = outside, redis
        self.random = random.Random(seed)
        self.asked: Counter[str] = Counter()
        self.ids: list[str] = []
        self.pushed: list[str] = []
        self.files: list[str] = []

    def ask(self) -> None:
        """Ask for one more job, of a kind that is drawn."""
        kind = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.asked[kind] += 1
        getattr(self, f"ask_{kind}")(self.asked[kind])

    def ask_collect(self, number: int) -> None:
        endpoints = self.outside.collections / f"{number}.csv"
        endpoints.write_text(f"endpoint-url,endpoint\n{self.outside.site.url(f'/collect/{number}.csv')},\n")
        params = {"endpoints": str(endpoints), "collection": str(self.outside.collections / "all"), "then": []}
        self._post("/api/jobs", {"flow": "collect", "params": params, "key": f"collect:{number}"})

    def ask_push(self, number: int) -> None:
        ckan = self.outside.ckan
        self.pushed.append(ckan.add(self.outside.site.url(f"/push/{number}.csv"), format="CSV"))
        metadata = {"ckan_url": ckan.url, "resource_id": self.pushed[-1], "original_url": "http://ckan.example/"}
        hook = f"{ckan.url}/api/3/action/datapusher_hook"
        body = {"api_key": TOKEN, "job_type": "push_to_datastore", "result_url": hook, "metadata": metadata}
        self._post(f"/datapusher/job/{self.pushed[-1]}", body)

    def ask_publish(self, number: int) -> None:
        event = announcement(self.outside.site.url(f"/publish/{number}.csv"))
        self.outside.mqtt.publish(EVENTS, json.dumps(event).encode())

    def ask_archive(self, number: int) -> None:
        folder = self.outside.folder / "plans"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.zip").write_bytes(f"PK {number}".encode())
        plan = folder / f"{number}.json"
        integration = {
            "name": f"archive {number}",
            "description": "cantons",
            "srs": "EPSG:2154",
            "files": [f"{number}.zip"],
            "output": {"name": f"ARCHIVE_{number}"},
            "edition": {"from": "2026-01-01", "to": "2026-12-31"},
            "extent": EXTENT,
        }
        plan.write_text(json.dumps({"integrations": [integration]}), encoding="utf-8")
        self._start("archive", f"archive:{number}", plan=str(plan))

    def ask_catalogue(self, number: int) -> None:
        udata = self.outside.udata
        for _ in range(NEW_FILES):
            dataset = udata.add(self.outside.site.url(f"/catalogue/{len(self.files)}.csv"))
            self.files.append(f"datagouv:{udata.resource_ids(dataset)[0]}")
        self._start("catalogue", f"pass:{number}", url=udata.url)

    def ask_toy(self, number: int) -> None:
        self._start("chaos", f"toy:{number}", n=4, seconds=0.05, delay=0.3)

    def _start(self, flow: str, key: str, **params: Any) -> None:
        def accepted() -> bool:
            with suppress(RedisError):
                start(flow, localise(flow, params, services()), key)
                return True
            return False

        until(accepted, 60)

    def _post(self, path: str, body: dict[str, Any]) -> None:
        """Send a request until it is accepted: with its own id or key, it may come twice."""

        def accepted() -> bool:
            with suppress(requests.RequestException):
                answer = requests.post(f"http://{self.outside.webhook}{path}", json=body, timeout=10)
                known = answer.status_code == 409 and "already exists" in answer.text
                assert answer.ok or known or answer.status_code >= 500, answer.text
                return answer.ok or known
            return False

        until(accepted, 60)

    @property
    def expected(self) -> Counter[str]:
        """How many jobs of each flow there must be in the end."""
        flows = {"collect": "collect", "push": "push", "publish": "publish", "archive": "archive", "toy": "chaos"}
        made = Counter({flow: self.asked[kind] for kind, flow in flows.items()})
        return made + Counter(callback=self.asked["push"], catalogue=self.asked["catalogue"], source=len(self.files))

    def made(self) -> Counter[str]:
        """Return how many jobs of each flow there are."""
        return Counter(flow for flow, _ in self._jobs())

    def unended(self) -> int:
        return int(self.redis.zcard("datafab:1:deadlines"))

    def failed(self) -> list[tuple[str, str]]:
        """Return the jobs that have not succeeded."""
        return [(flow, error) for flow, error in self._jobs() if error]

    def _jobs(self) -> Iterator[tuple[str, str]]:
        ids = self.redis.zrange("datafab:1:jobs", 0, -1)
        for first in range(0, len(ids), 500):
            with self.redis.pipeline(transaction=False) as pipe:
                for job in ids[first : first + 500]:
                    pipe.hmget(f"datafab:1:job:{job}", "flow", "status", "error")
                for flow, status, error in pipe.execute():
                    yield flow, "" if status == "succeeded" else f"{status}: {error}"

    def amiss(self) -> dict[str, Any]:
        """Return what was lost or doubled at the receivers, by kind; empty: nothing was."""
        kinds: dict[str, Callable[[], dict[str, int]]] = {
            "collect": self._logs,
            "push": self._tables,
            "publish": self._messages,
            "archive": self._archives,
            "catalogue": self._documents,
        }
        return {kind: wrong for kind, seen in kinds.items() if (wrong := {k: n for k, n in seen().items() if n != 1})}

    def _logs(self) -> dict[str, int]:
        """Logs of each endpoint."""
        folder = self.outside.collections / "all"
        logs = Counter(path.stem for path in folder.glob("log/*/*"))
        urls = [self.outside.site.url(f"/collect/{n}.csv") for n in range(1, self.asked["collect"] + 1)]
        for path in folder.glob("resource/*"):
            whole = hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            logs[f"resource {path.name}"] = int(whole)
        logs["resources too many"] = 1 + len(list(folder.glob("resource/*"))) - len(urls)
        return {endpoint_hash(url): 0 for url in urls} | logs

    def _tables(self) -> dict[str, int]:
        """Loads of each resource: 1 where its table has each row once, and CKAN was told so."""
        found: dict[str, int] = {}
        told = Counter(hook["metadata"]["resource_id"] for hook in self.outside.ckan.hooks)
        for number, resource in enumerate(self.pushed, 1):
            lines = len(table(f"/push/{number}.csv", ROWS).splitlines()) - 1
            rows = self.outside.ckan.tables[resource].rows if resource in self.outside.ckan.tables else []
            found[resource] = int(len(rows) == lines and told[resource] > 0)
        states = Counter(hook["status"] for hook in self.outside.ckan.hooks if hook["status"] != "complete")
        return found | dict(states)

    def _messages(self) -> dict[str, int]:
        """Notifications of each file: a message that is sent again has the same id."""
        sent: dict[str, set[str]] = {}
        for document in self.outside.subscriber.documents():
            href = document["links"][0]["href"].rpartition("/")[2]
            sent.setdefault(href, set()).add(document["id"])
        wanted = {f"{n}.csv": 0 for n in range(1, self.asked["publish"] + 1)}
        return wanted | {href: len(ids) for href, ids in sent.items()}

    def _archives(self) -> dict[str, int]:
        """Uploads, executions and outputs of each archive."""
        entrepot = self.outside.entrepot
        numbers = range(1, self.asked["archive"] + 1)
        uploads = Counter(upload["name"] for upload in entrepot.uploads.values())
        stored = Counter(one["name"] for one in entrepot.stored.values())
        wanted = {f"archive {n}": 0 for n in numbers} | {f"ARCHIVE_{n}": 0 for n in numbers}
        launched = 1 + len(entrepot.executions) - len(numbers)
        return wanted | uploads | stored | {"executions too many": launched}

    def _documents(self) -> dict[str, int]:
        """Documents of each file of the catalogue."""
        reading = services().get(IndexAccess).reading
        return {source: int(reading.get(source) is not None) for source in self.files}
