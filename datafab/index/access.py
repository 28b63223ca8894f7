"""Access to the index of a cluster, for reading and for writing; only one host may write to an index in a file."""

from __future__ import annotations

from functools import cached_property
from typing import Self

from datafab.core.services import Client, Services
from datafab.index import Index, index_file, open_index
from datafab.index.owner import IndexFileOwner
from datafab.settings import Settings


class IndexAccess(Client):
    """Opens the index of the settings.

    Args:
        index: the index, or the settings that name it, to open it on first use.
        owner: the record of the file's owner, if the index is a file of a cluster.
    """

    def __init__(self, index: Index | Settings, owner: IndexFileOwner | None = None) -> None:
        self._index = index
        self.owner = owner

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the access of this process."""
        file = index_file(services.settings.index)
        if services.settings.redis_url is None or file is None:
            return cls(services.settings)
        return cls(services.settings, IndexFileOwner(services.redis(), file))

    @cached_property
    def reading(self) -> Index:
        """The index, for searching.

        Raises:
            FlowError: the cluster's index is another file.
        """
        if self.owner is not None:
            self.owner.check()
        return open_index(self._index.index, self._index) if isinstance(self._index, Settings) else self._index

    @property
    def writing(self) -> Index:
        """The index, for writing. The owner is checked each time, as the index may have been moved to another host.

        Raises:
            FlowError: the cluster's index is another file.
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
