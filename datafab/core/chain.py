"""A chain: what the rest of the library needs to know of one original's replacement, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from datafab.core.flow import Flow
from datafab.core.services import Services
from datafab.core.stage import Stage


class ExternalSystem(NamedTuple):
    """An outside system that the settings name."""

    #: raises when the system does not answer
    ping: Callable[[], None]
    #: what its address comes from
    setting: str


#: The systems that a chain needs, by name.
ExternalSystems = Mapping[str, ExternalSystem]


def _no_systems(_services: Services) -> ExternalSystems:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One folder of the library: its flows and stages, and the outside systems that they need.

    Attributes:
        name: the folder's.
        flows: built-in flows.
        stages: by which these are made, in the order in which they are listed.
        pings: returns the systems that the settings name and that this chain asks; ``/ready`` and ``datafab doctor``
            call them.
    """

    name: str
    flows: tuple[Flow, ...] = ()
    stages: tuple[Stage, ...]
    pings: Callable[[Services], ExternalSystems] = _no_systems
