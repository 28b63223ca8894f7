"""The forms of a CloudEvent: JSON with its data as a member or in base64, and the binary mode of MQTT 5.

In the binary mode the payload of a message is the data, and its user properties are the attributes (CloudEvents, MQTT
protocol binding 3.1). ``structured`` makes the JSON form of it; ``with_data`` decodes ``data_base64``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from datafab.core import strict_json as strictjson
from datafab.errors import FlowError

STRUCTURED = "application/cloudevents"
#: members that describe the payload, and no attributes
_OF_THE_PAYLOAD = ("data", "data_base64", "datacontenttype")


def structured(payload: bytes, content_type: str | None, user_properties: Sequence[tuple[str, str]]) -> bytes:
    """Return a message as a JSON event: as it is, unless it is an event in binary mode.

    Args:
        payload: the message.
        content_type: its property Content Type.
        user_properties: its user properties, the attributes of an event in binary mode.

    Raises:
        FlowError: an attribute is given twice.
    """
    attributes = dict(user_properties)
    if "specversion" not in attributes or (content_type or "").lower().startswith(STRUCTURED):
        return payload
    if len(attributes) < len(user_properties):
        names = [name for name, _ in user_properties]
        twice = next(name for name in names if names.count(name) > 1)
        raise FlowError(f"the event has the attribute {twice} twice", code="bad_event", field=twice)
    event: dict[str, Any] = {name: value for name, value in attributes.items() if name not in _OF_THE_PAYLOAD}
    event |= {"datacontenttype": content_type} if content_type else {}
    return json.dumps(event | {"data_base64": base64.b64encode(payload).decode()}, ensure_ascii=False).encode()


def with_data(event: Any) -> Any:
    """Return an event whose ``data_base64`` is decoded as its ``data``, which must be JSON; another as it is.

    Raises:
        FlowError: it holds both, or something else than JSON in base64.
    """
    if not isinstance(event, dict) or event.get("data_base64") is None:
        return event
    if event.get("data") is not None:
        raise _malformed("the event has both data and data_base64: give one of them")
    try:
        decoded = base64.b64decode(event["data_base64"], validate=True)
    except (ValueError, TypeError) as error:
        raise _malformed("data_base64 is not base64") from error
    try:
        data = strictjson.loads(decoded)
    except ValueError as error:
        raise _malformed(f"the data of the event are not JSON: {error}") from error
    return {name: value for name, value in event.items() if name != "data_base64"} | {"data": data}


def _malformed(message: str) -> FlowError:
    return FlowError(message, code="bad_event", field="data_base64")
