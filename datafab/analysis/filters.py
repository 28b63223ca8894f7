r"""Vectorised filters, which test a whole column for a format at once instead of calling Python for each value.

A filter accepts only values that csv-detective's own function accepts. Most filters never reject a value: they may miss
spellings, so csv-detective's function is called for the values that they do not accept. The filter of addresses also
rejects, but only texts in which csv-detective changes no word. ``tests/unit/analysis/test_filters.py`` compares each
with the installed csv-detective. Patterns end with ``\z``, as Python's ``$`` would also match before a final line end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from datafab.analysis.csv_detective import STREET_TYPES

#: For each value of a column without missing ones: whether the format accepts it, and whether the answer is certain.
#: The second is None if only acceptance is certain.
FilterResult = tuple[pa.Array, pa.Array | None]
Filter = Callable[[pa.Array], FilterResult]

#: A number that float() reads, written without an exponent, plus sign or leading zeros.
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17})(?:[.,][0-9]{1,40})?"
_POINT_NUMBER = r"\A-?(?:0|[1-9][0-9]{0,17})[.][0-9]{1,40}\z"
_POINT_OR_COMMA_NUMBER = r"\A-?(?:0|[1-9][0-9]{0,17})[.,][0-9]{1,40}\z"
_LATITUDE, _LONGITUDE = (-90.0, 90.0), (-180.0, 180.0)
_FRENCH_LATITUDE, _FRENCH_LONGITUDE = (41.3, 51.3), (-5.5, 9.8)
_L93_LATITUDE, _L93_LONGITUDE = (6037008.0, 7230728.0), (-357823.0, 1313633.0)


def _matches_pattern(pattern: str) -> Filter:
    def matches(values: pa.Array) -> FilterResult:
        return pc.match_substring_regex(values, pattern), None

    return matches


def _matches_range(pattern: str, limits: tuple[float, float]) -> Filter:
    """Return a filter of numbers that match a pattern and lie within limits."""

    def within(values: pa.Array) -> FilterResult:
        matching = pc.match_substring_regex(values, pattern)
        texts = pc.if_else(matching, values, "nan")
        numbers = pc.cast(pc.replace_substring(texts, ",", "."), pa.float64())
        inside = pc.and_(pc.greater_equal(numbers, limits[0]), pc.less_equal(numbers, limits[1]))
        return pc.and_(matching, inside), None

    return within


def _digit_rows(values: pa.Array, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask of the values with this number of digits, and the digits of each as a row."""
    fits = pc.match_substring_regex(values, rf"\A[0-9]{{{length}}}\z").to_numpy(zero_copy_only=False)
    chosen = values.filter(pa.array(fits))
    return fits, np.frombuffer(concatenate_bytes(chosen), dtype=np.uint8).reshape(-1, length) - ord("0")


def concatenate_bytes(values: pa.Array) -> bytes:
    """Return the bytes of all values, concatenated."""
    if not len(values):
        return b""
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    return memoryview(data)[int(bounds[0]) : int(bounds[-1])].tobytes()


def _has_luhn_sum(digits: np.ndarray, first_doubled: int) -> np.ndarray:
    """Return a mask of the rows of digits with a valid Luhn sum, doubling every second digit from the given one on."""
    doubled = digits.copy()
    doubled[:, first_doubled::2] *= 2
    valid: np.ndarray = (doubled // 10 + doubled % 10).sum(axis=1, dtype=np.int32) % 10 == 0
    return valid


def _filter_siren(values: pa.Array) -> FilterResult:
    fits, digits = _digit_rows(values, 9)
    fits[fits] = _has_luhn_sum(digits, 1)
    return pa.array(fits), None


def _filter_siret(values: pa.Array) -> FilterResult:
    fits, digits = _digit_rows(values, 14)
    fits[fits] = _has_luhn_sum(digits[:, :9], 1) & _has_luhn_sum(digits, 0)
    return pa.array(fits), None


def _filter_epci(values: pa.Array) -> FilterResult:
    siren, _ = _filter_siren(values)
    return pc.and_(siren, pc.starts_with(values, "2")), None


#: Characters that csv-detective replaces by a blank, and letters that it treats as equal.
_BLANK = r"[ \-_',]"
_LETTERS = {"a": "aàâ", "c": "cç", "e": "eéèê", "i": "iîï", "o": "oôö", "u": "uùûü"}
#: Texts without other blanks, line ends or letters, and the places where csv-detective splits words at capitals.
_SUPPORTED_TEXT = r"\A[ -~À-ÂÄ-Öà-öù-ü\x{2019}€°²œŒ]*\z"
_SPLIT_WORD = r"[a-z][A-Z]|[A-Z][A-Z][a-z]"
_MAX_ADDRESS_CHARS = 150


def _address_filter() -> Filter:
    """Return a filter of the street types that csv-detective looks for in addresses."""
    pattern = "(?i)" + "|".join(_street_type_pattern(street_type) for street_type in sorted(STREET_TYPES))

    def addresses(values: pa.Array) -> FilterResult:
        found = pc.match_substring_regex(values, pattern)
        short = pc.less_equal(pc.utf8_length(values), _MAX_ADDRESS_CHARS)
        split = pc.match_substring_regex(values, _SPLIT_WORD)
        sure = pc.and_not(pc.match_substring_regex(values, _SUPPORTED_TEXT), split)
        return pc.and_(pc.and_(found, short), sure), sure

    return addresses


def _street_type_pattern(street_type: str) -> str:
    """Return a pattern of a street type with and without accents; a blank at its end must be followed by a word."""
    letters = "".join(
        f"[{_LETTERS[letter]}]" if letter in _LETTERS else f"{_BLANK}{{1,2}}" if letter == " " else letter
        for letter in street_type.rstrip()
    )
    return letters + (rf"{_BLANK}+[^ \-_',]" if street_type.endswith(" ") else "")


_URL = (
    r"\A(?:(?:https?|ftp)://|www\.)(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,6}"
    r"(?:/[A-Za-zÀ-ɏ\x{1E00}-\x{1EFF}0-9 ._~:/?#\[@!$&'()*+,;=%-]*)?\z"
)
_PHONE = r"\A(?:(?:0|\+33|0033)[0-9]{9}|0[0-9](?:[ .-][0-9]{2}){4})\z"
_UAI = r"\A(?:0[0-8][0-9]|09[0-5]|9[78][0-9]|[67]20)[0-9]{4}[A-Z]\z"
_UUID = r"\A[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\z"

#: Filters by the name of the format.
FILTERS: Mapping[str, Filter] = {
    "adresse": _address_filter(),
    "code_epci": _filter_epci,
    "code_waldec": _matches_pattern(r"\AW[0-9][0-9A-Z][0-9]{7}\z"),
    "email": _matches_pattern(r"\A[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\z"),
    "float": _matches_pattern(rf"\A{_NUMBER}\z"),
    "int": _matches_pattern(r"\A(?:0|-?[1-9][0-9]{0,17})\z"),
    "latitude_l93": _matches_range(rf"\A{_NUMBER}\z", _L93_LATITUDE),
    "latitude_wgs": _matches_range(_POINT_OR_COMMA_NUMBER, _LATITUDE),
    "latitude_wgs_fr_metropole": _matches_range(_POINT_NUMBER, _FRENCH_LATITUDE),
    "longitude_l93": _matches_range(rf"\A{_NUMBER}\z", _L93_LONGITUDE),
    "longitude_wgs": _matches_range(_POINT_OR_COMMA_NUMBER, _LONGITUDE),
    "longitude_wgs_fr_metropole": _matches_range(_POINT_NUMBER, _FRENCH_LONGITUDE),
    "money": _matches_pattern(rf"\A{_NUMBER}[€$£¥]\z"),
    "mongo_object_id": _matches_pattern(r"\A[0-9a-fA-F]{24}\z"),
    "percent": _matches_pattern(rf"\A{_NUMBER}%\z"),
    "siren": _filter_siren,
    "siret": _filter_siret,
    "tel_fr": _matches_pattern(_PHONE),
    "uai": _matches_pattern(_UAI),
    "url": _matches_pattern(_URL),
    "username": _matches_pattern(r"\A@[A-Za-z0-9_]+\z"),
    "uuid": _matches_pattern(_UUID),
}
