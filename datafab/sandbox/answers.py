"""Answers of the sandboxes whose originals use flask-restx."""

from __future__ import annotations

from flask import Response, jsonify


def error_response(status: int, message: str, **errors: str) -> Response:
    """Return an error response. Source of its form: python-restx/flask-restx, ``flask_restx/api.py``."""
    response = jsonify({"message": message} | ({"errors": errors} if errors else {}))
    response.status_code = status
    return response
