"""Removal of sources that a catalogue no longer has from the index. Sources found after the withdrawal stay."""

from __future__ import annotations

from collections.abc import Iterable

from datafab.catalogue.sources import SourceRegistry
from datafab.index import Index


def withdraw(sources: SourceRegistry, index: Index, catalogue: str, names: Iterable[str], at: float) -> None:
    """Withdraw sources, with the other files at their URLs. An interrupted withdrawal can be repeated.

    Args:
        sources: registry that forgets them, except for a mark that stops jobs which were created before.
        index: index from which their documents are deleted.
        catalogue: root of the catalogue's API.
        names: names of the sources.
        at: Unix time at which they were known to be missing.
    """
    for name in names:
        for part in (sources.state(name).parts or "").splitlines():
            forget(sources, index, f"{name}/{part}", at)
        forget(sources, index, name, at)
        # Last, so that a repeated withdrawal finds it.
        sources.remove(catalogue, name, at)


def forget(sources: SourceRegistry, index: Index, name: str, at: float) -> None:
    """Withdraw one source."""
    # Before the index: a job that ends in between sees the withdrawal.
    sources.forget(name, at)
    index.delete(name, version=round(at * 1000))
