r"""Quick ways to see that values are of a format: whole columns at once, in place of a call of Python each.

A filter says yes only where csv-detective's own function says yes. For most, that function is asked wherever the filter
says no: it may miss spellings, and never decides against one. Addresses are decided both ways, for texts in which
csv-detective changes no word. ``tests/unit/analysis/test_filters.py`` holds each to that, for the csv-detective that is
installed. Patterns end with ``\z``: Python's ``$`` would take a final line end too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.csv_detective import WAYS

#: Tells for each value of a column without missing ones whether it is of the format, and whether that is for sure.
#: Where all that is not said to be of it has to be asked, the second is None.
Said = tuple[pa.Array, pa.Array | None]
Filter = Callable[[pa.Array], Said]

#: A number that float() reads, written without exponent, sign of plus or leading zeros.
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17})(?:[.,][0-9]{1,40})?"
_POINT = r"\A-?(?:0|[1-9][0-9]{0,17})[.][0-9]{1,40}\z"
_EITHER = r"\A-?(?:0|[1-9][0-9]{0,17})[.,][0-9]{1,40}\z"
_LATITUDE, _LONGITUDE = (-90.0, 90.0), (-180.0, 180.0)
_FRENCH_LATITUDE, _FRENCH_LONGITUDE = (41.3, 51.3), (-5.5, 9.8)
_L93_LATITUDE, _L93_LONGITUDE = (6037008.0, 7230728.0), (-357823.0, 1313633.0)


def _matching(pattern: str) -> Filter:
    def matches(values: pa.Array) -> Said:
        return pc.match_substring_regex(values, pattern), None

    return matches


def _between(pattern: str, limits: tuple[float, float]) -> Filter:
    """Numbers of a spelling within limits."""

    def within(values: pa.Array) -> Said:
        spelled = pc.match_substring_regex(values, pattern)
        texts = pc.if_else(spelled, values, "nan")
        numbers = pc.cast(pc.replace_substring(texts, ",", "."), pa.float64())
        inside = pc.and_(pc.greater_equal(numbers, limits[0]), pc.less_equal(numbers, limits[1]))
        return pc.and_(spelled, inside), None

    return within


def _digits(values: pa.Array, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which values are that many digits, and those as one row of digits each."""
    fits = pc.match_substring_regex(values, rf"\A[0-9]{{{length}}}\z").to_numpy(zero_copy_only=False)
    chosen = values.filter(pa.array(fits))
    return fits, np.frombuffer(characters(chosen), dtype=np.uint8).reshape(-1, length) - ord("0")


def characters(values: pa.Array) -> bytes:
    """Return the characters of all values, one after the other."""
    if not len(values):
        return b""
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    return memoryview(data)[int(bounds[0]) : int(bounds[-1])].tobytes()


def _luhn(digits: np.ndarray, first_doubled: int) -> np.ndarray:
    """Tell which rows of digits have a Luhn sum that ends with 0, every second doubled from the given one on."""
    doubled = digits.copy()
    doubled[:, first_doubled::2] *= 2
    valid: np.ndarray = (doubled // 10 + doubled % 10).sum(axis=1, dtype=np.int32) % 10 == 0
    return valid


def _siren(values: pa.Array) -> Said:
    fits, digits = _digits(values, 9)
    fits[fits] = _luhn(digits, 1)
    return pa.array(fits), None


def _siret(values: pa.Array) -> Said:
    fits, digits = _digits(values, 14)
    fits[fits] = _luhn(digits[:, :9], 1) & _luhn(digits, 0)
    return pa.array(fits), None


def _epci(values: pa.Array) -> Said:
    siren, _ = _siren(values)
    return pc.and_(siren, pc.starts_with(values, "2")), None


#: What csv-detective makes a blank of, and which letters it takes for which.
_BLANK = r"[ \-_',]"
_LETTERS = {"a": "aàâ", "c": "cç", "e": "eéèê", "i": "iîï", "o": "oôö", "u": "uùûü"}
#: Texts in which it splits no word (it does so at capitals), and which have no other blanks, line ends or letters.
_PLAIN = r"\A[ -~À-ÂÄ-Öà-öù-ü\x{2019}€°²œŒ]*\z"
_SPLIT = r"[a-z][A-Z]|[A-Z][A-Z][a-z]"
_LONGEST_ADDRESS = 150


def _address() -> Filter:
    """Make a filter of the names of streets and places that csv-detective looks for."""
    pattern = "(?i)" + "|".join(_way(way) for way in sorted(WAYS))

    def addresses(values: pa.Array) -> Said:
        found = pc.match_substring_regex(values, pattern)
        short = pc.less_equal(pc.utf8_length(values), _LONGEST_ADDRESS)
        split = pc.match_substring_regex(values, _SPLIT)
        sure = pc.and_not(pc.match_substring_regex(values, _PLAIN), split)
        return pc.and_(pc.and_(found, short), sure), sure

    return addresses


def _way(way: str) -> str:
    """Make a pattern of a word: its letters with and without accents; a blank at its end is not that of the text."""
    letters = "".join(
        f"[{_LETTERS[letter]}]" if letter in _LETTERS else f"{_BLANK}{{1,2}}" if letter == " " else letter
        for letter in way.rstrip()
    )
    return letters + (rf"{_BLANK}+[^ \-_',]" if way.endswith(" ") else "")


_URL = (
    r"\A(?:(?:https?|ftp)://|www\.)(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,6}"
    r"(?:/[A-Za-zÀ-ɏ\x{1E00}-\x{1EFF}0-9 ._~:/?#\[@!$&'()*+,;=%-]*)?\z"
)
_PHONE = r"\A(?:(?:0|\+33|0033)[0-9]{9}|0[0-9](?:[ .-][0-9]{2}){4})\z"
_UAI = r"\A(?:0[0-8][0-9]|09[0-5]|9[78][0-9]|[67]20)[0-9]{4}[A-Z]\z"
_UUID = r"\A[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\z"

#: By the name of the format.
FILTERS: Mapping[str, Filter] = {
    "adresse": _address(),
    "code_epci": _epci,
    "code_waldec": _matching(r"\AW[0-9][0-9A-Z][0-9]{7}\z"),
    "email": _matching(r"\A[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\z"),
    "float": _matching(rf"\A{_NUMBER}\z"),
    "int": _matching(r"\A(?:0|-?[1-9][0-9]{0,17})\z"),
    "latitude_l93": _between(rf"\A{_NUMBER}\z", _L93_LATITUDE),
    "latitude_wgs": _between(_EITHER, _LATITUDE),
    "latitude_wgs_fr_metropole": _between(_POINT, _FRENCH_LATITUDE),
    "longitude_l93": _between(rf"\A{_NUMBER}\z", _L93_LONGITUDE),
    "longitude_wgs": _between(_EITHER, _LONGITUDE),
    "longitude_wgs_fr_metropole": _between(_POINT, _FRENCH_LONGITUDE),
    "money": _matching(rf"\A{_NUMBER}[€$£¥]\z"),
    "mongo_object_id": _matching(r"\A[0-9a-fA-F]{24}\z"),
    "percent": _matching(rf"\A{_NUMBER}%\z"),
    "siren": _siren,
    "siret": _siret,
    "tel_fr": _matching(_PHONE),
    "uai": _matching(_UAI),
    "url": _matching(_URL),
    "username": _matching(r"\A@[A-Za-z0-9_]+\z"),
    "uuid": _matching(_UUID),
}
