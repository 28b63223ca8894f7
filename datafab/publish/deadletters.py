"""Dead letters: input that was refused before a job was created; the last ``MAX_LETTERS`` in ``deadletters``."""

from __future__ import annotations

import json
from typing import Any

from datafab.core.redis import ClusterRedis

MAX_LETTERS = 1000
#: Longest part of a refused message that is kept.
MAX_PAYLOAD_BYTES = 4096


class DeadLetters:
    """The dead letters in one Redis."""

    def __init__(self, client: ClusterRedis) -> None:
        self._redis: Any = client
        self._key = f"{client.prefix}deadletters"

    def put(self, where: str, payload: bytes, reason: str, field: str | None = None) -> None:
        """Keep the start of a refused message.

        Args:
            where: origin of the message, e.g. an MQTT topic.
            payload: the message as received.
            reason: reason of the refusal.
            field: path of the wrong member, if there is a single one.
        """
        seconds, micros = self._redis.time()
        letter = {
            "at": float(seconds) + int(micros) // 1000 / 1000,
            "where": where,
            "reason": reason,
            "field": field,
            "size": len(payload),
            "payload": payload[:MAX_PAYLOAD_BYTES].decode("utf-8", "replace"),
        }
        with self._redis.pipeline() as pipe:
            pipe.lpush(self._key, json.dumps(letter, ensure_ascii=False))
            pipe.ltrim(self._key, 0, MAX_LETTERS - 1)
            pipe.execute()

    def newest(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return the dead letters, the newest first."""
        return [json.loads(letter) for letter in self._redis.lrange(self._key, 0, limit - 1)]

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()
