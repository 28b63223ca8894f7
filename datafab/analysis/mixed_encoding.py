"""Decode texts that mix UTF-8 and cp1252, as when the exports of two programs are joined. Pure.

Decoded as UTF-8 alone, such a text loses the accents of its cp1252 lines; decoded as cp1252 alone, each accent of its
UTF-8 lines becomes two characters. So it is decoded as UTF-8, and an error handler reads the invalid bytes as cp1252.
"""

from __future__ import annotations

import codecs

#: What an analysis document calls this encoding.
MIXED_ENCODING = "utf-8-cp1252"
_ERROR_HANDLER = "datafab.cp1252"


def codec_and_errors(encoding: str) -> tuple[str, str]:
    """Return the arguments ``encoding`` and ``errors`` that decode a text of an encoding found by the analysis.

    Python looks error handlers up by name in a registry of the process, so this one is registered when it is needed.
    """
    if encoding != MIXED_ENCODING:
        return encoding, "strict"
    codecs.register_error(_ERROR_HANDLER, _decode_as_cp1252)
    return "utf-8", _ERROR_HANDLER


def _decode_as_cp1252(error: UnicodeError) -> tuple[str, int]:
    """Decode one invalid byte as cp1252; the five bytes that cp1252 leaves undefined as Latin-1."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    invalid = error.object[error.start : error.start + 1]
    try:
        return invalid.decode("cp1252"), error.start + 1
    except UnicodeDecodeError:
        return invalid.decode("latin-1"), error.start + 1
