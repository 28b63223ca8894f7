"""Answers of the sandboxes that stand for a flask-restx API."""

from __future__ import annotations

from flask import Response, jsonify


def refused(status: int, message: str, **errors: str) -> Response:
    """Return an answer with an error. Source of its form: python-restx/flask-restx, ``flask_restx/api.py``."""
    response = jsonify({"message": message} | ({"errors": errors} if errors else {}))
    response.status_code = status
    return response
