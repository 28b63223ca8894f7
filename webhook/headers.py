"""Headers of every answer, for browsers: what a page of another site may not do with it, and what is not kept.

Answers are data, so they may load nothing and appear in no frame. A view may set one of these headers itself, such as
the ``Content-Security-Policy`` of a page. ``workers/flower.py`` has those of Flower's pages.
"""

from __future__ import annotations

from flask import Flask, Response

#: The headers by name.
ANSWER_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Answers name jobs and sources: no browser or proxy may keep them.
    "Cache-Control": "no-store",
}


def add_headers(app: Flask) -> None:
    """Make an application add these headers to its answers, unless a view has set them."""

    @app.after_request
    def add(answer: Response) -> Response:
        for name, value in ANSWER_HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer
