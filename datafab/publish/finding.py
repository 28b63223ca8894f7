"""Findings: what is wrong with a message, topic or record."""

from __future__ import annotations

from typing import Literal

from datafab.core.item import Value


class Finding(Value):
    """A violation of a rule: the rule, the member, the problem, and the fix.

    Attributes:
        rule: id of the rule in the checklist (``W1`` to ``W25``, ``T1`` to ``T7``), or a library's id of its test.
        field: path in the document, e.g. ``properties.pubtime``.
        level: ``advice`` is a SHOULD, which does not prevent the publication.
    """

    rule: str
    field: str
    problem: str
    fix: str
    level: Literal["error", "advice"] = "error"

    def __str__(self) -> str:
        return f"{self.rule} {self.field}: {self.problem}; {self.fix}"


def errors(findings: list[Finding]) -> list[Finding]:
    """Return the findings that prevent a publication."""
    return [finding for finding in findings if finding.level == "error"]
