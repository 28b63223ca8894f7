"""The index of a cluster, for reading and for writing: an index that is a file has one host that may write it."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from datafab.core.services import Client, Services
from datafab.index import Index, index_file, open_index
from datafab.index.owner import Owner
from datafab.settings import Settings


class IndexAccess(Client):
    """The index of the settings.

    Args:
        index: it, or the settings that name it; it is opened when it is first used.
        owner: of the cluster's file, where it is one.
    """

    def __init__(self, index: Index | Settings, owner: Owner | None = None) -> None:
        self._index = index
        self.owner = owner

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the index of a process."""
        file = index_file(services.settings.index)
        if services.settings.redis_url is None or file is None:
            return cls(services.settings)
        return cls(services.settings, Owner(services.redis(), file))

    @cached_property
    def reading(self) -> Index:
        """The index, to be searched.

        Raises:
            FlowError: the cluster's is another file.
        """
        if self.owner is not None:
            self.owner.check()
        return open_index(self._index.index, self._index) if isinstance(self._index, Settings) else self._index

    @property
    def writing(self) -> Index:
        """The same, to be written: asked for each time, as it may have been moved to another host meanwhile.

        Raises:
            FlowError: the cluster's is another file.
        """
        if self.owner is not None:
            self.owner.claim()
        return self.reading

    def close(self) -> None:
        """Close what was opened."""
        if "reading" in self.__dict__:
            self.__dict__.pop("reading").close()
        if self.owner is not None:
            self.owner.close()
