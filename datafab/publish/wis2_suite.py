"""WMO's own checks: the test suites of pywis-pubsub and pywcmp, and the tables of pywis-topics.

The libraries look for schemas and tables in folders below HOME, without an option for another path. So their variables
(those of the pinned releases) are set to ``.pywis-pubsub``, ``.pywcmp`` and ``.pywis-topics`` in DATAFAB_HOME; HOME is
not used. Nothing is ever fetched: if a folder is missing, its suite does not run, and the verdict says so. The
libraries are imported where they are used, as that takes half a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from datafab.core.services import Client, Services
from datafab.publish.finding import Finding
from datafab.publish.geometry import check_geometry

SCHEMA = ".pywis-pubsub/wis2-notification-message/wis2-notification-message-bundled.json"
RECORDS = ".pywcmp/wcmp-2/wcmp2-bundled.json"
TOPICS = ".pywis-topics/wis2-topic-hierarchy/earth-system-discipline.csv"


class Verdict(NamedTuple):
    """The verdict of a suite.

    Attributes:
        findings: its findings.
        missing: why the suite did not run; empty if it did.
    """

    findings: list[Finding]
    missing: str = ""


class Wis2Suite(Client):
    """The suites with the files of one DATAFAB_HOME; there is one in a process."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._hierarchy: Any = None

    @classmethod
    def connect(cls, services: Services) -> Self:
        """Return the client of a process."""
        return cls(services.settings.home)

    def notification(self, message: Mapping[str, Any]) -> Verdict:
        """Run the WNM's test suite on a message. Its geometry is checked even if the suite cannot run."""
        # A malformed geometry is reported by our own rules.
        found = [] if list(check_geometry(dict(message))) else validity(message.get("geometry"), "W7")
        missing = self._missing(SCHEMA)
        if missing:
            return Verdict(found, missing)
        ets: Any = import_module("pywis_pubsub.ets")  # the package has a command of the same name
        ets.MESSAGE_SCHEMA = self._home / SCHEMA
        return Verdict([*found, *_run(ets.WNMTestSuite(dict(message)), "WNM").findings])

    def record(self, record: Mapping[str, Any]) -> Verdict:
        """Run the WCMP2's test suite on a discovery metadata record."""
        missing = self._missing(RECORDS)
        if missing:
            return Verdict([], missing)
        ets: Any = import_module("pywcmp.wcmp2.ets")
        ets.WCMP2_FILES = (self._home / RECORDS).parent
        ets.get_userdir = lambda: self._home / ".pywcmp"
        return _run(ets.WMOCoreMetadataProfileTestSuite2(dict(record)), "WCMP2")

    @property
    def missing_records(self) -> str:
        """Why WMO's suite does not check records; empty if it does."""
        return self._missing(RECORDS)

    def topic(self, topic: str) -> Verdict:
        """Look up a topic in WMO's tables."""
        missing = self._missing(TOPICS)
        if missing:
            return Verdict([], missing)
        from pywis_topics.topics import TopicHierarchy  # noqa: PLC0415 - see above

        if self._hierarchy is None:
            self._hierarchy = TopicHierarchy(tables=self._home / ".pywis-topics")
        if self._hierarchy.validate(topic, strict=True, publication=True):
            return Verdict([])
        fix = "use a registered centre-id and a topic of https://codes.wmo.int/wis/topic-hierarchy"
        return Verdict([Finding(rule="T2", field="topic", problem=f"{topic} is not in WMO's tables", fix=fix)])

    def _missing(self, name: str) -> str:
        if (self._home / name).is_file():
            return ""
        return f"no {name} in DATAFAB_HOME={self._home}"


def validity(geometry: Any, rule: str) -> list[Finding]:
    """Return what is wrong with the form of a GeoJSON geometry, such as rings that cross."""
    if geometry is None:
        return []
    shapely: Any = import_module("shapely")  # comes with pywis-pubsub
    try:
        reason = shapely.is_valid_reason(shapely.geometry.shape(geometry))
    except (ValueError, TypeError, LookupError, shapely.errors.ShapelyError) as error:
        reason = str(error)
    if reason == "Valid Geometry":
        return []
    fix = "close its rings, and let none cross itself or leave the one around it"
    return [Finding(rule=rule, field="geometry", problem=f"it is not a valid geometry: {reason}", fix=fix)]


def _run(suite: Any, kind: str) -> Verdict:
    schema = suite.test_requirement_validation()
    if schema["code"] == "FAILED":  # the other tests assume a valid document
        return Verdict([_of_schema(text, kind) for text in schema["errors"]])
    try:
        report = suite.run_tests(fail_on_schema_validation=False)
    except (LookupError, TypeError, AttributeError, ValueError) as error:  # a member that its schema does not require
        problem = f"the suite cannot judge it: {type(error).__name__}: {error}"
        return Verdict([Finding(rule=f"{kind} suite", field="", problem=problem, fix=f"see the {kind} specification")])
    tests = report.get("ets-report", report)["tests"]
    return Verdict([_of_test(test, kind) for test in tests if test["code"] in {"FAILED", "WARNING"}])


def _of_schema(text: str, kind: str) -> Finding:
    path, _, problem = text.partition(": ")
    fix = f"see the {kind} schema"
    return Finding(rule=f"{kind} schema", field=path.removeprefix("$").lstrip("."), problem=problem or text, fix=fix)


def _of_test(test: Mapping[str, Any], kind: str) -> Finding:
    problem = "; ".join([str(test.get("message", "failed")), *map(str, test.get("errors", ()))])
    name = str(test["id"]).rpartition("/")[2]
    level: Literal["error", "advice"] = "error" if test["code"] == "FAILED" else "advice"
    return Finding(rule=f"{kind} {name}", field=name, problem=problem, fix=f"see {test['id']}", level=level)
