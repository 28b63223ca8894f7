"""What the command line makes of the answers of a webhook, or of a proxy in front of one."""

from __future__ import annotations

import json

import pytest

from datafab.errors import DatafabError, Fatal, FlowError, NotFound, Retriable
from datafab.remote import RemoteCluster
from datafab.settings import load
from tests.servers.http import Answer, Site

ERROR = json.dumps({"error": {"type": "away", "message": "try again", "field": None}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (520, ERROR, Retriable),
        (503, ERROR, Retriable),
        (499, ERROR, FlowError),
        (404, ERROR, NotFound),
        (520, b"<html>", Fatal),
        (200, b"<html>", Retriable),
    ],
)
def test_an_answer_of_any_status_is_an_error_of_ours(status: int, body: bytes, kind: type[DatafabError]):
    with Site(router=lambda _path, _headers: Answer(body, status, "application/json")) as site:
        with pytest.raises(kind) as error:
            RemoteCluster(load({}, url=site.url().rstrip("/"))).logs("x")
        assert error.type is kind
