"""The chain ``catalogue``: its flows and stages, and the outside systems it depends on."""

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
CATALOGUE_FILE = Flow(
    name="source",
    title="Fetch a file of the catalogue if it has changed, analyse and index it, and record its state",
    producer="catalogue_source",
    stages=("check", "fetch", "analyse", "index", "remember"),
    requires=frozenset({"source", "url"}),
)
REVISIT = Flow(
    name="again",
    title="Revisit files for which the catalogue reports no change, unchanged ones less and less often",
    producer="due_sources",
    stages=("look_again",),
)
WITHDRAW = Flow(
    name="withdraw",
    title="Withdraw a file of the catalogue from the index",
    producer="to_withdraw",
    stages=("withdraw",),
    requires=frozenset({"source"}),
)


def _pings(services: Services) -> ExternalSystems:
    found: dict[str, ExternalSystem] = {}
    if services.settings.linkproxy_url is not None:
        found["link-proxy"] = ExternalSystem(lambda: services.get(LinkProxy).ping(), "DATAFAB_LINKPROXY_URL")
    if "catalogue_url" in services.settings.model_fields_set:  # the default alone does not mean that it is used
        found["catalogue"] = ExternalSystem(lambda: services.get(Datagouv).ping(), "DATAFAB_CATALOGUE_URL")
    return found


CHAIN = Chain(
    name="catalogue",
    flows=(
        CATALOGUE,
        CATALOGUE_FILE,
        REVISIT,
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
