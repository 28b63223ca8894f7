"""The chain ``collect``: its flows and stages."""

from __future__ import annotations

from datafab.collect import check_url_stage, endpoints_stage, save_csv_stage, stages
from datafab.core.chain import Chain
from datafab.core.flow import Flow
from datafab.core.stage import FollowUp

COLLECT = Flow(
    name="collect",
    title="Fetch every endpoint of an endpoint.csv, then analyse and index what came",
    producer="endpoints",
    stages=("collect",),
    then=("analyse", "index"),
    requires=frozenset({"endpoints", "collection"}),
    files=frozenset({"endpoints"}),
    folders=frozenset({"collection"}),
    localise=endpoints_stage.localise,
    follow_up=FollowUp("collection", if_param="save_csv"),
)
COLLECTION = Flow(
    name="collection",
    title="Bring log.csv and resource.csv of a collection up to date, once a job has collected into it",
    producer="ended_collect",
    stages=("save_csv",),
    requires=frozenset({"of"}),
)
CHECK_URL = Flow(
    name="check_url",
    title="Say what a collection would get at an address; keep nothing of it",
    producer="address",
    stages=("check_url",),
    requires=frozenset({"url"}),
)


CHAIN = Chain(
    name="collect",
    flows=(
        COLLECT,
        COLLECTION,
        CHECK_URL,
    ),
    stages=(
        *endpoints_stage.STAGES,
        *stages.STAGES,
        *save_csv_stage.STAGES,
        *check_url_stage.STAGES,
    ),
)
