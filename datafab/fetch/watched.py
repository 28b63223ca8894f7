"""A session of requests that ends with the job: for services that a setting or the submitter of a job names."""

from __future__ import annotations

import math
import sys
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from datafab.fetch.connection import FetchLimits, pool_classes
from datafab.settings import Settings


class _WatchedAdapter(HTTPAdapter):
    """Opens connections that a cancellation shuts down."""

    def __init__(self, limits: FetchLimits) -> None:
        self._classes = pool_classes(limits)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Create the connection pools."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._classes


class WatchedSession(requests.Session):
    """Sends requests to any address, one at a time. It must be closed; a job that is cancelled ends its request.

    Nothing is taken from the environment, neither proxies nor passwords: only the settings decide what is sent where.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = str(settings.ca_bundle) if settings.ca_bundle else True
        self.headers["User-Agent"] = settings.user_agent
        self._limits = FetchLimits(("*",))
        for scheme in ("http://", "https://"):
            self.mount(scheme, _WatchedAdapter(self._limits))

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request."""
        self._limits.start(math.inf, sys.maxsize)
        return super().send(request, **kwargs)

    def close(self) -> None:
        """Close the connections."""
        self._limits.finish()
        super().close()
