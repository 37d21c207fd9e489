"""Dates written as text -> nanoseconds: the forms of exchanges, offices and programs.

In: year first, day first, month first, names of months, clocks of 12 hours, offsets.
Out: numbers since 1970, and what the moments mean (`timestamps`).

Whether the day or the month comes first is told by the data: by a number above 12, or
by the days of one reading following each other. It is never guessed.
"""

from __future__ import annotations

import calendar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from utils import DataError, counted

_SECOND = 10**9
_FAR = np.iinfo(np.int64).max
_ZONE = (
    r"^(?P<bare>.*?[0-9]:?[0-9]{2}(?:[.,][0-9]+)?(?: ?[AaPp][Mm])?)"
    r"(?P<zone> ?Z| ?(?:UTC|GMT)(?: ?[+-][0-9]{1,2}(?::?[0-9]{2})?)?"
    r"| ?[+-][0-9]{2}:?[0-9]{2}| [A-Z]{2,4}|)(?: \([^)]*\))?$"
)
# Two digits alone are an offset behind a clock, and a day or a month behind a date.
_SHORT_ZONE = r"^(?P<bare>.*:[0-9]{2}(?:[.,][0-9]+)?)(?P<zone> ?[+-][0-9]{2})$"
_WORD_HOURS = {
    **{"EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7},
    **{"WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3},
    **{"HKT": 8, "SGT": 8, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11, "NZST": 12},
}
"""Hours from UTC by the words of zones; CST, IST, BST, AST and others mean several."""
_CLOCK = (
    r"(?:[T ,_]+(?P<hour>[0-9]{1,2}):?(?P<minute>[0-9]{2})?:?(?P<second>[0-9]{2})?"
    r"(?:[.,](?P<fraction>[0-9]{1,9}))?[ -]?(?P<half>[AaPp][Mm])?)?$"
)
_WEEKDAY = r"^(?:[A-Za-z]{3,9},? )?"
_FORMS = {
    "year first": r"^(?P<year>[0-9]{4})[-/.](?P<month>[0-9]{1,2})[-/.]"
    r"(?P<day>[0-9]{1,2})" + _CLOCK,
    "digits": r"^(?P<year>[0-9]{4})(?P<month>[0-9]{2})(?P<day>[0-9]{2})" + _CLOCK,
    "two numbers": r"^(?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})[-/.]"
    r"(?P<year>[0-9]{4})" + _CLOCK,
    "three numbers": r"^(?P<month>[0-9]{1,2})[-/.](?P<day>[0-9]{1,2})[-/.]"
    r"(?P<year>[0-9]{2})" + _CLOCK,
    "day and name": _WEEKDAY + r"(?P<day>[0-9]{1,2})[-/ ](?P<name>[A-Za-z]{3,9})[-/ ,]+"
    r"(?P<year>[0-9]{4})" + _CLOCK,
    "name and day": _WEEKDAY + r"(?P<name>[A-Za-z]{3,9}) (?P<day>[0-9]{1,2}),? "
    r"(?P<year>[0-9]{4})" + _CLOCK,
}
_MONTHS = {
    word.lower(): month
    for month in range(1, 13)
    for word in (calendar.month_name[month], calendar.month_abbr[month])
}


class AmbiguousDates(DataError):
    """Dates whose day and month could be exchanged."""


def parse_dates(column: pa.ChunkedArray) -> tuple[np.ndarray, str]:
    """Converts text of dates, all in one form, to UTC.

    Returns:
        int64 nanoseconds since 1970 (num_rows,), and how they were read.

    Raises:
        DataError: If rows are unreadable, in another form, or could be read in two
            ways.
    """
    bare, offsets, zone = _split_zones(column)
    try:
        return pc.cast(
            pc.cast(bare, pa.timestamp("ns")), pa.int64()
        ).to_numpy() - offsets, zone
    except pa.ArrowException:
        pass
    fits = [
        (form, pattern)
        for form, pattern in _FORMS.items()
        if pc.match_substring_regex(bare.slice(0, 1), pattern)[0].as_py()
    ]
    if not fits:
        known = [pc.match_substring_regex(bare, form) for form in _FORMS.values()]
        raise _unreadable(column, ~np.logical_or.reduce([k.to_numpy() for k in known]))
    form, pattern = fits[0]
    parts = pc.extract_regex(bare, pattern)
    _refuse(column, parts.is_null().to_numpy())
    fields = {name: pc.struct_field(parts, name) for name in _groups(pattern)}
    clock = _clock(column, fields)
    year = _whole(fields["year"])
    day = _whole(fields["day"])
    month = _month(column, fields)
    how = zone
    if form in ("two numbers", "three numbers"):
        orders = {
            "month first": (year, month, day),
            "day first": (year, day, month),
        }
        if form == "three numbers":
            orders["year first"] = (month, day, year)
            orders = {which: (y + 2000, m, d) for which, (y, m, d) in orders.items()}
        which = _which_order(column, orders, clock)
        year, month, day = orders[which]
        how = f"{zone}, {which}"
    return _midnights(column, year, month, day) + clock - offsets, how


def _split_zones(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray, str]:
    """Returns the text without its zone, offsets in nanoseconds, what the zone is."""
    short = pc.match_substring_regex(column.slice(0, 1), _SHORT_ZONE)[0].as_py()
    parts = pc.extract_regex(column, _SHORT_ZONE if short else _ZONE)
    zones = pc.struct_field(parts, "zone")
    if parts.null_count:
        is_other = parts.is_null().to_numpy()
        if short:
            raise _mixed(column, int(is_other.argmax()))
        if zones[0].as_py():  # moments with a zone, and a footer below them
            raise _unreadable(column, is_other)
        return column, np.zeros(1, np.int64), _ZONELESS
    distinct = {text.strip() for text in pc.unique(zones).to_pylist()}
    bare = pc.struct_field(parts, "bare")
    if "" in distinct:
        if len(distinct) > 1:
            blank = pc.equal(pc.utf8_trim_whitespace(zones), "").to_numpy()
            raise _mixed(column, int((blank != blank[0]).argmax()))
        return bare, np.zeros(1, np.int64), _ZONELESS
    offsets = {zone: _offset(zone) for zone in distinct}
    how = "dates in " + " and ".join(sorted(distinct))
    if words := sorted(distinct & {*_WORD_HOURS}):
        how = "dates of " + " and ".join(f"{w}, UTC{_WORD_HOURS[w]:+d}" for w in words)
    if len(set(offsets.values())) == 1:
        return bare, np.array([next(iter(offsets.values()))]), how
    encoded = pc.utf8_trim_whitespace(zones).combine_chunks().dictionary_encode()
    known = np.array([offsets[zone] for zone in encoded.dictionary.to_pylist()])
    return bare, known[encoded.indices.to_numpy()], how


_ZONELESS = "dates without a timezone, taken as UTC"


def _offset(zone: str) -> int:
    """Returns the offset of `+02:00`, `-0430`, `+00`, `GMT+1`, `Z` in nanoseconds."""
    if zone in _WORD_HOURS:
        return _WORD_HOURS[zone] * 3600 * _SECOND
    digits = zone.lstrip("UTCGMZ ")
    if not digits:
        return 0
    if digits.isalpha():
        raise DataError(
            f"expected times in a zone of one meaning, such as UTC, +02:00 or CET. "
            f"Received: {zone!r} behind a time. Leave the word out and say the zone "
            "with --timezone, or write the times in UTC."
        )
    sign = -1 if digits.startswith("-") else 1
    numbers = digits.lstrip("+-").replace(":", "")
    numbers += "00" * (len(numbers) < 3)
    return sign * (int(numbers[:-2]) * 3600 + int(numbers[-2:]) * 60) * _SECOND


def _groups(pattern: str) -> list[str]:
    return [piece.split(">")[0] for piece in pattern.split("(?P<")[1:]]


def _whole(column: pa.ChunkedArray) -> np.ndarray:
    """Returns digits as int64 (num_rows,), 0 where there are none."""
    filled = pc.if_else(pc.equal(column, ""), "0", column)
    return pc.cast(filled, pa.int64()).to_numpy()


def _month(column: pa.ChunkedArray, fields: dict[str, pa.ChunkedArray]) -> np.ndarray:
    if "month" in fields:
        return _whole(fields["month"])
    words = pc.utf8_lower(fields["name"]).combine_chunks().dictionary_encode()
    known = [_MONTHS.get(word, 0) for word in words.dictionary.to_pylist()]
    return np.array(known)[words.indices.to_numpy()]


def _clock(column: pa.ChunkedArray, fields: dict[str, pa.ChunkedArray]) -> np.ndarray:
    """Returns the time of day in nanoseconds (num_rows,)."""
    hour, minute, second = (_whole(fields[n]) for n in ("hour", "minute", "second"))
    halves = pc.utf8_lower(fields["half"]).to_numpy(zero_copy_only=False)
    halved = halves != ""
    _refuse(column, halved & ((hour < 1) | (hour > 12)))
    hour = np.where(halved, hour % 12 + 12 * (halves == "pm"), hour)
    _refuse(column, (hour > 23) | (minute > 59) | (second > 59))
    fraction = pc.utf8_rpad(fields["fraction"], 9, "0")
    return ((hour * 60 + minute) * 60 + second) * _SECOND + _whole(fraction)


def _midnights(
    column: pa.ChunkedArray, year: np.ndarray, month: np.ndarray, day: np.ndarray
) -> np.ndarray:
    midnights, is_date = _days(year, month, day)
    _refuse(column, ~is_date)
    return midnights


def _days(
    year: np.ndarray, month: np.ndarray, day: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns nanoseconds of the days (num_rows,), and which of them are dates."""
    months = (year - 1970) * 12 + month - 1
    firsts = months.astype("M8[M]")
    days = firsts.astype("M8[D]") + (day - 1)
    is_date = (month >= 1) & (month <= 12) & (day >= 1)
    is_date &= days.astype("M8[M]") == firsts
    return days.astype(np.int64) * 86_400 * _SECOND, is_date


def _which_order(
    column: pa.ChunkedArray,
    orders: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    clock: np.ndarray,
) -> str:
    """Returns which of several orders of year, month and day is the one meant."""
    dates = {which: _days(*order) for which, order in orders.items()}
    moments = {w: days + clock for w, (days, is_date) in dates.items() if is_date.all()}
    if not moments:
        _refuse(column, ~max((known for _, known in dates.values()), key=np.sum))
    # Where a day ends, one reading goes on by a bar, and the others by a month or more.
    steps = {which: np.abs(np.diff(stamps)) for which, stamps in moments.items()}
    bar = min(int(each[each > 0].min(initial=_FAR)) for each in steps.values())
    evenness = {
        which: (int((each == bar).sum()), -int(np.ptp(moments[which])))
        for which, each in steps.items()
    }
    best = max(evenness, key=evenness.__getitem__)
    rest = [evenness[which] for which in moments if which != best]
    if all(evenness[best][0] > bars and evenness[best][1] > far for bars, far in rest):
        return best
    first, *others = moments.values()
    if all(np.array_equal(first, other) for other in others):
        return best
    row = int(np.logical_or.reduce([first != other for other in others]).argmax())
    raise AmbiguousDates(
        "expected dates of which the data tell whether the day or the month comes "
        f"first. Received: {column[row].as_py()!r} in row {row} and the like, which "
        f"may be {' or '.join(moments)}. Write the year first, in four digits: "
        "2024-01-31."
    )


def _refuse(column: pa.ChunkedArray, is_bad: np.ndarray) -> None:
    if is_bad.any():
        raise _unreadable(column, is_bad)


def _unreadable(column: pa.ChunkedArray, is_bad: np.ndarray) -> DataError:
    row = int(is_bad.argmax())
    return DataError(
        "expected timestamps such as '2024-01-31 23:59:00', all in one form, or whole "
        f"numbers. Received: {counted(is_bad.sum(), 'other', 'others')}, first "
        f"{column[row].as_py()!r} in "
        f"row {row}. Write them in ISO 8601, in UTC."
    )


def _mixed(column: pa.ChunkedArray, row: int) -> DataError:
    first, other = column[0].as_py(), column[row].as_py()
    return DataError(
        f"expected timestamps in one timezone, or each with its offset. Received: "
        f"{first!r} in row 0 and {other!r} in row {row}. Write all of them in UTC."
    )
