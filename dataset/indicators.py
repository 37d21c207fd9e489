"""Mathematics over the last bars of one gapless stretch of candles.

In: windows folded from halves, and the indicator sets. Out: segments, warm-up and
registration (`features`).

Absolute prices and volumes have no stable scale, so they are given as ratios; `raw`
gives the levels. A level of volume becomes its ratio to the mean over the set's longest
window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import numpy as np
import pandas as pd

from utils import DependencyError

EMA_WINDOW = 256
"""Bars of an exponential mean in `ray12`: span 26 keeps 3e-9 of its weight beyond."""

INDICATORS34_WARM_UP = 300
"""Bars after which the slowest recursion (EMA 26) has 1e-10 of its start left."""


_FEW = 4
"""Up to so many bars are folded each by itself."""

Candles = pd.DataFrame | Mapping[str, np.ndarray]
"""A table, or its columns by name."""

Combine = Callable[[np.ndarray, np.ndarray, int, int], np.ndarray]


def columns(candles: Candles, *names: str) -> list[np.ndarray]:
    """Returns the named columns as float64 arrays, `(num_bars,)` each."""
    return [np.asarray(candles[name], np.float64) for name in names]


def rolling_mean(
    values: np.ndarray, window: int, newest: int | None = None
) -> np.ndarray:
    """Returns the mean of the last `window` values, `(num_bars,)`; NaN before.

    Where only the `newest` bars are asked for, others are left out.
    """
    return fold_window(values[None], window, _add, newest=newest)[0] / window


def rolling_mean_std(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and sample standard deviation of the last `window` values.

    Halves are merged as in Chan, Golub and LeVeque (1979): exactly 0 for equal values,
    where a difference of sums of squares leaves noise.

    Args:
        values: `(num_bars,)`.
        window: Bars, at least 2.

    Returns:
        Two arrays, `(num_bars,)` each; NaN where the window is not full.
    """
    state = np.stack([values, np.zeros(len(values))])
    mean, squares = fold_window(state, window, _merge_moments)
    return mean, np.sqrt(squares / (window - 1))


def exponential_mean(values: np.ndarray, span: int) -> np.ndarray:
    """Returns the mean of the last 256 values weighted by `(1 - 2/(span+1))**age`."""
    keep = 1 - 2 / (span + 1)

    def combine(newer: np.ndarray, older: np.ndarray, age: int, _: int) -> np.ndarray:
        return newer + keep**age * older

    total = fold_window(values[None], EMA_WINDOW, combine)[0]
    return total * ((1 - keep) / (1 - keep**EMA_WINDOW))


def _merge_moments(
    newer: np.ndarray, older: np.ndarray, num_newer: int, num_older: int
) -> np.ndarray:
    """Merges (mean, sum of squared deviations) of two stretches."""
    share = num_older / (num_newer + num_older)
    apart = older[0] - newer[0]
    mean = newer[0] + apart * share
    return np.stack([mean, newer[1] + older[1] + apart**2 * (num_newer * share)])


def _add(newer: np.ndarray, older: np.ndarray, _: int, __: int) -> np.ndarray:
    return newer + older


def fold_window(
    state: np.ndarray,
    window: int,
    combine: Combine,
    *,
    newest: int | None = None,
) -> np.ndarray:
    """Folds the last `window` bars of `state`, `(num_values, num_bars)`, at every bar.

    Windows of 1, 2, 4, ... bars are each combined from two halves, and the wanted one
    from those powers of two: log2(window) vector operations, an error that grows with
    log2(window), and no running sum whose rounding depends on where it started.

    Args:
        state: What one bar contributes.
        window: Bars to fold, at least 1.
        combine: Takes the states of the newer and the older half and their lengths.
        newest: Bars at the end that are asked for; None: all.

    Returns:
        The folded state `(num_values, num_bars)` of the bars that are asked for, NaN
        where the window is not full: the same bits whatever is asked for.
    """
    if newest is not None:
        if newest > _FEW:
            state = state[..., -(window + newest - 1) :]
            return fold_window(state, window, combine)[..., -newest:]
        return _fold_few(state, window, combine, newest)
    num_bars = state.shape[-1]
    result = np.full(state.shape, np.nan)
    if num_bars < window:
        return result
    # Position i of `part` folds bars i .. i+size-1; `folded` holds `covered` bars.
    part, size = state, 1
    folded, covered = None, 0
    while True:
        if window & size:
            if folded is None:
                folded = part
            else:
                length = num_bars - covered - size + 1
                older, newer = part[..., :length], folded[..., size : size + length]
                folded = combine(newer, older, covered, size)
            covered += size
        if covered == window:
            break
        part = combine(part[..., size:], part[..., :-size], size, size)
        size *= 2
    result[..., window - 1 :] = folded
    return result


def _fold_few(
    state: np.ndarray, window: int, combine: Combine, newest: int
) -> np.ndarray:
    """Folds the windows of the newest bars, each by itself."""
    num_bars = state.shape[-1]
    result = np.full((*state.shape[:-1], min(newest, num_bars)), np.nan)
    for stop in range(max(window, num_bars - newest + 1), num_bars + 1):
        folded = _fold_one(state[..., stop - window : stop], combine)
        result[..., stop - 1 - num_bars] = folded
    return result


def _fold_one(state: np.ndarray, combine: Combine) -> np.ndarray:
    """Folds one window, `(num_values, window)`, in the order of `fold_window`."""
    # `part` holds the bars that are not in `folded` yet, in stretches of `size`.
    part, size, window = state, 1, state.shape[-1]
    folded, covered = None, 0
    while True:
        if window & size:
            last, part = part[..., -1], part[..., :-1]
            folded = last if folded is None else combine(folded, last, covered, size)
            covered += size
        if covered == window:
            return folded  # type: ignore[return-value]
        part = combine(part[..., 1::2], part[..., ::2], size, size)
        size *= 2


def shifted(values: np.ndarray, bars: int) -> np.ndarray:
    """Returns the values of `bars` bars ago, `(num_bars,)`; NaN before."""
    result = np.full(len(values), np.nan)
    result[bars:] = values[: max(0, len(values) - bars)]
    return result


def ratio(
    numerator: np.ndarray, denominator: np.ndarray, *, otherwise: float = 0.0
) -> np.ndarray:
    """Returns the quotient, and `otherwise` where it is not finite."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = numerator / denominator
    return np.where(np.isfinite(quotient), quotient, otherwise)


# Indicator sets


def core8(
    candles: Candles, windows: Sequence[int], newest: int | None = None
) -> dict[str, np.ndarray]:
    """Changes of a bar, and ratios to means of two windows, 8 x `(num_bars,)`.

    Percent changes against the previous close (volume: the previous volume), and ratios
    to the means. Where a bar is a day or longer there is no ratio to the day: it would
    always be 1. A volume change from nothing is 0, a volume ratio to nothing is 1.
    Where only the `newest` bars are asked for, others are left out.
    """
    whole = columns(candles, "high", "low", "close", "volume")
    num_bars = len(whole[0])
    asked = num_bars if newest is None else min(newest, num_bars)
    first = num_bars - asked
    high, low, close, volume = (values[first:] for values in whole)
    previous, before = (
        shifted(values[max(0, first - 1) :], 1)[-asked:] for values in whole[2:]
    )
    features = {
        "high_change": 100 * (high - previous) / previous,
        "low_change": 100 * (low - previous) / previous,
        "close_change": 100 * (close - previous) / previous,
        "volume_change": 100 * ratio(volume - before, before),
    }
    windows = [bars for bars in windows if bars > 1]
    for bars in windows:
        mean = rolling_mean(whole[2], bars, newest)
        features[f"price_to_ma{bars}"] = close / mean
    for bars in windows:
        mean = rolling_mean(whole[3], bars, newest)
        features[f"volume_to_ma{bars}"] = ratio(volume, mean, otherwise=1.0)
    return features


def ray12(candles: Candles, *, raw: bool = False) -> dict[str, np.ndarray]:
    """Twelve features of the last bars, `(num_bars,)` each.

    Conventions: changes as fractions, sample standard deviation of the close, RSI
    from simple means, MACD line 12-26 from normalised exponential weights.
    """
    high, low, close, volume = columns(candles, "high", "low", "close", "volume")
    (open_,) = columns(candles, "open")
    means = {bars: rolling_mean(close, bars) for bars in (5, 10, 20)}
    stds = {bars: rolling_mean_std(close, bars)[1] for bars in (5, 10)}
    volume_mean = rolling_mean(volume, 5)
    macd = exponential_mean(close, 12) - exponential_mean(close, 26)
    features = {
        "price_change": close / shifted(close, 1) - 1,
        "high_low_ratio": high / low,
        "open_close_ratio": open_ / close,
    }
    for bars, mean in means.items():
        features |= _level(f"ma_{bars}", f"ma{bars}", mean, close, raw)
    if raw:
        features |= {f"volatility_{bars}": std for bars, std in stds.items()}
        features["volume_ma_5"] = volume_mean
    else:
        features |= {
            f"volatility_{n}_pct": 100 * std / close for n, std in stds.items()
        }
        features["volume_ma5_to_ma20"] = ratio(
            volume_mean, rolling_mean(volume, 20), otherwise=1.0
        )
    features["volume_to_ma5"] = ratio(volume, volume_mean, otherwise=1.0)
    features["rsi_14"] = _simple_rsi(close, 14)
    features["macd" if raw else "macd_pct"] = macd if raw else 100 * macd / close
    return features


def indicators34(candles: Candles, *, raw: bool = False) -> dict[str, np.ndarray]:
    """Thirty-four technical indicators, `(num_bars,)` each.

    TA-Lib gives EMA, MACD 12/26/9, stochastic 14/3/3, CCI 20, ROC 12, TRIX 15, MFI 14,
    ADX 14 and the bands (20, 2). RSI and ATR are simple means here, where TA-Lib has
    Wilder's. Keltner channel: EMA 20 and twice the simple ATR 20.

    OBV, accumulation / distribution and VWAP usually sum from the start of a file,
    which a live program cannot repeat. Here they sum the last 20 bars, the first two
    as a share of the volume (in [-1, 1]; the second is Chaikin's money flow).

    Raises:
        DependencyError: If TA-Lib is not installed.
    """
    features = _trend(candles, raw) | _momentum(candles, raw)
    features |= _channels(candles, raw) | _volume(candles, raw)
    open_, high, low, close = columns(candles, "open", "high", "low", "close")
    features["returns"] = close / shifted(close, 1) - 1
    features["log_returns"] = np.log(close / shifted(close, 1))
    features["high_low_ratio"] = high / low
    features["close_open_ratio"] = close / open_
    return features


def _trend(candles: Candles, raw: bool) -> dict[str, np.ndarray]:
    """Averages, MACD and ADX."""
    talib = _talib()
    high, low, close = columns(candles, "high", "low", "close")
    features: dict[str, np.ndarray] = {}
    for bars in (10, 20, 50):
        mean = rolling_mean(close, bars)
        features |= _level(f"sma_{bars}", f"ma{bars}", mean, close, raw)
    for bars in (12, 26):
        mean = talib.EMA(close, bars)
        features |= _level(f"ema_{bars}", f"ema{bars}", mean, close, raw)
    lines = talib.MACD(close, fastperiod=12, slowperiod=26, signalperiod=9)
    for name, line in zip(("macd", "macd_signal", "macd_hist"), lines, strict=True):
        features[name if raw else f"{name}_pct"] = line if raw else 100 * line / close
    features["adx_14"] = talib.ADX(high, low, close, 14)
    return features


def _momentum(candles: Candles, raw: bool) -> dict[str, np.ndarray]:
    """Oscillators; `raw` makes no difference to numbers without a unit."""
    talib = _talib()
    high, low, close = columns(candles, "high", "low", "close")
    stoch_k, stoch_d = talib.STOCH(
        high, low, close, fastk_period=14, slowk_period=3, slowd_period=3
    )
    return {
        "rsi_14": _simple_rsi(close, 14),
        "stoch_k": stoch_k,
        "stoch_d": stoch_d,
        "cci_20": talib.CCI(high, low, close, 20),
        "roc_12": talib.ROC(close, 12),
        "trix_15": talib.TRIX(close, 15),
    }


def _channels(candles: Candles, raw: bool) -> dict[str, np.ndarray]:
    """Average true range, Bollinger bands and Keltner channel."""
    talib = _talib()
    high, low, close = columns(candles, "high", "low", "close")
    true_range = talib.TRANGE(high, low, close)
    atr, wide_atr = rolling_mean(true_range, 14), rolling_mean(true_range, 20)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    centre = talib.EMA(close, 20)
    features = {"atr_14" if raw else "atr_14_pct": atr if raw else 100 * atr / close}
    for name, band in (("upper", upper), ("middle", middle), ("lower", lower)):
        features |= _level(f"bb_{name}", f"bb_{name}", band, close, raw)
    features["bb_width"] = (upper - lower) / middle
    features["bb_position"] = ratio(close - lower, upper - lower, otherwise=0.5)
    for name, sign in (("upper", 1), ("middle", 0), ("lower", -1)):
        band = centre + 2 * sign * wide_atr
        features |= _level(f"keltner_{name}", f"keltner_{name}", band, close, raw)
    return features


def _volume(candles: Candles, raw: bool) -> dict[str, np.ndarray]:
    """Volume flows over 20 bars, MFI and the volume's own level."""
    talib = _talib()
    high, low, close, volume = columns(candles, "high", "low", "close", "volume")
    typical = (high + low + close) / 3
    mean = rolling_mean(volume, 20)
    place = ratio(2 * close - high - low, high - low)
    signed = rolling_mean(np.sign(close - shifted(close, 1)) * volume, 20)
    placed = rolling_mean(place * volume, 20)
    vwap = ratio(rolling_mean(typical * volume, 20), mean, otherwise=np.nan)
    vwap = np.where(np.isnan(vwap), rolling_mean(typical, 20), vwap)
    features = {
        "obv_20": 20 * signed if raw else ratio(signed, mean),
        "ad_20": 20 * placed if raw else ratio(placed, mean),
        "mfi_14": talib.MFI(high, low, close, volume, 14),
    }
    features |= _level("vwap_20", "vwap20", vwap, close, raw)
    if raw:
        features["volume_sma_20"] = mean
    else:
        features["volume_ma20_to_ma50"] = ratio(
            mean, rolling_mean(volume, 50), otherwise=1.0
        )
    features["volume_to_ma20"] = ratio(volume, mean, otherwise=1.0)
    return features


def _level(
    name: str, short: str, level: np.ndarray, close: np.ndarray, raw: bool
) -> dict[str, np.ndarray]:
    """Names a price level: itself if raw, else the close's ratio to it."""
    return {name: level} if raw else {f"price_to_{short}": close / level}


def _simple_rsi(close: np.ndarray, bars: int) -> np.ndarray:
    """Relative strength from simple means, in [0, 100]; 50 where nothing moved."""
    change = close - shifted(close, 1)
    gain = rolling_mean(np.maximum(change, 0), bars)
    loss = rolling_mean(np.maximum(-change, 0), bars)
    rsi = 100 * ratio(gain, gain + loss, otherwise=0.5)
    return np.where(np.isnan(gain), np.nan, rsi)


def _talib() -> ModuleType:
    try:
        import talib
    except ImportError as error:
        raise DependencyError(
            "feature set 'indicators34': expected TA-Lib to be installed. "
            "Run `pip install -r requirements-features.txt`."
        ) from error
    return talib
