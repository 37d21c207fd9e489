"""A made-up market, with a direction that can be known as well as is asked for.

In: volatility, volume and prices drawn from a seed. Out: the pair, length and seed of
the demo (`dataset.builder`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from candles.columns import make_table
from candles.timestamps import SECOND, first_boundary, timeframe_nanoseconds
from utils import ConfigError

_PRICES = ["open", "high", "low", "close"]


def synthetic_candles(
    num_bars: int,
    *,
    seed: int = 42,
    strength: float = 1.0,
    timeframe: str = "1m",
    start: str | pd.Timestamp = "2024-01-01",
) -> pd.DataFrame:
    """Draws a market with clustered volatility, fat tails and a planted direction.

    A hidden demand tilts both the volume of a bar and the drift of the next one.
    `strength` scales that drift and nothing else: with 0 the direction cannot be known,
    and all other draws are the same.

    Args:
        num_bars: Length of the table.
        seed: Seed of the whole market.
        strength: Drift per unit of demand, in tenths of the bar's volatility.
        timeframe: Distance of the bars; it sets the daily cycle.
        start: Open of the first bar, UTC.

    Returns:
        The candle table.
    """
    if num_bars < 1 or seed < 0 or not np.isfinite(strength):
        raise ConfigError(
            "expected num_bars >= 1, seed >= 0 and a finite strength. "
            f"Received: num_bars={num_bars}, seed={seed}, strength={strength}."
        )
    step = timeframe_nanoseconds(timeframe)
    try:
        first = int(pd.to_datetime(start, utc=True).as_unit("ns").value)
    except ValueError as error:
        raise ConfigError(f"expected a date. Received: start={start!r}.") from error
    if (first - first_boundary(step)) % step:
        raise ConfigError(
            f"expected a start on a boundary of {timeframe}. Received: start={start}."
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    log_vol = 0.55 * _ar1(rng, num_bars, 600) + 0.25 * _ar1(rng, num_bars, 30)
    minutes = np.arange(num_bars) * (step / (60 * SECOND))
    cycle = 0.35 * np.sin(2 * np.pi * (minutes % 1440) / 1440 - 2.0)
    sigma = 0.00075 * np.exp(log_vol + cycle - 0.5 * (0.55**2 + 0.25**2))
    tilt = _ar1(rng, num_bars, 90)
    shock = rng.standard_t(5, num_bars) / np.sqrt(5 / 3)
    drift = strength * 0.10 * sigma * np.append(0.0, tilt[:-1])
    log_close = np.cumsum(drift + sigma * shock - 0.5 * sigma**2)
    columns = _prices_around(rng, log_close, sigma)
    noise = 0.5 * rng.standard_normal(num_bars)
    columns["volume"] = 40 * np.exp(0.6 * log_vol + cycle + 0.45 * tilt + noise)
    return make_table(first + np.arange(num_bars) * step, columns)


def _prices_around(
    rng: np.random.Generator, log_close: np.ndarray, sigma: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns open, high, low and close, each (num_bars,), from log closes."""
    log_open = np.append(0.0, log_close[:-1])
    # Extremes of a Brownian bridge from open to close.
    up, down = -np.log(rng.random(len(sigma))), -np.log(rng.random(len(sigma)))
    middle, span = 0.5 * (log_open + log_close), (log_close - log_open) ** 2
    price = {
        "open": log_open,
        "high": middle + 0.5 * np.sqrt(span + 2 * sigma**2 * up),
        "low": middle - 0.5 * np.sqrt(span + 2 * sigma**2 * down),
        "close": log_close,
    }
    columns = {name: 30000 * np.exp(values) for name, values in price.items()}
    # Rounding may leave an extreme one unit inside of open and close.
    for name, rule in (("high", np.maximum), ("low", np.minimum)):
        for side in ("open", "close"):
            columns[name] = rule(columns[name], columns[side])
    return columns


def synthetic_stretches(
    lengths: Sequence[int],
    *,
    seeds: Sequence[int],
    strengths: Sequence[float],
    moves: Sequence[float] | None = None,
    timeframe: str = "1m",
    start: str | pd.Timestamp = "2024-01-01",
) -> pd.DataFrame:
    """Draws markets one behind the other, each from the last close of the one before.

    Args:
        lengths: Bars of each.
        seeds: Of each, as in `synthetic_candles`.
        strengths: Of each, likewise.
        moves: What the logarithms of its moves are multiplied by; None: 1.
        timeframe: Distance of the bars.
        start: Open of the first bar, UTC.

    Returns:
        The candle table of all of them.
    """
    moves = moves or [1.0] * len(lengths)
    pieces, first, price = [], pd.to_datetime(start, utc=True), None
    stretches = zip(lengths, seeds, strengths, moves, strict=True)
    for num_bars, seed, strength, factor in stretches:
        piece = synthetic_candles(
            num_bars, seed=seed, strength=strength, timeframe=timeframe, start=first
        )
        begin = piece["open"].iloc[0]
        piece[_PRICES] = (price or begin) * (piece[_PRICES] / begin) ** factor
        price = piece["close"].iloc[-1]
        first += num_bars * pd.Timedelta(timeframe_nanoseconds(timeframe), "ns")
        pieces.append(piece)
    return pd.concat(pieces, ignore_index=True)


def _ar1(rng: np.random.Generator, length: int, half_life_bars: float) -> np.ndarray:
    """Draws a unit-variance AR(1) process (length,)."""
    keep = 0.5 ** (1 / half_life_bars)
    steps = rng.standard_normal(length) * np.sqrt(1 - keep * keep)
    steps[0] = rng.standard_normal()
    # ewm computes y[t] = keep * y[t-1] + (1 - keep) * x[t] from y[0] = x[0].
    steps[1:] /= 1 - keep
    return pd.Series(steps).ewm(alpha=1 - keep, adjust=False).mean().to_numpy()
