"""All chains: the one list. One more chain is one folder and one line here.

The stages of the analysis and the index, which any chain may use, are listed beside them.
"""

from __future__ import annotations

from datafab.analysis.stages import STAGES as ANALYSIS
from datafab.archive.chain import CHAIN as ARCHIVE
from datafab.catalogue.chain import CHAIN as CATALOGUE
from datafab.collect.chain import CHAIN as COLLECT
from datafab.core.flow import Flow
from datafab.core.stage import Stage
from datafab.index.stages import STAGES as INDEX
from datafab.publish.chain import CHAIN as PUBLISH
from datafab.push.chain import CHAIN as PUSH

CHAINS = (COLLECT, CATALOGUE, PUSH, ARCHIVE, PUBLISH)

#: every stage by its name
STAGES: dict[str, Stage] = {
    stage.name: stage for stages in (*(chain.stages for chain in CHAINS), ANALYSIS, INDEX) for stage in stages
}

#: every built-in flow by its name
FLOWS: dict[str, Flow] = {flow.name: flow for chain in CHAINS for flow in chain.flows}
