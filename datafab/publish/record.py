"""WCMP2 discovery metadata records: read as they are announced, and judged by our rules and by WMO's own suite."""

from __future__ import annotations

from typing import Any

from datafab.core import strict_json as strictjson
from datafab.publish.finding import Finding, errors
from datafab.publish.record_rules import check_record
from datafab.publish.wis2_suite import Verdict, Wis2Suite, validity

#: bytes of a record; the largest known has some ten thousand
MAX_RECORD = 4 * 1024**2


def judge_file(data: bytes, suite: Wis2Suite, *, topic: str | None = None) -> tuple[Any, Verdict]:
    """Decode a file that should be a record; return it with what is wrong with it."""
    try:
        record = strictjson.loads(data)
    except ValueError as error:
        finding = Finding(rule="C3", field="", problem=f"it is no JSON: {error}", fix="give a WCMP2 record")
        return None, Verdict([finding])
    return record, judge(record, suite, topic=topic)


def judge(record: Any, suite: Wis2Suite, *, topic: str | None = None) -> Verdict:
    """Return what is wrong with a record.

    Args:
        record: the decoded JSON.
        suite: WMO's own; it is asked only where our rules find no error, as it takes a sound document for granted.
        topic: where it is to be announced.
    """
    found = check_record(record, topic=topic)
    if errors(found):
        return Verdict(found, suite.missing_records)
    verdict = suite.record(record)
    return Verdict([*found, *validity(record["geometry"], "C3"), *verdict.findings], verdict.missing)
