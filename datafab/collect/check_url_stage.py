"""Check on demand what a collection would get at an address. Nothing is added to a collection.

Parameters of a job: ``url``; ``plugin`` (the only one to try) and ``parameters``, as in an ``endpoint.csv``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from datafab.analysis import get_detective
from datafab.collect.url_probe import UrlCheck
from datafab.core.backoff import RetryPolicy
from datafab.core.item import Item
from datafab.core.stage import Context, Stage
from datafab.errors import Fatal
from datafab.urls import hide_all_secrets, hide_secrets


class CheckParams(BaseModel):
    """The parameters of the flow ``check_url``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str = Field(min_length=1)
    plugin: str | None = None
    parameters: dict[str, Any] | None = None


def finding_name(job: str) -> str:
    """Return the name of a job's finding in the default store, which keeps it as long as lists."""
    return f"batch/check-{job}.json"


def address(ctx: Context) -> Iterator[Item]:
    """Yield the address that a job names."""
    url = ctx.read_params(CheckParams).url
    yield Item(source=f"url:{hide_secrets(url)}", url=url)


def check_url(item: Item, ctx: Context) -> Item:
    """Find out what is at an address; that there is nothing is a finding too."""
    params, services = ctx.read_params(CheckParams), ctx.services
    if item.url is None:
        raise Fatal("an item without a url cannot be checked", code="missing_url", field="url")
    analyse = partial(get_detective(services).analyse, mode="sample", check=ctx.check)
    finding = UrlCheck(services.settings, analyse).find(item.url, params.plugin, params.parameters)
    shown = json.dumps(hide_all_secrets(finding.model_dump(mode="json")), ensure_ascii=False)
    services.store(services.settings.store).write(finding_name(ctx.job), shown.encode())
    return item


STAGES = (
    Stage(
        name="address",
        params=frozenset(CheckParams.model_fields),
        queue="io",
        expand=address,
        provides=frozenset({"url"}),
    ),
    # It reads tables, as the stage analyse does.
    Stage(
        name="check_url",
        params=frozenset(CheckParams.model_fields),
        queue="cpu",
        run=check_url,
        requires=frozenset({"url"}),
        retry=RetryPolicy(deadline=900.0),
    ),
)
