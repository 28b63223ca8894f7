"""Read dates and times as people and programs write them, for a column that a data dictionary calls dates. Pure.

The forms are those that PostgreSQL and DataPusher take, but none depends on a server's ``DateStyle``: where day and
month can be told apart only by their order, each possible reading is returned and the column decides.
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
#: The order of a date that can be read in one way only.
SURE = ""
#: A datetime, or a text that PostgreSQL reads and Python has no value for (``infinity``, years before 1).
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
#: Abbreviations of zones with their hours, as PostgreSQL's default list has them.
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
#: Days between the first of January of the year 1 and that of Julian dates.
_JULIAN_OFFSET = 1_721_425
#: A year of two digits below this belongs to the century of 2000, as PostgreSQL and DataPusher have it.
_PIVOT = 70
_NOON, _DAY_HOURS, _SIXTY = 12, 24, 60


@lru_cache(8192)
def readings(text: str) -> Mapping[str, Moment]:
    """Return each possible reading of a date, by the order of its parts; ``SURE`` where there is one only.

    Raises:
        ValueError: it is none.
    """
    text = _STAMP.sub(r"\1T\2", " ".join(text.split())) if text.strip().isdigit() else " ".join(text.split())
    if text.lower() in {"infinity", "-infinity"}:
        return {SURE: text.lower()}
    if text.lower() == "epoch":
        return {SURE: datetime(1970, 1, 1)}  # noqa: DTZ001 - PostgreSQL's has none
    found = _CLOCK.search(text) or _PACKED_CLOCK.search(text)
    rest = text if found is None else f"{text[: found.start()]} {text[found.end() :]}"
    rest, era = _era(_WEEKDAY.sub("", rest.strip(), count=1).strip(" ,"))
    read: dict[str, Moment] = {}
    for order, parts in _dates(rest).items():
        try:
            read[order] = _moment(parts, found, era=era)
        except (ValueError, OverflowError):
            continue
    if not read:
        msg = f"{text!r} is no date"
        raise ValueError(msg)
    return read


def moment(text: str, order: str | None) -> Moment:
    """Return the reading of a date that its column's order of day and month makes the one.

    Raises:
        ValueError: it is no date, or the order does not settle it.
    """
    read = readings(text)
    if len({str(each) for each in read.values()}) == 1:
        return next(iter(read.values()))
    if order is None or order not in read:
        msg = f"{text!r} may be read day first or month first"
        raise ValueError(msg)
    return read[order]


def worded(text: str) -> bool:
    """Tell whether a text is a date whose month is a word and whose year has four digits."""
    if not re.search(r"[0-9]{4}", text):
        return False
    try:
        read = readings(text)
    except ValueError:
        return False
    return any(_month(word) for word in re.split(r"[\W\d_]+", text)) and list(read) == [SURE]


def stored(read: Moment, *, zone: bool) -> str:
    """Return a moment as ISO 8601 has it; in UTC where it has a zone that its column has not."""
    if isinstance(read, str):
        return read
    naive = zone or read.tzinfo is None
    return (read if naive else read.astimezone(UTC).replace(tzinfo=None)).isoformat()


def clock(text: str) -> str:
    """Return a time of day as ISO 8601 has it.

    Raises:
        ValueError: it is none.
    """
    found = _CLOCK.fullmatch(text.strip())
    if found is None or _zone(found) is not None:
        msg = f"{text!r} is no time of day"
        raise ValueError(msg)
    passed = _time(found)
    return "24:00:00" if passed == timedelta(days=1) else (datetime(1970, 1, 1) + passed).time().isoformat()  # noqa: DTZ001


def _era(text: str) -> tuple[str, str]:
    found = re.fullmatch(r"(.*\S)\s+(BC|AD)", text, re.IGNORECASE)
    if found is None:
        return text, "AD"
    if not re.search(r"[^\W\d_]", found[1]):
        return found[1], found[2].upper()
    # No century is added to a short year then.
    return re.sub(r"\b([0-9]{1,3})$", lambda year: year[1].zfill(4), found[1]), found[2].upper()


def _dates(text: str) -> dict[str, tuple[int, int, int]]:
    """Return (year, month, day) by the order of the parts, valid or not."""
    if found := _YEAR_FIRST.fullmatch(text):
        return {SURE: (int(found[1]), int(found[3]), int(found[4]))}
    if found := _YEAR_LAST.fullmatch(text):
        return _triple(int(found[1]), int(found[3]), found[4], found[2])
    if found := _PACKED.fullmatch(text):
        return {SURE: (int(found[1]), int(found[2]), int(found[3]))}
    if found := _DAY_OF_YEAR.fullmatch(text):
        return _ordinal(date(int(found[1]), 1, 1).toordinal() + int(found[2]) - 1)
    if found := _JULIAN.fullmatch(text):
        return _ordinal(int(found[1]) - _JULIAN_OFFSET)
    return _words(text)


def _ordinal(days: int) -> dict[str, tuple[int, int, int]]:
    day = date.fromordinal(days)
    return {SURE: (day.year, day.month, day.day)}


def _triple(first: int, second: int, last: str, separator: str) -> dict[str, tuple[int, int, int]]:
    year = _year(last)
    found = {DMY: (year, second, first), MDY: (year, first, second)}
    if len(last) == 2 and separator == "-":  # noqa: PLR2004 - digits of a short year
        # As in 99-01-08, which is ISO 8601 cut short.
        found[YMD] = (_year(f"{first:02d}"), second, int(last))
    return found


def _year(digits: str) -> int:
    year = int(digits)
    if len(digits) > 2:  # noqa: PLR2004 - digits of a short year
        return year
    return year + (2000 if year < _PIVOT else 1900)


def _words(text: str) -> dict[str, tuple[int, int, int]]:
    """Read a date whose month is a word."""
    parts = [part for part in re.split(r"[\s,/.-]+", text) if part and part.lower() not in _FILLERS]
    months = [at for at, part in enumerate(parts) if _month(part)]
    if len(parts) != 3 or len(months) != 1:  # noqa: PLR2004 - day, month and year
        return {}
    first, last = (part for at, part in enumerate(parts) if at != months[0])
    if len(first) == 4 and first.isdigit():  # noqa: PLR2004 - digits of a year
        first, last = last, first
    day = _DAY.fullmatch(first)
    if day is None or not re.fullmatch(r"[0-9]{2}|[0-9]{4}", last):
        return {}
    return {SURE: (_year(last), _month(parts[months[0]]), int(day[1]))}


def _month(word: str) -> int:
    """Return the number of a month's name in English or French; 0: it is none."""
    plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode().lower()
    return _MONTHS.get(plain, 0)


def _moment(parts: tuple[int, int, int], found: re.Match[str] | None, *, era: str) -> Moment:
    year, month, day = parts
    if era == "BC" or year > MAXYEAR:
        # The years of a cycle of 400 are alike, so a leap year is one there too.
        alike = datetime(2000 + (1 - year if era == "BC" else year) % 400, month, day)  # noqa: DTZ001
        return _far(year, alike + (_time(found) if found else timedelta()), day, era, found)
    read = datetime(year, month, day)  # noqa: DTZ001 - its zone comes below
    if found is None:
        return read
    read += _time(found)
    zone = _zone(found)
    return read if zone is None else read.replace(tzinfo=zone)


def _far(year: int, alike: datetime, day: int, era: str, found: re.Match[str] | None) -> str:
    if alike.day != day or (found is not None and _zone(found) is not None):
        msg = "a moment so far away with a zone or the hour 24"
        raise ValueError(msg)
    return f"{year:04d}{alike.isoformat()[4:]}" + (" BC" if era == "BC" else "")


def _time(found: re.Match[str]) -> timedelta:
    """Return the time since midnight; 24:00 and a leap second are the beginning of what follows."""
    groups = found.groupdict()
    hour, minute, second = int(groups["hour"]), int(groups["minute"]), int(groups["second"] or 0)
    half = (groups.get("half") or "").lower()
    if half:
        if hour > _NOON:
            raise ValueError("an hour above 12 with AM or PM")
        hour = hour % _NOON + (_NOON if half == "p" else 0)
    micro = round(int(groups["fraction"]) / 10 ** (len(groups["fraction"]) - 6)) if groups["fraction"] else 0
    passed = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=micro)
    if minute >= _SIXTY or second > _SIXTY or passed > timedelta(hours=_DAY_HOURS):
        raise ValueError("no time of day")
    return passed


def _zone(found: re.Match[str]) -> timezone | ZoneInfo | None:
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
