"""Dead letters: what came in and was refused, before any job: the last ``MAX_LETTERS`` in the list ``deadletters``."""

from __future__ import annotations

import json
import time
from typing import Any

import redis

from datafab.settings import PREFIX

MAX_LETTERS = 1000
#: Bytes of a refused message that are kept.
MAX_PAYLOAD = 4096

_KEY = f"{PREFIX}deadletters"


class DeadLetters:
    """Refused input, with the reason."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client

    def put(self, where: str, payload: bytes, reason: str, field: str | None = None) -> None:
        """Keep the beginning of what was refused.

        Args:
            where: that it came from, e.g. an MQTT topic.
            payload: as it came.
            reason: for people.
            field: what is wrong in it, where one thing is.
        """
        letter = {
            "at": round(time.time(), 3),
            "where": where,
            "reason": reason,
            "field": field,
            "size": len(payload),
            "payload": payload[:MAX_PAYLOAD].decode("utf-8", "replace"),
        }
        with self._redis.pipeline() as pipe:
            pipe.lpush(_KEY, json.dumps(letter, ensure_ascii=False))
            pipe.ltrim(_KEY, 0, MAX_LETTERS - 1)
            pipe.execute()

    def newest(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return refused input, the newest first."""
        return [json.loads(letter) for letter in self._redis.lrange(_KEY, 0, limit - 1)]

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
