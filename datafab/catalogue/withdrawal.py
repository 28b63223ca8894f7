"""Take what a catalogue no longer has out of the index, as of a moment: what was found later stays."""

from __future__ import annotations

from collections.abc import Iterable

from datafab.catalogue.sources import Sources
from datafab.index import Index


def withdraw(sources: Sources, index: Index, catalogue: str, names: Iterable[str], at: float) -> None:
    """Take sources out, with the further files at their addresses; one that was broken off is started again.

    Args:
        sources: forget them, but for a mark, so that a job on them that was made before comes too late.
        index: loses their documents.
        catalogue: root of its API.
        names: the sources.
        at: Unix time at which it was known that they are gone.
    """
    for name in names:
        for part in (sources.facts(name).parts or "").splitlines():
            forget(sources, index, f"{name}/{part}", at)
        forget(sources, index, name, at)
        # At last, so that whoever begins again finds it.
        sources.unsee(catalogue, name, at)


def forget(sources: Sources, index: Index, name: str, at: float) -> None:
    """Take one source out."""
    # Before the index: a job that ends in between sees that it came too late.
    sources.forget(name, at)
    index.delete(name, version=round(at * 1000))
