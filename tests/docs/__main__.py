"""``python -m tests.docs [FOLDER]``: write the pages made from the code, to docs/ by default."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.docs.pages import DOCS, PAGES, page

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS
for name in PAGES:
    (folder / name).write_text(page(name), encoding="utf-8")
