"""The validity of certificates."""

from __future__ import annotations

import re

#: The two times of a certificate in DER form (RFC 5280): UTCTime until 2049, GeneralizedTime from then on.
_TIMES = re.compile(rb"(?:\x17\x0d|\x18\x0f)(\d{12}(?:\d\d)?Z)")


def expiry_date(certificate: bytes) -> str | None:
    """Return the last day of a certificate in DER form, the second of its two times (RFC 5280); None if unreadable."""
    times = _TIMES.findall(certificate)
    if len(times) < 2:  # noqa: PLR2004 - its first day and its last
        return None
    text = times[1].decode()
    year = text[:-11] if len(text) > len("YYMMDDhhmmssZ") else f"{20 if text[:2] < '50' else 19}{text[:2]}"
    return f"{year}-{text[-11:-9]}-{text[-9:-7]}"
