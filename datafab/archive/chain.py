"""The chain ``archive``: its flow and stages, and the outside system it depends on."""

from __future__ import annotations

from datafab.archive import deliver_stages, plan_stages, stages
from datafab.archive.entrepot import Entrepot
from datafab.core.chain import Chain, ExternalSystem, ExternalSystems
from datafab.core.flow import Flow
from datafab.core.services import Services

ARCHIVE = Flow(
    name="archive",
    title="Deliver the archives of a plan to a Géoplateforme entrepôt, process and describe them, tidy up",
    producer="integrations",
    stages=("deliver", "execute", "describe", "tidy"),
    requires=frozenset({"plan"}),
    documents=frozenset({"plan"}),
    localise=plan_stages.localise_plan,
)


def _pings(services: Services) -> ExternalSystems:
    if services.settings.entrepot_client_id is None:
        return {}
    setting = "DATAFAB_ENTREPOT_URL and _TOKEN_URL, and the client and user for it"
    return {"entrepot": ExternalSystem(lambda: services.get(Entrepot).ping(), setting)}


CHAIN = Chain(
    name="archive",
    flows=(ARCHIVE,),
    stages=(
        *plan_stages.STAGES,
        *deliver_stages.STAGES,
        *stages.STAGES,
    ),
    pings=_pings,
)
