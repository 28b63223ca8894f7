"""Parse request bodies; errors name the field."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from datafab.errors import FlowError

M = TypeVar("M", bound=BaseModel)


def body(model: type[M]) -> M:
    """Return the body of the request.

    Raises:
        UnsupportedMediaType: its content type is not JSON, which a foreign page in a browser may not send.
        FlowError: it is invalid; ``field`` is the first invalid field.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send JSON, with Content-Type: application/json")
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as error:
        raise refusal(error) from error


def refusal(error: ValidationError) -> FlowError:
    """Return the first validation error as an error of ours."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    return FlowError(f"{field}: {first['msg']}" if field else first["msg"], code="bad_request", field=field)
