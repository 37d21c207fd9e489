"""What is known about each bar once it closed. May only look back.

In: named feature sets over one table of candles. Out: their join over timeframes
(`timeframes`), anything about later bars (`labels`), scaling and the dropping of rows
(`data_loader`).

Row `t` reads bars up to and including `t`, of its own segment only. The first
`warm_up_bars` rows of a segment have no value: NaN in every column. Every other value
is finite. A window's value depends on its own bars alone, bit for bit, wherever the
table starts (`indicators.fold_window`): what was trained on is what a live program
computes from the last bars. Only `indicators34` remembers more, see there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from candles.columns import VALUES, require_columns
from candles.timestamps import nanoseconds_of
from dataset import indicators
from dataset.beside_prices import (
    clock_columns,
    funding_bars,
    funding_columns,
    open_interest_columns,
)
from dataset.feature_sets import (
    Columns,
    FeatureContext,
    FeatureFunction,
    FeatureSet,
    WarmUp,
)
from dataset.indicators import rolling_mean_std
from dataset.timeframes import segment_ranges
from utils import ConfigError, DataError, did_you_mean, duration_seconds

FEATURE_VERSION = "2"
"""Part of every cache key: raised when a built-in set gives other numbers."""


_REGISTRY: dict[str, FeatureSet] = {}


def register_feature_set(
    name: str,
    function: FeatureFunction,
    *,
    warm_up_bars: WarmUp,
    reads: Sequence[str] = VALUES,
) -> None:
    """Adds or replaces a feature set.

    Args:
        name: The name to ask for it by.
        function: Takes the candles of one gapless segment and the `FeatureContext`,
            returns a table with one row a candle, or its columns by name. It must not
            look ahead: the tests of this module show how that is checked.
        warm_up_bars: Leading rows of a segment without a value, or a function of the
            context that gives their number.
        reads: Candle columns that the function reads.

    Raises:
        ValueError: If `name` or `warm_up_bars` cannot be used.
    """
    if not name.isidentifier():
        raise ValueError(
            "`name`: expected letters, digits and underscores, such as 'my_features'. "
            f"Received: name={name!r}"
        )
    if not callable(warm_up_bars) and warm_up_bars < 0:
        raise ValueError(
            "`warm_up_bars`: expected a whole number of at least 0. "
            f"Received: warm_up_bars={warm_up_bars}"
        )
    _REGISTRY[name] = FeatureSet(name, function, warm_up_bars, tuple(reads))


def feature_set(
    name: str, *, warm_up_bars: WarmUp, reads: Sequence[str] = VALUES
) -> Callable[[FeatureFunction], FeatureFunction]:
    """Registers the decorated function; the arguments are `register_feature_set`'s.

    Example:
        >>> @feature_set("mine", warm_up_bars=20)
        ... def mine(candles, context):
        ...     mean = candles["close"].rolling(21).mean()
        ...     return pd.DataFrame({"price_to_my_mean": candles["close"] / mean})
    """

    def register(function: FeatureFunction) -> FeatureFunction:
        register_feature_set(name, function, warm_up_bars=warm_up_bars, reads=reads)
        return function

    return register


def feature_set_names() -> tuple[str, ...]:
    """Returns the names of all registered sets."""
    return tuple(_REGISTRY)


def feature_names(
    feature_sets: Sequence[str] = ("core8",),
    timeframe: str = "1m",
    *,
    raw_prices: bool = False,
) -> tuple[str, ...]:
    """Returns the columns of `compute_features`, in order, without any data.

    Raises:
        ConfigError: If a set is unknown.
    """
    context = FeatureContext(timeframe, raw_prices)
    sets = find_feature_sets(feature_sets)
    # A name in two sets means the same thing in both, so it appears once.
    return tuple(dict.fromkeys(name for item in sets for name in item.names(context)))


def warm_up_bars(
    feature_sets: Sequence[str] = ("core8",), timeframe: str = "1m"
) -> int:
    """Returns how many leading rows of every segment have no value.

    Raises:
        ConfigError: If a set is unknown.
    """
    context = FeatureContext(timeframe)
    return max(item.warm_up_bars(context) for item in find_feature_sets(feature_sets))


def compute_features(
    candles: pd.DataFrame,
    *,
    timeframe: str,
    feature_sets: Sequence[str] = ("core8",),
    raw_prices: bool = False,
    newest: int | None = None,
) -> pd.DataFrame:
    """Computes the named feature sets, side by side.

    Args:
        candles: Candle table, `(num_bars,)` rows. Without a `segment` column the
            segments come from the timestamps; without those the table is one segment.
        timeframe: Length of a bar, such as `"1m"`.
        feature_sets: Names of registered sets.
        raw_prices: Give absolute prices instead of ratios, where a set has them.
        newest: Bars at the end that are asked for; None: all.

    Returns:
        A float32 table with the index of the bars that are asked for, and the columns
        that `feature_names` gives. The first `warm_up_bars` rows of every segment are
        NaN in every column, all other values are finite.

    Raises:
        ConfigError: If a set is unknown.
        DataError: If a candle column is missing, or a set breaks its contract.
    """
    context = FeatureContext(timeframe, raw_prices, newest)
    sets = find_feature_sets(feature_sets)
    reads = dict.fromkeys(name for item in sets for name in item.reads)
    require_columns(candles, tuple(reads))
    names = feature_names(feature_sets, timeframe, raw_prices=raw_prices)
    begin = 0 if newest is None else max(0, len(candles) - newest)
    values = np.full((len(names), len(candles) - begin), np.nan, np.float32)
    for start, stop in segment_ranges(candles, timeframe):
        first = max(start + warm_up_bars(feature_sets, timeframe), begin)
        if stop <= first:
            continue
        kept = dict(zip(names, values[:, first - begin : stop - begin], strict=True))
        _fill(kept, candles.iloc[start:stop], sets, context, range(first, stop))
    return pd.DataFrame(values.T, index=candles.index[begin:], columns=names)


def newest_features(
    candles: Columns,
    *,
    timeframe: str,
    feature_sets: Sequence[str],
    raw_prices: bool,
) -> np.ndarray | None:
    """Returns the newest bar's features (num_features,) float32, without any table.

    They are those of `compute_features` of one segment, for which tables take half of
    the time. None where a set is one of the user's, who is promised a table.

    Args:
        candles: Columns of a gapless segment longer than the warm-up, by name;
            `timestamp` as int64 nanoseconds.
        timeframe: As in `compute_features`, like those below.
        feature_sets: Names of registered sets.
        raw_prices: Give absolute prices.
    """
    sets = find_feature_sets(feature_sets)
    if not all(item.is_built_in for item in sets):
        return None
    names = feature_names(feature_sets, timeframe, raw_prices=raw_prices)
    values = np.full((len(names), 1), np.nan, np.float32)
    last = len(candles["close"]) - 1
    kept = dict(zip(names, values, strict=True))
    context = FeatureContext(timeframe, raw_prices, newest=1)
    _fill(kept, candles, sets, context, range(last, last + 1))
    return values[:, 0]


def _fill(
    kept: Columns,
    segment: pd.DataFrame | Columns,
    sets: Sequence[FeatureSet],
    context: FeatureContext,
    rows: range,
) -> None:
    """Computes the last rows of a segment into `kept`."""
    filled = set()
    for item in sets:
        columns = item.compute(segment, context)
        if tuple(columns) != (wanted := item.names(context)):
            raise DataError(
                f"feature set '{item.name}': expected the columns {wanted} for any "
                f"candles. Received: {tuple(columns)}."
            )
        for name, cells in columns.items():
            column = _checked_column(item, name, cells, rows)
            if name in filled:
                _require_same(item, name, column, kept[name])
            else:
                kept[name][:] = column
                filled.add(name)


# Feature sets


def _month_warm_up(context: FeatureContext) -> int:
    return context.month_bars - 1


@feature_set("core8", warm_up_bars=_month_warm_up)
def _core8(candles: indicators.Candles, context: FeatureContext) -> Columns:
    """The eight features of V3 files (docs/contracts.md), in the model's column order.

    Their means are those of the last day and 30 days.
    """
    return indicators.core8(
        candles, (context.day_bars, context.month_bars), context.newest
    )


def _week_warm_up(context: FeatureContext) -> int:
    return context.week_bars - 1


@feature_set("core8_7d", warm_up_bars=_week_warm_up)
def _core8_7d(candles: indicators.Candles, context: FeatureContext) -> Columns:
    """The eight of `core8` with means of the last day and 7 days, for fewer candles."""
    return indicators.core8(
        candles, (context.day_bars, context.week_bars), context.newest
    )


_STATS_WINDOWS = (5, 15, 60, 120)


def _stats_warm_up(context: FeatureContext) -> int:
    return _month_warm_up(context) + max(_STATS_WINDOWS) - 1


@feature_set("window_stats", warm_up_bars=_stats_warm_up)
def _window_stats(candles: indicators.Candles, context: FeatureContext) -> Columns:
    """Mean and sample standard deviation of the core features over four windows."""
    newest = context.newest
    reach = None if newest is None else newest + max(_STATS_WINDOWS) - 1
    core = indicators.core8(candles, (context.day_bars, context.month_bars), reach)
    features: Columns = {}
    for bars in _STATS_WINDOWS:
        for name, values in core.items():
            mean, std = rolling_mean_std(values, bars)
            # 64 columns: float64 would double the peak memory for nothing.
            features[f"{name}_mean{bars}"] = mean.astype(np.float32)
            features[f"{name}_std{bars}"] = std.astype(np.float32)
    return features


@feature_set("ray12", warm_up_bars=indicators.EMA_WINDOW - 1)
def _ray12(candles: indicators.Candles, context: FeatureContext) -> Columns:
    """Twelve features of the last bars, see `indicators.ray12`."""
    return indicators.ray12(candles, raw=context.raw_prices)


@feature_set("indicators34", warm_up_bars=indicators.INDICATORS34_WARM_UP)
def _indicators34(candles: indicators.Candles, context: FeatureContext) -> Columns:
    """Technical indicators, see `indicators.indicators34`."""
    return indicators.indicators34(candles, raw=context.raw_prices)


@feature_set("calendar", warm_up_bars=0, reads=("timestamp",))
def _calendar(candles: indicators.Candles, context: FeatureContext) -> Columns:
    """The hour, the weekday and the time to funding, see `clock_columns`."""
    opens = candles["timestamp"]
    if isinstance(opens, pd.Series):
        opens = nanoseconds_of(opens)
    opens = opens[-(context.newest or len(opens)) :]
    return clock_columns(opens, duration_seconds(context.timeframe))


def _funding_warm_up(context: FeatureContext) -> int:
    return funding_bars(duration_seconds(context.timeframe))


@feature_set("funding", warm_up_bars=_funding_warm_up, reads=("funding_rate",))
def _funding(candles: indicators.Candles, context: FeatureContext) -> Columns:
    """The last funding rate and its change, see `funding_columns`."""
    (rates,) = indicators.columns(candles, "funding_rate")
    return funding_columns(rates, duration_seconds(context.timeframe))


@feature_set("open_interest", warm_up_bars=_week_warm_up, reads=("open_interest",))
def _open_interest(candles: indicators.Candles, context: FeatureContext) -> Columns:
    """Open interest against the bar before and 7 days, see `open_interest_columns`."""
    (contracts,) = indicators.columns(candles, "open_interest")
    return open_interest_columns(
        contracts, context.week_bars, raw=context.raw_prices, newest=context.newest
    )


# Checks and look-ups


def find_feature_sets(names: Sequence[str]) -> list[FeatureSet]:
    """Returns the registered sets of these names, each once.

    Raises:
        ConfigError: If a set is unknown.
    """
    if isinstance(names, str) or not names:
        raise ConfigError(
            "`feature_sets`: expected a list of one or more names such as ['core8']. "
            f"Received: feature_sets={names!r}"
        )
    for name in names:
        if name not in _REGISTRY:
            raise ConfigError(
                f"`feature_sets`: expected names out of {', '.join(_REGISTRY)}. "
                f"Received: {name!r}.{did_you_mean(name, _REGISTRY)}"
            )
    return [_REGISTRY[name] for name in dict.fromkeys(names)]


def _checked_column(
    item: FeatureSet, name: str, column: np.ndarray, rows: range
) -> np.ndarray:
    """Returns the values of the last rows as float32, all finite."""
    with np.errstate(over="ignore"):
        values = column[-len(rows) :].astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(
            f"feature set '{item.name}': expected finite values after its warm-up. "
            f"Received: {len(bad)} bad values in '{name}', first at row "
            f"{rows[bad[0]]}. Raise its `warm_up_bars`, or repair the value "
            "inside the function."
        )
    return values


def _require_same(
    item: FeatureSet, name: str, column: np.ndarray, kept: np.ndarray
) -> None:
    # Recursive averages start differently: equal to rounding, not to the bit.
    if not np.allclose(column, kept, rtol=1e-4, atol=1e-6):
        raise DataError(
            f"feature set '{item.name}': expected '{name}' to mean what it means in an "
            "earlier set. Received: other values. Rename the column."
        )
