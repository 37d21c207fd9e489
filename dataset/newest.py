"""Features of new candles, made as those of a training file were.

In: what an artifact says of its features, held against what is registered here; which
of the newest bars have a whole window, and why others have none. Out: how a feature is
computed (`rows`, `features`), what a model says of a window (`predictor`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import utils
from candles.checks import check_candles
from candles.formats import as_table
from candles.table import longest_fill
from candles.timestamps import nanoseconds_of
from config import Config
from dataset import features, indicators
from dataset import rows as dataset_rows
from dataset.fingerprints import feature_set_digests
from settings.names import is_other_market
from utils import DataError, RefusedArtifactError

_SETTLING_BARS = {"indicators34": indicators.INDICATORS34_WARM_UP}
"""What recursive sets read beyond their warm-up."""

OK, WARMING_UP, GAP, FILLED = "ok", "warming_up", "gap", "filled"


@dataclass(frozen=True, kw_only=True, eq=False)
class NewestBars:
    """The newest bars of a market, with all that a model reads of them.

    Args:
        opens: Open of each bar of the windows (num_bars,), int64 nanoseconds; the last
            ones are asked for.
        close: Their closes (num_bars,).
        features: (num_bars, num_features) float32, NaN where a bar has no value.
        status: Of the bars that are asked for (num_asked,): `ok`, `filled`,
            `warming_up` (its look-back reaches before the first candle) or `gap`
            (before a gap that is not filled, or a jump of the price).
    """

    opens: np.ndarray
    close: np.ndarray
    features: np.ndarray
    status: np.ndarray

    @property
    def first(self) -> int:
        """Row of the first bar that is asked for."""
        return len(self.opens) - len(self.status)


@dataclass(frozen=True, kw_only=True)
class FeatureRecipe:
    """How the features of a model are made of candles.

    Args:
        config: Pair, timeframe, feature sets, what is filled, the window's length.
        feature_names: The model's features, in its order.
        digests: Digest of each feature set when the training file was built; None where
            it was not told.
    """

    config: Config
    feature_names: tuple[str, ...]
    digests: Mapping[str, str | None]

    @classmethod
    def of(
        cls, data: Mapping[str, Any], config: Config, names: tuple[str, ...]
    ) -> FeatureRecipe:
        """Takes what the metadata of an artifact say of the data.

        Raises:
            DataError: If the training file has no description of ours.
            RefusedArtifactError: If its features cannot be made here.
        """
        if not data.get("built_by_us"):
            raise DataError(
                "expected a model whose training file was built by dataset_builder.py, "
                "which says how its features are made. Received: one of a file, or a "
                "DataFrame, without that description. Compute its features where the "
                "file was made, and give them to predict_window or predict_windows."
            )
        digests = data.get("feature_digests")
        recipe = cls(
            config=config,
            feature_names=names,
            digests=digests if isinstance(digests, dict) else {},
        )
        recipe._require_known_sets()
        return recipe

    def _require_known_sets(self) -> None:
        sets, cure = self.config.feature_sets, "Give the file that registers it."
        absent = [name for name in sets if name not in features.feature_set_names()]
        if absent:
            raise RefusedArtifactError(
                f"expected the feature sets {', '.join(sets)}. Received: no "
                f"{', '.join(absent)} among {', '.join(features.feature_set_names())}. "
                f"{cure}"
            )
        for name, digest in feature_set_digests(sets).items():
            trained = self.digests.get(name)
            if trained is not None and trained != digest:
                raise RefusedArtifactError(
                    f"feature set {name!r}: expected the source that the model was "
                    f"trained with, sha256 {trained}. Received: {digest}. Bring that "
                    "source back, or train again with this one."
                )
        known = features_of(self.config)
        if known != self.feature_names:
            raise RefusedArtifactError(
                f"expected the features {', '.join(self.feature_names)}. Received, of "
                f"the feature sets {', '.join(sets)}: {', '.join(known)}."
            )

    @property
    def warm_up_bars(self) -> int:
        """Bars before the first one that has every feature, wherever candles begin.

        A higher bar that began before the candles is left out. Recursive features have
        twice their warm-up, after which they have the bits of any longer history.
        """
        config = self.config
        higher = map(utils.duration_seconds, config.higher_timeframes)
        longest = max(higher, default=config.bar_seconds) // config.bar_seconds
        settling = max(_SETTLING_BARS.get(name, 0) for name in config.feature_sets)
        return dataset_rows.warm_up_bars(config) + longest - 1 + settling * longest

    @property
    def min_candles(self) -> int:
        """Consecutive bars that end at one with a whole window."""
        return self.warm_up_bars + self.config.sequence_length

    def checked(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns a candle table of the model's market, or refuses another.

        Raises:
            DataError: If it is of another pair or timeframe, unsorted, or not good.
        """
        if not isinstance(table, pd.DataFrame):
            raise DataError(
                "expected candles as a DataFrame with named columns. Received: "
                f"{type(table).__name__}. Read them with candles.read_candles."
            )
        pair, timeframe = self.config.pair, self.config.timeframe
        candles = as_table(table)
        report = check_candles(candles, timeframe=timeframe, with_doubts=False)
        problems = list(report.problems)
        named = [name for name in ("timestamp", "date") if name in table]
        times = pd.Index(table[named[0]] if named else table.index)
        is_ordered = times.is_monotonic_increasing and times.is_unique
        if not problems and times.dtype.kind == "M" and not is_ordered:
            problems.append("rows out of their order, or twice")
        if len(candles) > 1 and report.timeframe not in (None, timeframe):
            problems = [f"candles of {report.timeframe}"]
        symbol = candles.attrs.get("symbol")
        for name in ("symbol", "pair"):
            symbol = str(table[name].iloc[-1]) if name in table else symbol
        if symbol is not None and is_other_market(symbol, pair):
            problems.append(f"{symbol!r} in a column")
        if problems:
            raise DataError(
                f"expected candles of {pair}, {timeframe}, in order of time. Received: "
                f"{'; '.join(problems)}."
            )
        return candles

    def newest(self, candles: pd.DataFrame, *, last: int = 1) -> NewestBars:
        """Returns the last bars of a candle table, with the features of their windows.

        Only the candles that these need are looked at, so that a table of years takes
        no longer than one of the fewest candles.

        Args:
            candles: From `checked`.
            last: Bars that are asked for; fewer where there are fewer.

        Raises:
            DataError: If there are too few for a whole window.
        """
        tail = self.tail(candles, last)
        filled = dataset_rows.fill_and_resample(tail, self.config)
        if len(tail) == len(candles) and len(filled) < self.min_candles:
            window = self.config.sequence_length
            raise DataError(
                f"expected at least {self.min_candles} candles of "
                f"{self.config.timeframe}: {self.warm_up_bars} before the first value "
                f"of {'+'.join(self.config.feature_sets)} and a window of {window}. "
                f"Received: {len(candles)}."
            )
        return self.describe(filled, last)

    def tail(self, candles: pd.DataFrame, last: int = 1) -> pd.DataFrame:
        """Returns the candles that the last bars need, with any gaps in them."""
        config = self.config
        reach = self.min_candles + last - 1
        # One that is missing at the edge is filled from a candle before it.
        reach += longest_fill(config.max_fill_bars, config.timeframe)
        times = candles["timestamp"]
        span = pd.Timedelta(config.bar_seconds, "s") * (reach - 1)
        first = int((times < times.iloc[-1] - span).to_numpy().sum())
        # One more tells a gap, however long, from the first candles there are.
        return candles.iloc[max(0, first - 1) :].reset_index(drop=True)

    def describe(self, filled: pd.DataFrame, last: int) -> NewestBars:
        """Returns the last of filled bars, with the features of their windows."""
        window = self.config.sequence_length
        kept = slice(max(0, len(filled) - window - last + 1), None)
        table = dataset_rows.compute_features(filled, self.config)
        values = table.to_numpy(np.float32)[kept]
        bars = filled.iloc[kept]
        status = bar_status(
            values,
            bars["is_filled"].to_numpy(),
            bars["segment"].to_numpy(),
            window_bars=window,
        )
        return NewestBars(
            opens=nanoseconds_of(bars["timestamp"]),
            close=bars["close"].to_numpy(),
            features=values,
            status=status[-last:],
        )


def bar_status(
    features: np.ndarray,
    is_filled: np.ndarray,
    segment: np.ndarray,
    *,
    window_bars: int,
) -> np.ndarray:
    """Returns which bars have a whole window in their segment (num_bars,).

    Args:
        features: (num_bars, num_features), NaN where a bar has no value.
        is_filled: (num_bars,).
        segment: (num_bars,), from 0 for the first candles there are.
        window_bars: Bars of a window.
    """
    row = np.arange(len(segment))
    begins = np.diff(segment, prepend=segment[:1]) != 0
    has_value = np.isfinite(features).all(axis=1)
    first = np.maximum(np.where(begins, row, 0), np.where(has_value, 0, row + 1))
    whole = row - np.maximum.accumulate(first) + 1 >= window_bars
    status = np.where(is_filled, FILLED, OK).astype(object)
    status[~whole] = np.where(segment[~whole] > 0, GAP, WARMING_UP)
    return status


def features_of(config: Config) -> tuple[str, ...]:
    """Returns the names of a configuration's features, in the order of its files."""
    names = list(
        features.feature_names(
            config.feature_sets, config.timeframe, raw_prices=config.raw_prices
        )
    )
    for higher in config.higher_timeframes:
        inner = features.feature_names(
            config.feature_sets, higher, raw_prices=config.raw_prices
        )
        names += [f"{name}_{higher}" for name in inner]
    return tuple(names)
