"""The largest requests, in bytes."""

from __future__ import annotations

#: The largest JSON body.
MAX_BODY_BYTES = 1024 * 1024
#: The largest upload.
MAX_UPLOAD_BYTES = 64 * 1024**2
#: The largest request line and headers together.
MAX_HEAD_BYTES = 64 * 1024
#: The longest request line.
MAX_LINE_BYTES = 4096
#: The largest number of headers.
MAX_FIELDS = 100
#: How much longer a chunked body may be than its content.
MAX_CHUNKING_BYTES = 64 * 1024
#: The longest size of a chunk with its extensions, and the largest trailer.
MAX_CHUNK_LINE_BYTES = 4096
#: Unfinished uploads at a time. They are kept in temporary files before it is known who sends them.
MAX_UPLOADS = 32
#: The routes that take uploads.
UPLOADS = frozenset({("POST", "/api/jobs")})


def body_limit(method: str, path: str, content_type: str) -> int:
    """Return the largest body of a request."""
    upload = (method, path) in UPLOADS and content_type.lower().startswith("multipart/form-data")
    return MAX_UPLOAD_BYTES if upload else MAX_BODY_BYTES
