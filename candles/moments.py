"""Times as a file has them -> when its bars opened, and which of them are over.

In: ends of bars, a last bar that goes on, wall-clock time and its zone, whose candles a
file says that they are. Out: ways to write a time (`timestamps`, `dates`), names of
columns (`layouts`).
"""

from __future__ import annotations

import contextlib
import functools
import zoneinfo
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from candles.columns import one_market, refusal
from candles.layouts import Layout
from candles.timestamps import (
    DAY,
    HOUR,
    SECOND,
    choose_times,
    describe_distance,
    first_boundary,
    parse_timestamps,
)
from settings.names import is_other_market, stated_pair
from settings.values import timezone_problems
from utils import ConfigError, DataError, counted

# Of zones that change their clocks at the same wall-clock time the first is named.
_ZONES = (
    *("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"),
    *("Europe/London", "Europe/Berlin", "Europe/Athens", "Australia/Sydney"),
    *("Australia/Adelaide", "Pacific/Auckland", "Asia/Jerusalem", "America/Sao_Paulo"),
)
_OVER = {"1": True, "true": True, "t": True, "yes": True, "y": True, "1.0": True}
_OVER |= {"0": False, "false": False, "f": False, "no": False, "n": False, "0.0": False}
_MANY = 20  # bars on the boundaries, behind which one off them is no open
_ZONELESS = "dates without a timezone"


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """When the bars of a file opened.

    Args:
        opens: int64 nanoseconds since 1970 (num_rows,), in the order of the file.
        is_over: Whether a bar was over when the file was made (num_rows,).
        how: How the times were read.
        notes: What was done to them, a line each.
        doubts: What they may mean instead, a line each.
    """

    opens: np.ndarray
    is_over: np.ndarray
    how: str
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def place_bars(
    table: pa.Table,
    layout: Layout,
    path: Path,
    *,
    timezone: str | None = None,
    made: int | None = None,
) -> Moments:
    """Returns when the bars of a file opened, and which of them are over.

    Args:
        table: Columns named by their positions, at least those of the layout.
        layout: What they are.
        path: The file, for errors.
        timezone: Zone of times that state none; None is UTC.
        made: When the file was written, nanoseconds since 1970; None where unknown.

    Raises:
        DataError: If times are unreadable, or do not exist or exist twice in the zone.
        ConfigError: If there is no such zone.
    """
    zone = _zone(timezone) if timezone else None
    sides = _side_times(table, layout, zone, path)
    ends = sides.get("end")
    try:
        stamps, how = choose_times(
            [(name, rank, table.column(str(i))) for i, name, rank in layout.times]
        )
    except DataError as error:
        if ends is None or _off(ends, _usual_step(ends)).any():
            raise DataError(f"{path}: {error}") from error
        stamps, how = ends, "ends of bars"
    notes, doubts = [], []
    is_zoneless = how.startswith(_ZONELESS)
    if words := wall_clock_words(stamps, timezone if is_zoneless else None):
        cure = "say --timezone {}" if is_zoneless else "write them in UTC, not as in {}"
        doubts.append(f"{words[0]}. If so, {cure.format(words[1])}")
    if zone and is_zoneless:
        stamps, how = _localized(stamps, zone, path), f"wall-clock time of {timezone}"
    elif zone:
        notes.append(f"times state their zone: {timezone} is not used")
    if ends is not None and (stamps is ends or _are_of_trades(stamps, ends)):
        stamps, is_end = ends, True
    else:
        is_end = layout.ends
    step = _usual_step(stamps)
    rest = _rest_of_end(stamps, step) if step else 0
    is_end |= rest > 0
    if step and is_end:
        stamps = stamps + rest - step
        bar = describe_distance(step)
        notes.append(f"times are the ends of bars: shifted by {bar} to their opens")
    if is_end:
        sides.pop("end", None)
    if made is not None:
        sides.setdefault("taken", np.array([made]))
    is_over, left_out = _over(stamps, step, sides, _confirmed(table, layout))
    return Moments(
        opens=stamps,
        is_over=is_over,
        how=how,
        notes=(*notes, *left_out),
        doubts=tuple(doubts),
    )


def market_of(table: pa.Table, layout: Layout, path: Path) -> str | None:
    """Returns the one market that a file's own column states; None without one.

    Raises:
        DataError: If it states several, with the first row of the second, or another
            than the file's name.
    """
    cells = _words(table, layout, "symbol")
    if cells is None:
        return None
    name = layout.names[layout.sides["symbol"]] if layout.names else "the last"
    try:
        market = one_market(cells, name)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    stated = stated_pair(path.name) if layout.names is not None else None
    if market is not None and stated is not None and is_other_market(market, stated):
        raise refusal(
            path,
            f"candles of {stated}, after which the file is named",
            f"{market!r} in column {name!r}",
            "Rename the file if its name is wrong.",
        )
    return market


def _words(table: pa.Table, layout: Layout, side: str) -> pa.DictionaryArray | None:
    """Returns a column of words; None where there is none, or it is of no words."""
    if side not in layout.sides:
        return None
    try:
        column = pc.cast(table.column(str(layout.sides[side])), pa.string())
    except pa.ArrowException:
        return None
    return pc.utf8_trim_whitespace(column).combine_chunks().dictionary_encode()


# Ends


def _side_times(
    table: pa.Table, layout: Layout, zone: zoneinfo.ZoneInfo | None, path: Path
) -> dict[str, np.ndarray]:
    """Returns other columns of times in nanoseconds (num_rows,), by what they say."""
    found: dict[str, np.ndarray] = {}
    for side in ("end", "taken", "committed"):
        if side not in layout.sides:
            continue
        # What is no time says nothing; names alone do not make one.
        with contextlib.suppress(DataError):
            times, how = parse_timestamps(table.column(str(layout.sides[side])))
            if zone is not None and how.startswith(_ZONELESS):
                times = _localized(times, zone, path)
            found[side] = times
    return found


def _usual_step(stamps: np.ndarray) -> int:
    """Returns the most common distance of neighbouring times; 0 where there is none."""
    steps = np.abs(np.diff(stamps))
    lengths, counts = np.unique(steps[steps > 0], return_counts=True)
    return int(lengths[counts.argmax()]) if len(lengths) else 0


def _off(stamps: np.ndarray, step: int) -> np.ndarray:
    return (stamps - first_boundary(step)) % max(step, 1)


def _are_of_trades(stamps: np.ndarray, ends: np.ndarray) -> bool:
    """Whether times are those of the last trade of bars that end on boundaries."""
    step = _usual_step(ends)
    if not step or _off(ends, step).any():
        return False
    inside = (stamps <= ends) & (stamps >= ends - step)
    return bool(inside.all() and (_off(stamps, step) != 0).mean() > 0.5)


def _rest_of_end(stamps: np.ndarray, step: int) -> int:
    """Returns what times such as 23:59:59.999 lack to a boundary; 0 for others."""
    rest = -_off(stamps, step) % step
    limit = 60 * SECOND if step >= HOUR else SECOND if step > SECOND else 0
    return int(rest[0]) if (rest == rest[0]).all() and rest[0] <= limit else 0


# Bars that are not over


def _over(
    opens: np.ndarray,
    step: int,
    sides: dict[str, np.ndarray],
    confirmed: np.ndarray | None,
) -> tuple[np.ndarray, list[str]]:
    """Returns which bars were over when the file was made, and what is left out."""
    last = opens == opens.max()
    going_on = {}
    if confirmed is not None:
        going_on["its own column says so"] = ~confirmed
    if "end" in sides:
        lengths = sides["end"] - opens
        others = lengths[~last]
        is_even = len(others) > 1 and (others == others[0]).all()
        short = last & is_even & (lengths < others[:1].sum())
        going_on["it ends before its timeframe does"] = short
    if "taken" in sides:
        young = sides["taken"] < opens + step
        going_on["the file was made before its end"] = young & (young == last).all()
    if len(opens) > _MANY and ((_off(opens, step) != 0) == last).all():
        going_on["a last row has the time of the file"] = opens + step > opens.max()
    if "committed" in sides:
        going_on["the exchange had not committed it"] = opens > sides["committed"]
    for reason, rows in going_on.items():
        if rows.any() and not rows.all():
            which = "the last bar is" if rows.sum() == 1 else f"{rows.sum()} bars are"
            return ~rows, [f"{which} not over ({reason}): left out"]
    return np.ones(len(opens), bool), []


def _confirmed(table: pa.Table, layout: Layout) -> np.ndarray | None:
    """Returns which bars a column of flags confirms; None where it is none."""
    cells = _words(table, layout, "confirm")
    if cells is None or cells.null_count:
        return None
    flags = [_OVER.get(word.lower()) for word in cells.dictionary.to_pylist()]
    if None in flags:
        return None
    return np.array(flags, bool)[cells.indices.to_numpy()]


# Wall-clock time


def _zone(name: str) -> zoneinfo.ZoneInfo:
    if problems := timezone_problems(name):
        raise ConfigError(problems[0])
    return zoneinfo.ZoneInfo(name)


def _localized(stamps: np.ndarray, zone: zoneinfo.ZoneInfo, path: Path) -> np.ndarray:
    """Returns UTC of wall-clock times; a doubled hour is told by its order."""
    back = len(stamps) > 1 and stamps[-1] < stamps[0]
    times = pd.DatetimeIndex(stamps[::-1] if back else stamps)
    try:
        moments = times.tz_localize(zone, ambiguous="infer", nonexistent="raise")
    except ValueError:
        raise _no_moment(times, zone, path) from None
    utc = moments.as_unit("ns").asi8
    return utc[::-1] if back else utc


def _no_moment(
    times: pd.DatetimeIndex, zone: zoneinfo.ZoneInfo, path: Path
) -> DataError:
    """Returns the error of times that a zone has never, or twice."""
    known = times.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward")
    twice = np.flatnonzero(known.isna())
    never = np.flatnonzero(known.tz_localize(None) != times)
    never = np.setdiff1d(never, twice)
    found, what = (never, "does not exist") if len(never) else (twice, "exists twice")
    cure = (
        "Take another --timezone."
        if len(never)
        else ("Write the times in UTC, or keep both hours of the change, in order.")
    )
    return refusal(
        path,
        f"wall-clock times of {zone.key}, each of one moment",
        f"{counted(len(found), 'time', 'times')} that {what} there, first "
        f"{times[found[0]]}",
        cure,
    )


def wall_clock_words(
    stamps: np.ndarray, timezone: str | None = None
) -> tuple[str, str] | None:
    """Returns where times skip or double an hour as another zone's clocks do.

    Args:
        stamps: int64 nanoseconds (num_rows,).
        timezone: The zone that they are said to be of; None is UTC.

    Returns:
        The finding in words and the zone; None where there is none.
    """
    step = _usual_step(stamps)
    if not step or step > HOUR:
        return None
    ordered = stamps if (np.diff(stamps) >= 0).all() else np.sort(stamps)
    zones = dict.fromkeys([timezone, *_ZONES] if timezone else _ZONES)
    found = {zone: shown for zone in zones if (shown := _shows(ordered, step, zone))}
    if not found or timezone in found:
        return None
    most = max(count for count, _ in found.values())
    likely = [zone for zone, (count, _) in found.items() if count == most]
    what = found[likely[0]][1]
    rest = f" (or {', '.join(likely[1:])})" if likely[1:] else ""
    return (
        f"the times look like wall-clock time of {likely[0]}{rest}, and were taken as "
        f"{timezone or 'UTC'}: {what}",
        likely[0],
    )


def _shows(ordered: np.ndarray, step: int, zone: str) -> tuple[int, str] | None:
    """Returns how many clock changes of a zone times show, and the first in words.

    None where they show none, or have a time that the zone skips.
    """
    shown, first = 0, ""
    for before, after in _clock_changes(int(ordered[0]), int(ordered[-1]), zone):
        start, stop = min(before, after), max(before, after)
        edges = np.array([start - step, start, stop])
        places = np.minimum(np.searchsorted(ordered, edges), len(ordered) - 1)
        has_edges = (ordered[places[::2]] == edges[::2]).all()
        inside, whole = int(places[2] - places[1]), (stop - start) // step
        is_shown = has_edges and inside == (0 if before < after else 2 * whole)
        if before < after and inside:
            return None
        if is_shown and whole:
            shown += 1
            offsets = " and ".join(_utc_offsets(before, after, zone))
            how = "is missing" if before < after else "is there twice"
            moment = pd.Timestamp(start)
            first = first or (
                f"the hour from {moment:%F %R} {how}, where its clocks change between "
                f"{offsets}"
            )
    return (shown, first) if shown else None


@functools.lru_cache(maxsize=64)
def _clock_changes(first: int, last: int, zone: str) -> list[tuple[int, int]]:
    """Returns wall-clock times (ns) before and after each change of a zone's clocks."""
    changes = []
    days = np.arange(first - DAY, last + 2 * DAY, DAY)
    for at in np.flatnonzero(np.diff(_offsets(days, zone))):
        minutes = np.arange(days[at], days[at + 1] + 1, 15 * 60 * SECOND)
        offsets = _offsets(minutes, zone)
        turn = int(np.flatnonzero(np.diff(offsets))[0]) + 1
        moment = int(minutes[turn])
        changes.append((moment + int(offsets[turn - 1]), moment + int(offsets[turn])))
    return changes


def _offsets(moments: np.ndarray, zone: str) -> np.ndarray:
    """Returns offsets from UTC (num_moments,) in nanoseconds."""
    local = pd.DatetimeIndex(moments).tz_localize("UTC").tz_convert(zone)
    return local.tz_localize(None).as_unit("ns").asi8 - moments


def _utc_offsets(before: int, after: int, zone: str) -> tuple[str, str]:
    offsets = []
    for hours in (-2, 2):
        local = pd.Timestamp(before if hours < 0 else after) + pd.Timedelta(hours, "h")
        offset = local.tz_localize(zone).strftime("%z")
        offsets.append(f"UTC{offset[:3]}:{offset[3:]}")
    return offsets[0], offsets[1]
