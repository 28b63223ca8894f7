"""What tests of several folders share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
import structlog

from datafab.index import Index, open_index
from tests.servers.celery import until
from tests.servers.elasticsearch import START, Elasticsearch, elasticsearch, missing

pytest_plugins = ["tests.plugin"]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command that ran in this process has set up logging, into a stream that is no more."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    for handler in logging.root.handlers[:]:
        if getattr(getattr(handler, "stream", None), "closed", False):
            logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def elastic_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elasticsearch]:
    """The Elasticsearch of this test run."""
    if why := missing():
        pytest.skip(why)
    base = tmp_path_factory.getbasetemp()
    with elasticsearch((base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "elasticsearch") as server:
        yield server


@pytest.fixture
def elastic(elastic_server: Elasticsearch) -> Iterator[Elasticsearch]:
    """Elasticsearch, which nobody kills meanwhile."""
    with elastic_server.used():
        yield elastic_server


@pytest.fixture
def elastic_alone(elastic_server: Elasticsearch) -> Iterator[Elasticsearch]:
    """Elasticsearch for a test that kills it: nobody else uses it meanwhile."""
    with elastic_server.used(alone=True):
        yield elastic_server
        until(elastic_server.ready, START)


@pytest.fixture
def elastic_index(elastic: Elasticsearch) -> Iterator[Index]:
    """An index of its own there; not made yet."""
    with fresh(elastic) as index:
        yield index


@contextmanager
def fresh(server: Elasticsearch) -> Iterator[Index]:
    index = open_index(f"{server.url}/test-{uuid4().hex}")
    yield index
    for made in index.aliases():
        index.client.indices.delete(index=made)
    index.client.options(ignore_status=404).indices.delete_index_template(name=index.name)
    index.close()
