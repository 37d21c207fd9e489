"""Planted leaks and honest columns: which of them the audit names.

Real candles where there are any, else a synthetic market. Every column is appended to a
clean training file, whose candles are given; none has a function. A leak is named where
a check calls it a leak or doubtful; an honest column never may.

    python benchmarks/planted_leaks.py [CANDLES.parquet ...]
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, filtfilt, savgol_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from audit.run import run_audit
from benchmarks.common import machine
from candles.synthetic import synthetic_candles
from candles.table import read_candles
from config import Config
from dataset.builder import build_training_frame

MAX_BARS = 120_000
HORIZON = 120


class Market:
    """What columns are made of: series of the bars (num_bars,)."""

    def __init__(self, bars, *, seed=0):
        self.bars = bars.reset_index(drop=True)
        self.rng = np.random.default_rng(seed)
        self.times = pd.DatetimeIndex(bars["timestamp"])
        self.close = self.bars["close"]
        self.log = np.log(self.close)
        self.moves = self.log.diff().fillna(0)
        self.volume = self.bars["volume"]
        self.rows = np.arange(len(bars))
        minutes = self.times.to_series().diff().min().total_seconds() / 60
        self.hour = "1h" if minutes < 60 else "1D"
        self.four_hours = "4h" if minutes < 60 else "2D"
        self.quarter = "15min" if minutes < 15 else "6h"
        self.outcome = np.sign(later(self.log, HORIZON) - self.log)

    def by(self, period):
        return self.bars.groupby(self.times.floor(period))

    def change_of(self, period):
        group = self.by(period)
        return group["close"].transform("last") / group["open"].transform("first") - 1

    def funding(self):
        """A rate every 480 bars, of the returns before; noise, too."""
        noise = self.rng.standard_normal(len(self.rows))
        rate = self.moves.rolling(480, min_periods=1).sum()
        rate += 20 * self.moves.std() * noise
        return rate.where(self.rows % 480 == 479).ffill().fillna(0)


def later(series, bars):
    return series.shift(-bars).ffill()


def reversed_mean(series, bars):
    return later(series[::-1].rolling(bars, min_periods=1).mean()[::-1], 1)


def open_periods(m):
    """Hours, four hours and days that are not over, as if they were."""
    day = m.by("1D")
    value = (m.close * m.volume).groupby(m.times.floor("1D")).transform("sum")
    vwap = value / day["volume"].transform("sum")
    by_hour = m.moves.pow(2).groupby(m.times.floor(m.hour))
    return {
        "change of the open hour": m.change_of(m.hour),
        "change of the open 4 hours": m.change_of(m.four_hours),
        "change of the open day": m.change_of("1D"),
        "join at the wrong end": m.by(m.quarter)["close"].transform("last")
        / m.by(m.quarter)["close"].transform("first"),
        "range of the day": np.log(
            day["high"].transform("max") / day["low"].transform("min")
        ),
        "volume of the day": day["volume"].transform("sum"),
        "price to the day's high": m.close / day["high"].transform("max"),
        "price to the day's vwap": m.close / vwap,
        "volatility of the hour": by_hour.transform("sum"),
    }


def smoothed(m):
    """Means and filters that look to both sides."""
    low_pass = butter(2, 0.01)
    line = np.linspace(m.log.iloc[0], m.log.iloc[-1], len(m.log))
    spectrum = np.fft.rfft(m.log - line)
    spectrum[len(m.log) // 200 :] = 0
    trend = np.polynomial.Polynomial.fit(m.rows, m.log, 5)
    return {
        "centred mean of 31": m.close / m.close.rolling(31, 1, center=True).mean(),
        "centred mean of 241": m.close / m.close.rolling(241, 1, center=True).mean(),
        "centred volatility": m.moves.rolling(61, 5, center=True).std(),
        "two-sided smoother": gaussian_filter1d(m.moves, 10),
        "savitzky-golay slope": savgol_filter(m.log, 121, 2, deriv=1),
        "filter both ways": m.log - filtfilt(*low_pass, m.log),
        "fourier low-pass": np.fft.irfft(spectrum, len(m.log)),
        "polynomial of the file": m.log - trend(m.rows),
        "repainting zigzag": zigzag(m.log.to_numpy(), 22 * m.moves.std()),
        "bottom within 61 bars": m.close == m.close.rolling(61, 1, center=True).min(),
    }


def zigzag(price, reversal):
    """Returns the direction of the leg each bar lies in, known at its end."""
    legs, start, extreme, side = np.zeros(len(price)), 0, 0, 1
    for row in range(len(price)):
        if side * (price[row] - price[extreme]) > 0:
            extreme = row
        elif side * (price[extreme] - price[row]) > reversal:
            legs[start:extreme] = side
            start, extreme, side = extreme, row, -side
    return legs


def of_later_bars(m):
    """Later bars themselves, with noise, as flags and as codes."""
    noise = m.rng.standard_normal((2, len(m.rows)))
    highest = m.bars["high"][::-1].rolling(HORIZON, min_periods=1).max()[::-1]
    rise = np.log(later(highest, 1) / m.close)
    gains = m.close.diff().clip(lower=0).rolling(14, 1).mean()
    falls = (-m.close.diff()).clip(lower=0).rolling(14, 1).mean()
    fifth = pd.qcut((later(m.log, 60) - m.log).rank(method="first"), 5, labels=False)
    hourly = m.close.where(m.rows % 60 == 0)
    return {
        "next volume": later(m.volume, 1),
        "mean of 15 next volumes": reversed_mean(m.volume, 15),
        "horizon maximum, noise": rise + 2 * rise.std() * noise[0],
        "next return, noise": later(m.moves, 1) + 10 * m.moves.std() * noise[1],
        "return of bars 30 to 60": later(m.log, 60) - later(m.log, 30),
        "rsi of the next bar": later((gains / (gains + falls + 1e-12)).fillna(0.5), 1),
        "codes of the next hour": np.array([3, 0, 4, 1, 2])[fifth],
        "label mix, not lagged": m.outcome.rolling(30, 1).mean(),
        "interpolated": m.close / hourly.interpolate().bfill(),
        "backfilled": m.close / hourly.bfill().ffill(),
        "funding of the next period": later(m.funding(), 480),
    }


def learned(m):
    """What was fitted to the whole file."""
    hours = m.times.hour + 24 * m.times.day_of_week
    return {
        "standardised by the file": (m.log - m.log.mean()) / m.log.std(),
        "rank in the file": m.log.rank() / len(m.log),
        "encoded day": m.outcome.groupby(m.times.floor("1D")).transform("mean"),
        "encoded hour of the week": m.outcome.groupby(hours).transform("mean"),
    }


def honest(m):
    """What was known at its row."""
    gains = m.close.diff().clip(lower=0).ewm(alpha=1 / 14).mean()
    falls = (-m.close.diff()).clip(lower=0).ewm(alpha=1 / 14).mean()
    day, minute = m.times.floor("1D"), m.times.hour * 60 + m.times.minute
    returns = np.log(m.close.groupby(day).last()).diff().shift(1)
    volumes = m.volume.groupby(day).sum().shift(1)
    seen = m.volume.groupby(minute)
    columns = {
        "slow mean": m.close / m.close.rolling(4000, 1).mean(),
        "expanding mean": m.close / m.close.expanding().mean(),
        "expanding volume": m.volume.expanding().mean(),
        "sine of the day": np.sin(2 * np.pi * minute / 1440),
        "weekday": m.times.day_of_week,
        "volume profile": (seen.cumsum() - m.volume) / (seen.cumcount() + 1),
        "constant": np.ones(len(m.rows)),
        "time index": m.rows,
        "yesterday's return": returns.reindex(day).fillna(0),
        "yesterday's volume": volumes.reindex(day).bfill(),
        "lagged label mix": m.outcome.shift(HORIZON + 1).rolling(4000, 1).mean(),
        "momentum": m.log - m.log.shift(60),
        "rsi": gains / (gains + falls + 1e-12),
        "funding at its time": m.funding(),
        "volatility": m.moves.rolling(15, 1).std(),
        "volume to its mean": m.volume / (m.volume.rolling(15, 1).mean() + 1e-9),
        "volume of the day so far": m.volume.groupby(day).cumsum(),
        "jump": m.moves.abs() > 4 * m.moves.std(),
        "random walk": m.rng.standard_normal(len(m.rows)).cumsum(),
    }
    return columns | {f"hour {h}": m.times.hour == h for h in range(24)}


def leaks(m):
    return open_periods(m) | smoothed(m) | of_later_bars(m) | learned(m)


def clean_file(candles):
    """Returns the configuration and the frame of a file without a leak."""
    minutes = candles["timestamp"].diff().min().total_seconds() / 60
    config = Config(
        pair="PLANTED",
        timeframe="1h" if minutes == 60 else f"{minutes:g}m",
        feature_sets=("ray12",),
        sequence_length=20,
        future_window=HORIZON,
    )
    return config, build_training_frame(candles, config)[0]


def planted(frame, candles, columns):
    """Returns the frame with columns of its candles appended."""
    table = pd.DataFrame({name: np.asarray(x, float) for name, x in columns.items()})
    table = table.fillna(0.0).astype(np.float32).set_index(candles["timestamp"])
    table = table.reindex(frame["timestamp"], method="ffill").reset_index(drop=True)
    return pd.concat([frame, table], axis=1)


def named(report):
    """Returns the check that named each column, the surest first."""
    found = {}
    for outcome in ("leak", "doubtful"):
        for item in report.of(outcome):
            for column in item.columns:
                found.setdefault(column, f"{outcome}: {item.check}")
    return found


def study(candles):
    """Returns what names each leak and each honest column, and both times."""
    market, (config, frame) = Market(candles), clean_file(candles)
    found, seconds = [], []
    for columns in (leaks(market), honest(market)):
        started = time.perf_counter()
        table = planted(frame, candles, columns)
        report = run_audit(config, frame=table, candles=candles)
        seconds.append(time.perf_counter() - started)
        names = named(report)
        found.append({name: names.get(name, "") for name in columns})
    return *found, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candles", nargs="*", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    markets = {path.stem: read_candles(path) for path in options.candles}
    markets = markets or {"synthetic": synthetic_candles(90_000, seed=1)}
    tables, alarms = {}, {}
    for name, candles in markets.items():
        candles = candles.iloc[-MAX_BARS:].reset_index(drop=True)
        tables[name], clean, seconds = study(candles)
        alarms[name] = {column: check for column, check in clean.items() if check}
        took = ", ".join(f"{each:.0f} s" for each in seconds)
        print(f"{name}: {len(candles):,} bars, audits of leaks and honest: {took}")
    table = pd.DataFrame(tables).map(lambda check: check or "not named")
    print(table.to_string())
    for name, column in tables.items():
        count = sum(map(bool, column.values()))
        print(f"{name}: {count} of {len(column)} named; false alarms: {alarms[name]}")
    print(*machine().values(), sep=", ")
    return int(any(alarms.values()))


if __name__ == "__main__":
    sys.exit(main())
