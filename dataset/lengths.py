"""How long the test part of a training file will be, and what gave it no row.

In: a configuration and the description of a file, in words. Out: cutting the parts
(`preprocessing.parts`), the warm-up of a feature set (`rows`). Imports nothing heavy: a
dry run says it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from config import Config
from metrics.intervals import MIN_DAYS, MIN_HORIZONS, Length
from settings.data_fields import day_after

_DAY = timedelta(days=1)


def short_test_notes(config: Config, facts: Mapping[str, Any]) -> list[str]:
    """Returns a line where the test part will be too short for a claim.

    Args:
        config: Parts, horizon and timeframe.
        facts: The description of a file (docs/contracts.md), of any origin.
    """
    days = _test_days(config, facts)
    if days is None:
        return []
    horizon_days = config.future_window * config.bar_seconds / _DAY.total_seconds()
    length = Length(days=days, horizons=days / horizon_days)
    if not length.is_too_short:
        return []
    note = too_short_note(length)
    warm_up, shorter = facts.get("warm_up_bars"), facts.get("shorter_warm_ups")
    if isinstance(warm_up, int) and isinstance(shorter, dict):
        note += f"; before the first row, {warm_up_words(warm_up, shorter, config)}"
    return [note]


def unused_segment_lines(facts: Mapping[str, Any]) -> list[str]:
    """Returns a line for each segment of the candles that gave no row, with its days.

    Args:
        facts: The description of a file.
    """
    total = facts.get("num_segments")
    return [
        f"segment {each['segment']} of {total}, {str(each['first'])[:10]} to "
        f"{str(each['last'])[:10]}, {each['bars']:,} bars: {each['reason']}"
        for each in facts.get("segments_without_rows", ())
    ]


def too_short_note(length: Length) -> str:
    """Returns what a test part of this length cannot have."""
    return (
        f"the test part will have {max(0.0, length.days):.1f} days and "
        f"{max(0.0, length.horizons):.0f} horizons, too few for an interval and a "
        f"claim (at least {MIN_DAYS:.0f} days and {MIN_HORIZONS:.0f} horizons)"
    )


def warm_up_words(bars: int, shorter: Mapping[str, int], config: Config) -> str:
    """Returns what a warm-up took, and the sets that would take less, in days."""
    day = _DAY.total_seconds() / config.bar_seconds
    said = f"{bars / day:.3g} days of candles are the warm-up"
    named = [f"{name} takes {each / day:.3g}" for name, each in shorter.items()]
    return ": ".join([said, *[", ".join(named)] * bool(named)])


def _test_days(config: Config, facts: Mapping[str, Any]) -> float | None:
    """Returns the days from the first to behind the last bar; None where not known."""
    try:
        first, last = (datetime.fromisoformat(facts[key]) for key in ("first", "last"))
    except (KeyError, TypeError, ValueError):
        return None
    first, last = (moment.replace(tzinfo=UTC) for moment in (first, last))
    end = last + timedelta(seconds=config.bar_seconds)
    if config.end_date is not None:
        end = min(end, _midnight(day_after(config.end_date)))
    if config.validation_end is not None:
        return (end - _midnight(day_after(config.validation_end))) / _DAY
    if config.start_date is not None:
        first = max(first, _midnight(date.fromisoformat(config.start_date)))
    return config.test_split * ((end - first) / _DAY)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
