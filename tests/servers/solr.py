"""The few calls that CKAN makes to Solr, answered from nothing: a CKAN without Solr does not start.

What is indexed is forgotten, so every search finds nothing and CKAN reads its database instead. That is enough for
resources and the datastore, which never search.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

NOTHING = {
    "responseHeader": {"status": 0, "QTime": 0},
    "response": {"numFound": 0, "start": 0, "docs": []},
    "facet_counts": {"facet_queries": {}, "facet_fields": {}, "facet_ranges": {}},
}


@contextmanager
def solr(schema: bytes) -> Iterator[str]:
    """Serve; gives the URL for CKAN's ``solr_url``. ``schema``: CKAN's own, whose name it checks at start."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_schema = "/schema" in self.path or "/admin/file" in self.path
            body = schema if is_schema else json.dumps(NOTHING).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml" if is_schema else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="solr", daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/solr/ckan"
    finally:
        server.shutdown()
        server.server_close()
