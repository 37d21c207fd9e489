"""False alarms of the checks from bar to bar, on real candles at every timeframe.

    python benchmarks/price_jumps.py CANDLES.parquet ...

Each file is looked at as it is and resampled to every longer timeframe of which it has
200 bars. Counted: jumps that stay, bars of doubtful prices, exchanged columns, prices
that stand still, and times that look like a wall clock were they written without a
zone. `open`, `body` and `wick` are the largest of each in units of its limit: an alarm
is above 1. Real candles without faults give no alarm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candles.checks import detect_timeframe
from candles.jumps import find_jumps, measure_continuity
from candles.moments import wall_clock_words
from candles.table import fill_gaps, read_candles, resample_candles
from candles.timestamps import nanoseconds_of, timeframe_nanoseconds

TIMEFRAMES = "1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 1w".split()
MIN_BARS = 200


def tables(path):
    """Yields each timeframe of a file and its candles."""
    candles = read_candles(path)
    own = detect_timeframe(candles)
    yield own, candles
    filled = fill_gaps(candles, own)
    step = timeframe_nanoseconds(own)
    for timeframe in TIMEFRAMES:
        times, rest = divmod(timeframe_nanoseconds(timeframe), step)
        if times > 1 and not rest:
            longer = resample_candles(filled, timeframe, source_timeframe=own)
            if len(longer) >= MIN_BARS:
                yield timeframe, longer


def main():
    """Prints a line for each table, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candles", nargs="+", type=Path)
    options = parser.parse_args()
    row = "{:<34}{:>5}{:>11}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}"
    heads = ("file", "", "bars", "jumps", "bars", "doubts", "open", "body", "wick")
    print(row.format(*heads))
    bars = alarms = count = 0
    largest = np.zeros(3)
    for path in options.candles:
        for timeframe, table in tables(path):
            found = find_jumps(table, timeframe)
            words = wall_clock_words(nanoseconds_of(table["timestamp"]))
            doubts = [*found.doubts, *(words or ())]
            how_far = measure_continuity(table, timeframe)
            steps = (how_far.steps[::2], how_far.steps[1::2], how_far.far_wicks)
            most = np.array([part.max() for part in steps])
            cuts, bad = len(found.cut_rows), len(found.bad_rows)
            shown = [f"{value:.2f}" for value in most]
            name = path.name[:33]
            print(
                row.format(name, timeframe, len(table), cuts, bad, len(doubts), *shown)
            )
            for line in doubts:
                print(f"  {line}")
            bars, count, alarms = bars + len(table), count + 1, alarms + len(doubts)
            largest = np.maximum(largest, most)
    shown = ", ".join(
        f"{name} {value:.2f}"
        for name, value in zip(("open", "body", "wick"), largest, strict=True)
    )
    print(f"{count} tables, {bars:,} bars: {alarms} alarms; of the limits {shown}")


if __name__ == "__main__":
    main()
