"""The chain ``publish``: its flow and stages, and the outside system it depends on."""

from __future__ import annotations

from functools import partial

from datafab.core.chain import Chain, ExternalSystem, ExternalSystems
from datafab.core.flow import Flow
from datafab.core.services import Services
from datafab.publish import stages

PUBLISH = Flow(
    name="publish",
    title="Announce every file of an event over WIS2, once for each state of it",
    producer="event",
    stages=("receive", "publish"),
    requires=frozenset({"event"}),
    files=frozenset({"event"}),
    documents=frozenset({"event"}),
)


def _pings(services: Services) -> ExternalSystems:
    return (
        {}
        if services.settings.mqtt_url is None
        else {"mqtt": ExternalSystem(partial(_ping, services), "DATAFAB_MQTT_URL")}
    )


def _ping(services: Services) -> None:
    from datafab.publish.mqtt import Mqtt  # noqa: PLC0415 - takes a tenth of a second, and is only needed here

    services.get(Mqtt).ping()


CHAIN = Chain(
    name="publish",
    flows=(PUBLISH,),
    stages=(*stages.STAGES,),
    pings=_pings,
)
