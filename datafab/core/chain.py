"""A chain: the parts of one original's replacement that the rest of the library uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from datafab.core.flow import Flow
from datafab.core.services import Services
from datafab.core.stage import Stage


class ExternalSystem(NamedTuple):
    """An outside system that the settings name."""

    #: raises if the system does not answer
    ping: Callable[[], None]
    #: the settings that hold its address
    setting: str


#: The outside systems of a chain, by name.
ExternalSystems = Mapping[str, ExternalSystem]


def _no_systems(_services: Services) -> ExternalSystems:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One folder of the library: its flows and stages, and the outside systems that they need.

    Attributes:
        name: the name of the folder.
        flows: its built-in flows.
        stages: its stages, in the order in which they are listed.
        pings: returns the outside systems of this chain that the settings name; ``/ready`` and ``datafab doctor`` ping
            them.
    """

    name: str
    flows: tuple[Flow, ...] = ()
    stages: tuple[Stage, ...]
    pings: Callable[[Services], ExternalSystems] = _no_systems
