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
from datafab.core.item import Item, ItemError
from datafab.errors import FlowError
from datafab.fetch.filename import filename
from datafab.urls import hide_all_secrets, hide_secrets, host_of, usable

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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:p@a.fr/x", "http://a.fr/x"),
        ("see http://u:p@w@a.fr/x, ftp://u@b.fr", "see http://a.fr/x, ftp://b.fr"),
        ("//u:p@a.fr", "//a.fr"),
        ("mail to a@b.fr about http://a.fr/x@y", "mail to a@b.fr about http://a.fr/x@y"),
        ("http://a.fr/x?token=t0k&format=csv", "http://a.fr/x?token=***&format=csv"),
        ("http://a.fr/x?format=csv&Access_Token=t0k#part", "http://a.fr/x?format=csv&Access_Token=***#part"),
        ("https://b.blob/x?sv=2020&se=2026&sig=a%2Fb%3D", "https://b.blob/x?sv=2020&se=2026&sig=***"),
        (
            "https://s3/x?X-Amz-Date=1&X-Amz-Credential=k%2F1&X-Amz-Security-Token=t&X-Amz-Signature=5f",
            "https://s3/x?X-Amz-Date=1&X-Amz-Credential=***&X-Amz-Security-Token=***&X-Amz-Signature=***",
        ),
        ("Invalid URL 'http://a.fr/?api_key=k': no host", "Invalid URL 'http://a.fr/?api_key=***': no host"),
        ("http://a.fr/?apikey=k;password=p&pwd=q&client_secret=s", "http://a.fr/?apikey=***;password=***&pwd=***&client_secret=***"),
        ("http://a.fr/?to=http%3A%2F%2Fb.fr%3Ftoken=t", "http://a.fr/?to=http%3A%2F%2Fb.fr%3Ftoken=***"),
        ("http://a.fr/?tokens=3&signatures=2&author=moi&design=x&id=token", "http://a.fr/?tokens=3&signatures=2&author=moi&design=x&id=token"),
        ("token=t without a URL", "token=t without a URL"),
    ],
)  # fmt: skip
def test_secrets_of_urls_are_hidden(text, shown):
    assert hide_secrets(text) == shown
    assert hide_all_secrets({text: [text, 1, None]}) == {shown: [shown, 1, None]}
    assert hide_secrets(shown) == shown
    error = FlowError(text, field=text)
    assert (error.message, error.field) == (shown, shown)
    assert ItemError(type="flowerror", message=text, field=text) == ItemError.of(error)
