"""A text encoding for what is UTF-8 in some places and cp1252 in others, as when exports of two programs are joined.

Read as the one, such a text has no accents in the other's lines; read as the other, it has two signs for each of the
one's. ``codecs`` knows it once this module is imported.
"""

from __future__ import annotations

import codecs

NAME = "utf-8-cp1252"
_HANDLER = "datafab.cp1252"
_UTF8 = codecs.lookup("utf-8")


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    """Read what is no UTF-8 as cp1252, byte by byte; the five bytes that it leaves undefined as Latin-1."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.start + 1]
    try:
        return wrong.decode("cp1252"), error.start + 1
    except UnicodeDecodeError:
        return wrong.decode("latin-1"), error.start + 1


class _Decoder(codecs.BufferedIncrementalDecoder):
    def _buffer_decode(self, input: bytes, errors: str, final: bool) -> tuple[str, int]:  # type: ignore[override] # noqa: A002, ARG002 - codecs' own
        return codecs.utf_8_decode(input, _HANDLER, final)


def _found(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != NAME:
        return None
    return codecs.CodecInfo(
        name=NAME,
        encode=_UTF8.encode,
        decode=lambda data, _errors="strict": codecs.utf_8_decode(data, _HANDLER, True),
        incrementalencoder=_UTF8.incrementalencoder,
        incrementaldecoder=_Decoder,
    )


codecs.register_error(_HANDLER, _as_cp1252)
codecs.register(_found)
