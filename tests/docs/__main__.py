"""``python -m tests.docs``: write the pages of docs/ that are made of the code."""

from __future__ import annotations

from tests.docs.pages import DOCS, PAGES, page

for name in PAGES:
    (DOCS / name).write_text(page(name), encoding="utf-8")
