"""Parse dates and times as people and programs write them, for columns that a data dictionary declares as dates. Pure.

The accepted forms are those of PostgreSQL and DataPusher, but independent of a server's ``DateStyle``: if day and month
differ only in their order, all possible readings are returned and the column decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import MAXYEAR, UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

#: Orders of the parts of a numeric date.
DMY, MDY, YMD = "dmy", "mdy", "ymd"
#: The order of a date that has only one reading.
UNAMBIGUOUS = ""
#: A datetime, or a text that PostgreSQL reads but Python has no value for (``infinity``, years before 1).
Moment = datetime | str

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan janvier janv",
            "february feb fevrier fevr fev",
            "march mar mars",
            "april apr avril avr",
            "may mai",
            "june jun juin",
            "july jul juillet juil",
            "august aug aout aou",
            "september sept sep septembre",
            "october oct octobre",
            "november nov novembre",
            "december dec decembre",
        ),
        1,
    )
    for name in names.split()
}
_WEEKDAY = re.compile(
    r"(?:mon(?:day)?|tue(?:s(?:day)?)?|wed(?:nesday)?|thu(?:rs?(?:day)?)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?"
    r"|lun(?:di)?|mar(?:di)|mer(?:credi)?|jeu(?:di)?|ven(?:dredi)?|sam(?:edi)?|dim(?:anche)?)\b[.,]*\s*",
    re.IGNORECASE,
)
#: Abbreviations of time zones with their offsets in hours, as in PostgreSQL's default list.
_ZONES = {
    "Z": 0, "ZULU": 0, "UTC": 0, "UT": 0, "GMT": 0, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "EET": 2,
    "EEST": 3, "MSK": 3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}  # fmt: skip
_ZONE = (
    r"(?:\s*(?P<sign>[+-])(?P<east>[0-9]{1,2})(?::?(?P<minutes>[0-9]{2}))?(?![0-9:])"
    rf"|\s*(?P<abbreviation>{'|'.join(_ZONES)})\b(?![+-])|\s+(?P<place>[A-Za-z_]+/[A-Za-z_/+-]+))?"
)
_CLOCK = re.compile(
    r"(?:^|(?<=[0-9])[Tt]|[\s,]\s*(?:at\s+)?)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,20}))?)?(?:\s*(?P<half>[ap])\.?m\b\.?)?" + _ZONE,
    re.IGNORECASE,
)
_PACKED_CLOCK = re.compile(
    r"(?:(?<=[0-9])T|(?<=[0-9])\s(?=[0-9]{6}))(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})"
    r"(?:(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,20}))?)?" + _ZONE + r"$"
)
_YEAR_FIRST = re.compile(r"([0-9]{4,6})([-/. ])([0-9]{1,2})\2([0-9]{1,2})")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/. ])([0-9]{1,2})\2([0-9]{4}|[0-9]{2})")
_PACKED = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
#: A packed date with a packed time.
_STAMP = re.compile(r"([0-9]{8})([0-9]{6})")
_DAY_OF_YEAR = re.compile(r"([0-9]{4})[-.]([0-9]{3})")
_JULIAN = re.compile(r"[Jj]([0-9]{7})")
_DAY = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th|er|e)?", re.IGNORECASE)
_FILLERS = frozenset({"of", "de", "le", "the"})
#: Days between the epoch of Julian dates and the first of January of the year 1.
_JULIAN_OFFSET = 1_721_425
#: A two-digit year below this one is in the 2000s, as in PostgreSQL and DataPusher.
_CENTURY_PIVOT_YEAR = 70
_NOON_HOUR, _HOURS_PER_DAY, _SIXTY = 12, 24, 60


@lru_cache(8192)
def possible_readings(text: str) -> Mapping[str, Moment]:
    """Return the possible readings of a date by the order of its parts; ``UNAMBIGUOUS`` if there is only one.

    Raises:
        ValueError: the text is not a date.
    """
    text = _STAMP.sub(r"\1T\2", " ".join(text.split())) if text.strip().isdigit() else " ".join(text.split())
    if text.lower() in {"infinity", "-infinity"}:
        return {UNAMBIGUOUS: text.lower()}
    if text.lower() == "epoch":
        return {UNAMBIGUOUS: datetime(1970, 1, 1)}  # noqa: DTZ001 - PostgreSQL's has none
    found = _CLOCK.search(text) or _PACKED_CLOCK.search(text)
    rest = text if found is None else f"{text[: found.start()]} {text[found.end() :]}"
    rest, era = _split_era(_WEEKDAY.sub("", rest.strip(), count=1).strip(" ,"))
    read: dict[str, Moment] = {}
    for order, parts in _possible_dates(rest).items():
        try:
            read[order] = _combine(parts, found, era=era)
        except (ValueError, OverflowError):
            continue
    if not read:
        msg = f"{text!r} is not a date"
        raise ValueError(msg)
    return read


def parse_moment(text: str, order: str | None) -> Moment:
    """Return the reading of a date in its column's order of day and month.

    Raises:
        ValueError: the text is not a date, or ambiguous in this order.
    """
    read = possible_readings(text)
    if len({str(each) for each in read.values()}) == 1:
        return next(iter(read.values()))
    if order is None or order not in read:
        msg = f"{text!r} may be read day first or month first"
        raise ValueError(msg)
    return read[order]


def has_month_name(text: str) -> bool:
    """Tell whether a text is a date with the name of a month and a year of four digits."""
    if not re.search(r"[0-9]{4}", text):
        return False
    try:
        read = possible_readings(text)
    except ValueError:
        return False
    return any(_month_number(word) for word in re.split(r"[\W\d_]+", text)) and list(read) == [UNAMBIGUOUS]


def format_moment(read: Moment, *, zone: bool) -> str:
    """Return a moment in ISO 8601; it is converted to UTC if its column has no time zone."""
    if isinstance(read, str):
        return read
    naive = zone or read.tzinfo is None
    return (read if naive else read.astimezone(UTC).replace(tzinfo=None)).isoformat()


def format_time(text: str) -> str:
    """Return a time of day in ISO 8601.

    Raises:
        ValueError: the text is not a time of day.
    """
    found = _CLOCK.fullmatch(text.strip())
    if found is None or _time_zone(found) is not None:
        msg = f"{text!r} is not a time of day"
        raise ValueError(msg)
    passed = _time_of_day(found)
    return "24:00:00" if passed == timedelta(days=1) else (datetime(1970, 1, 1) + passed).time().isoformat()  # noqa: DTZ001


def _split_era(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.*\S)\s+(BC|AD)", text, re.IGNORECASE)
    if found is None:
        return text, "AD"
    if not re.search(r"[^\W\d_]", found[1]):
        return found[1], found[2].upper()
    # Padded, so that no century is added to a short year.
    return re.sub(r"\b([0-9]{1,3})$", lambda year: year[1].zfill(4), found[1]), found[2].upper()


def _possible_dates(text: str) -> dict[str, tuple[int, int, int]]:
    """Return (year, month, day) by the order of the parts, without validating them."""
    if found := _YEAR_FIRST.fullmatch(text):
        return {UNAMBIGUOUS: (int(found[1]), int(found[3]), int(found[4]))}
    if found := _YEAR_LAST.fullmatch(text):
        return _day_or_month_first(int(found[1]), int(found[3]), found[4], found[2])
    if found := _PACKED.fullmatch(text):
        return {UNAMBIGUOUS: (int(found[1]), int(found[2]), int(found[3]))}
    if found := _DAY_OF_YEAR.fullmatch(text):
        return _date_of_ordinal(date(int(found[1]), 1, 1).toordinal() + int(found[2]) - 1)
    if found := _JULIAN.fullmatch(text):
        return _date_of_ordinal(int(found[1]) - _JULIAN_OFFSET)
    return _parse_month_name(text)


def _date_of_ordinal(days: int) -> dict[str, tuple[int, int, int]]:
    day = date.fromordinal(days)
    return {UNAMBIGUOUS: (day.year, day.month, day.day)}


def _day_or_month_first(first: int, second: int, last: str, separator: str) -> dict[str, tuple[int, int, int]]:
    year = _full_year(last)
    found = {DMY: (year, second, first), MDY: (year, first, second)}
    if len(last) == 2 and separator == "-":  # noqa: PLR2004 - digits of a short year
        # As in 99-01-08, an abbreviated ISO 8601 date.
        found[YMD] = (_full_year(f"{first:02d}"), second, int(last))
    return found


def _full_year(digits: str) -> int:
    year = int(digits)
    if len(digits) > 2:  # noqa: PLR2004 - digits of a short year
        return year
    return year + (2000 if year < _CENTURY_PIVOT_YEAR else 1900)


def _parse_month_name(text: str) -> dict[str, tuple[int, int, int]]:
    """Parse a date with the name of a month."""
    parts = [part for part in re.split(r"[\s,/.-]+", text) if part and part.lower() not in _FILLERS]
    months = [at for at, part in enumerate(parts) if _month_number(part)]
    if len(parts) != 3 or len(months) != 1:  # noqa: PLR2004 - day, month and year
        return {}
    first, last = (part for at, part in enumerate(parts) if at != months[0])
    if len(first) == 4 and first.isdigit():  # noqa: PLR2004 - digits of a year
        first, last = last, first
    day = _DAY.fullmatch(first)
    if day is None or not re.fullmatch(r"[0-9]{2}|[0-9]{4}", last):
        return {}
    return {UNAMBIGUOUS: (_full_year(last), _month_number(parts[months[0]]), int(day[1]))}


def _month_number(word: str) -> int:
    """Return the number of a month by its name in English or French; 0 if it is not a month."""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode().lower()
    return _MONTHS.get(plain, 0)


def _combine(parts: tuple[int, int, int], found: re.Match[str] | None, *, era: str) -> Moment:
    year, month, day = parts
    if era == "BC" or year > MAXYEAR:
        # The calendar repeats every 400 years, so leap years match.
        alike = datetime(2000 + (1 - year if era == "BC" else year) % 400, month, day)  # noqa: DTZ001
        return _distant_text(year, alike + (_time_of_day(found) if found else timedelta()), day, era, found)
    read = datetime(year, month, day)  # noqa: DTZ001 - its zone comes below
    if found is None:
        return read
    read += _time_of_day(found)
    zone = _time_zone(found)
    return read if zone is None else read.replace(tzinfo=zone)


def _distant_text(year: int, alike: datetime, day: int, era: str, found: re.Match[str] | None) -> str:
    if alike.day != day or (found is not None and _time_zone(found) is not None):
        msg = "a moment so far away with a zone or the hour 24"
        raise ValueError(msg)
    return f"{year:04d}{alike.isoformat()[4:]}" + (" BC" if era == "BC" else "")


def _time_of_day(found: re.Match[str]) -> timedelta:
    """Return the time since midnight; 24:00 and a leap second are the start of the next day or minute."""
    groups = found.groupdict()
    hour, minute, second = int(groups["hour"]), int(groups["minute"]), int(groups["second"] or 0)
    half = (groups.get("half") or "").lower()
    if half:
        if hour > _NOON_HOUR:
            raise ValueError("an hour above 12 with AM or PM")
        hour = hour % _NOON_HOUR + (_NOON_HOUR if half == "p" else 0)
    micro = round(int(groups["fraction"]) / 10 ** (len(groups["fraction"]) - 6)) if groups["fraction"] else 0
    passed = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micro)
    if minute >= _SIXTY or second > _SIXTY or passed > timedelta(hours=_HOURS_PER_DAY):
        raise ValueError("no time of day")
    return passed


def _time_zone(found: re.Match[str]) -> timezone | ZoneInfo | None:
    if sign := found["sign"]:
        passed = timedelta(hours=int(found["east"]), minutes=int(found["minutes"] or 0))
        return timezone(-passed if sign == "-" else passed)
    if abbreviation := found["abbreviation"]:
        return timezone(timedelta(hours=_ZONES[abbreviation.upper()]))
    if place := found["place"]:
        try:
            return ZoneInfo(place)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            msg = f"no time zone is called {place!r}"
            raise ValueError(msg) from error
    return None
