"""Parse request bodies; errors name the field."""

from __future__ import annotations

from typing import TypeVar

from flask import request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from datafab.core import strict_json as strictjson
from datafab.errors import FlowError

M = TypeVar("M", bound=BaseModel)


def body(model: type[M]) -> M:
    """Return the body of the request.

    Raises:
        UnsupportedMediaType: its content type is not JSON, which a foreign page in a browser may not send.
        FlowError: it is invalid or compressed; ``field`` is the first invalid field.
    """
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send JSON, with Content-Type: application/json")
    if request.content_encoding:
        raise FlowError("Content-Encoding: send the body as it is", code="bad_request", field="Content-Encoding")
    return parse(model, request.get_data())


def parse(model: type[M], data: bytes) -> M:
    """Return a JSON text as a model.

    Raises:
        FlowError: it is not JSON that everybody reads alike, or has an invalid field.
    """
    try:
        found = model.model_validate_json(data)
        strictjson.loads(data)
    except ValidationError as error:
        raise refusal(error) from error
    except ValueError as error:
        raise FlowError(f"the JSON of the request: {error}", code="bad_request") from error
    return found


def refusal(error: ValidationError) -> FlowError:
    """Return the first validation error as an error of ours."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    return FlowError(f"{field}: {first['msg']}" if field else first["msg"], code="bad_request", field=field)
