"""The largest request bodies, in bytes."""

from __future__ import annotations

from webhook.incoming import Head

#: The largest JSON body.
MAX_BODY_BYTES = 1024 * 1024
#: The largest upload.
MAX_UPLOAD_BYTES = 64 * 1024**2
#: The routes that take uploads.
UPLOADS = frozenset({b"/api/jobs"})


def body_limit(head: Head) -> int:
    """Return the largest body for a head."""
    uploads = head.path in UPLOADS and head.method == b"POST"
    form = any(value.lower().startswith(b"multipart/form-data") for value in head.all(b"content-type"))
    return MAX_UPLOAD_BYTES if uploads and form else MAX_BODY_BYTES
