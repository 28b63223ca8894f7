"""URLs of others: whatever is written there, nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafab.catalogue.dataset import bypasses_linkproxy
from datafab.collect.batching import by_host
from datafab.collect.host_backoff import MAX_SILENCES, HostBackoff
from datafab.collect.plugins.parameters import plugin_media_type
from datafab.collect.urlcheck import plugins_for
from datafab.core.document import document
from datafab.core.item import Item
from datafab.fetch.filename import filename
from datafab.urls import host_of, usable

UNUSABLE = ["https://[council].gov.uk/x", "http://[::1/x", "http://ex℀mple.com/"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a:b@Host.Example:80/x?y#z", "host.example:80"),
        ("https://[::1]:80/x", "[::1]:80"),
        ("file:a/b.csv", ""),
        ("not a URL", ""),
        ("", ""),
        (None, ""),
        *((url, "") for url in UNUSABLE),
    ],
)
def test_the_host(url, host):
    assert host_of(url) == host


@given(st.one_of(st.sampled_from(UNUSABLE), st.text("htp:/[]@?#.%℀ü1", max_size=12).map("http://{}".format)))
def test_nothing_raises(url):
    if not usable(url):
        assert host_of(url) == ""
    item = Item(source="s", url=url)
    assert [*by_host([item], 5, 1)] == [[item]]
    hosts = HostBackoff({}, 30)
    for _ in range(MAX_SILENCES):
        hosts.note(url, "timeout", 100)
    assert hosts.pause(url, 100)
    assert document(item, None, 1).title
    filename({}, url)
    plugin_media_type("wfs", url)
    plugins_for(url, b"")
    bypasses_linkproxy(url)
