"""Checks of WCMP2 discovery metadata records, by our rules and by WMO's test suite."""

from __future__ import annotations

from typing import Any

from datafab.core import strict_json as strictjson
from datafab.publish.finding import Finding, errors
from datafab.publish.record_rules import check_record
from datafab.publish.wis2_suite import Verdict, Wis2Suite, validity

#: largest record; the largest known one has some ten thousand bytes
MAX_RECORD_BYTES = 4 * 1024**2


def judge_file(data: bytes, suite: Wis2Suite, *, topic: str | None = None) -> tuple[Any, Verdict]:
    """Decode a file that should be a record; return the record, and what is wrong with it."""
    try:
        record = strictjson.loads(data)
    except ValueError as error:
        finding = Finding(rule="C3", field="", problem=f"it is not JSON: {error}", fix="give a WCMP2 record")
        return None, Verdict([finding])
    return record, judge(record, suite, topic=topic)


def judge(record: Any, suite: Wis2Suite, *, topic: str | None = None) -> Verdict:
    """Return what is wrong with a record.

    Args:
        record: the decoded JSON.
        suite: WMO's suite. It runs only if our rules find no error, as it assumes a valid document.
        topic: topic on which the record is announced.
    """
    found = check_record(record, topic=topic)
    if errors(found):
        return Verdict(found, suite.missing_records)
    verdict = suite.record(record)
    return Verdict([*found, *validity(record["geometry"], "C3"), *verdict.findings], verdict.missing)
