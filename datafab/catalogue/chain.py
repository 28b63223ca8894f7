"""The chain ``catalogue``: its flows and stages, and the systems that it asks."""

from __future__ import annotations

from datafab.catalogue import fetch_stages, revisit_stages, source_stages, stages
from datafab.catalogue.datagouv import Datagouv
from datafab.catalogue.linkproxy import LinkProxy
from datafab.core.chain import Chain, ExternalSystem, ExternalSystems
from datafab.core.flow import Flow
from datafab.core.services import Services

CATALOGUE = Flow(
    name="catalogue",
    title="Read a udata catalogue, and enqueue a job for each file that may have changed",
    producer="discover",
    stages=("save_cursor",),
)
SOURCE = Flow(
    name="source",
    title="Fetch a file of the catalogue if it has changed, analyse and index it, and remember how it was",
    producer="catalogue_source",
    stages=("check", "fetch", "analyse", "index", "remember"),
    requires=frozenset({"source", "url"}),
)
AGAIN = Flow(
    name="again",
    title="Look again at files of the catalogue of which it says nothing new, seldom at old ones",
    producer="due_sources",
    stages=("look_again",),
)
WITHDRAW = Flow(
    name="withdraw",
    title="Take a file of the catalogue out of the index",
    producer="to_withdraw",
    stages=("withdraw",),
    requires=frozenset({"source"}),
)


def _pings(services: Services) -> ExternalSystems:
    found: dict[str, ExternalSystem] = {}
    if services.settings.linkproxy_url is not None:
        found["link-proxy"] = ExternalSystem(lambda: services.get(LinkProxy).ping(), "DATAFAB_LINKPROXY_URL")
    if "catalogue_url" in services.settings.model_fields_set:  # the default is no promise to use it
        found["catalogue"] = ExternalSystem(lambda: services.get(Datagouv).ping(), "DATAFAB_CATALOGUE_URL")
    return found


CHAIN = Chain(
    name="catalogue",
    flows=(
        CATALOGUE,
        SOURCE,
        AGAIN,
        WITHDRAW,
    ),
    stages=(
        *stages.STAGES,
        *source_stages.STAGES,
        *revisit_stages.STAGES,
        *fetch_stages.STAGES,
    ),
    pings=_pings,
)
