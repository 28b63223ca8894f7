"""The reference of the metrics has every family, with its type and its labels, and no other."""

import re
from pathlib import Path

from datafab.core.metrics import MetricsSnapshot
from webhook.metrics import COUNTED, Measurements

DOC = Path(__file__).parents[2] / "docs" / "operate.md"


def test_every_family_is_documented():
    rows = re.findall(r"^\| `(datafab_\w+)` \| (\w+) \|", DOC.read_text(encoding="utf-8"), re.MULTILINE)
    families = Measurements(MetricsSnapshot()).collect()
    told = {f"{family.name}_total" if family.type == "counter" else family.name: family.type for family in families}
    assert dict(rows) == told


def test_the_labels_of_counters_are_documented():
    text = DOC.read_text(encoding="utf-8")
    for counted in COUNTED:
        labels = ", ".join(f"`{label}`" for label in counted.labels)
        assert f"| `{counted.name}_total` | counter | {labels} |" in text
