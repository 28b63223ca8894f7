"""How ``datafab collect`` reads its options: the original's form, and ours."""

from __future__ import annotations

import click
import pytest

from datafab.cli.main import collect

FLAG = "--refill-todays-logs"


@pytest.mark.parametrize(
    ("args", "refill", "endpoints"),
    [
        ([], False, "collection/endpoint.csv"),
        ([FLAG], True, "collection/endpoint.csv"),
        ([f"{FLAG}=true"], True, "collection/endpoint.csv"),
        ([f"{FLAG}=False"], False, "collection/endpoint.csv"),
        ([FLAG, "true"], True, "collection/endpoint.csv"),
        ([FLAG, "false", "a.csv"], False, "a.csv"),
        ([FLAG, "a.csv"], True, "a.csv"),
        (["a.csv", FLAG], True, "a.csv"),
        ([FLAG, "--retry-failed", "a.csv"], True, "a.csv"),
        ([FLAG, "--", "true"], True, "true"),
        (["--", FLAG], False, FLAG),
    ],
)
def test_a_refill_is_a_flag_that_may_have_a_value(args, refill, endpoints):
    given = collect.make_context("collect", list(args)).params
    assert (given["refill_todays_logs"], given["endpoints"]) == (refill, endpoints)


def test_no_other_value():
    with pytest.raises(click.BadParameter, match="'yesterday' is not a valid boolean"):
        collect.make_context("collect", [f"{FLAG}=yesterday"])
