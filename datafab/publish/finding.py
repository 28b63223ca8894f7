"""What a check found in a message, topic or record."""

from __future__ import annotations

from typing import Literal

from datafab.core.item import Value


class Finding(Value):
    """One fault: which rule, where, what is wrong there, and what to do.

    Attributes:
        rule: its id in the checklist (``W1`` to ``W25``, ``T1`` to ``T7``), or the library's own id of its test.
        field: path in the document, e.g. ``properties.pubtime``.
        level: ``advice`` is a SHOULD: it does not keep a message back.
    """

    rule: str
    field: str
    problem: str
    fix: str
    level: Literal["error", "advice"] = "error"

    def __str__(self) -> str:
        return f"{self.rule} {self.field}: {self.problem}; {self.fix}"


def errors(findings: list[Finding]) -> list[Finding]:
    """Return those that keep a message back."""
    return [finding for finding in findings if finding.level == "error"]
