"""Bodies and queries as values; what is wrong with one is said by its field."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from datafab.errors import FlowError

M = TypeVar("M", bound=BaseModel)


def body(model: type[M]) -> M:
    """Return what was posted.

    Raises:
        UnsupportedMediaType: it does not say that it is JSON; a foreign page in a browser may not say so unasked.
        FlowError: it cannot be read; names the field.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send JSON, with Content-Type: application/json")
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as error:
        raise refusal(error) from error


def refusal(error: ValidationError) -> FlowError:
    """Return the first thing that is wrong."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    return FlowError(f"{field}: {first['msg']}" if field else first["msg"], code="bad_request", field=field)
