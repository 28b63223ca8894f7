"""The chain ``push``: its flows and stages, and the outside systems it depends on."""

from __future__ import annotations

from functools import partial

from datafab.core.chain import Chain, ExternalSystem, ExternalSystems
from datafab.core.flow import Flow
from datafab.core.services import Services
from datafab.core.stage import FollowUp
from datafab.push import callback_stages, datastore_stages, restore_stages, stages
from datafab.push.ckan import Ckan

PUSH = Flow(
    name="push",
    title="Load the file of a CKAN resource into its datastore, then send CKAN a callback",
    producer="ckan_request",
    stages=("ckan_resource", "ckan_fetch", "analyse", "ckan_types", "datastore", "ckan_restore", "ckan_hash"),
    follow_up=FollowUp("callback"),
)
CALLBACK = Flow(
    name="callback",
    title="Restore the table of an interrupted push, report its end to CKAN, and erase its keys",
    producer="ended_push",
    stages=("ckan_recover", "callback", "forget_key"),
    requires=frozenset({"of"}),
)


def _pings(services: Services) -> ExternalSystems:
    return {
        f"ckan {url}": ExternalSystem(partial(_ping, services, url), "DATAFAB_CKAN_URLS")
        for url in services.settings.ckan_urls
    }


def _ping(services: Services, url: str) -> None:
    with Ckan.at(services, url) as ckan:
        ckan.ping()


CHAIN = Chain(
    name="push",
    flows=(
        PUSH,
        CALLBACK,
    ),
    stages=(
        *stages.STAGES,
        *datastore_stages.STAGES,
        *restore_stages.STAGES,
        *callback_stages.STAGES,
    ),
    pings=_pings,
)
