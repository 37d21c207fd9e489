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
from config import Config
from dataset import features
from dataset import rows as dataset_rows
from dataset.fingerprints import feature_set_digests
from settings.names import is_other_market
from utils import DataError, RefusedArtifactError

OK, WARMING_UP, GAP, FILLED = "ok", "warming_up", "gap", "filled"


@dataclass(frozen=True, kw_only=True, eq=False)
class NewestBars:
    """The newest bars of a market, with all that a model reads of them.

    Args:
        bars: `timestamp`, the candle columns, `is_filled` and `segment` of the bars of
            the windows, (num_bars,) rows; the last ones are asked for.
        features: (num_bars, num_features) float32, NaN where a bar has no value.
        status: Of the bars that are asked for (num_asked,): `ok`, `filled`,
            `warming_up` (its look-back reaches before the first candle) or `gap`
            (before a gap that is not filled, or a jump of the price).
    """

    bars: pd.DataFrame
    features: np.ndarray
    status: np.ndarray

    @property
    def asked(self) -> pd.DataFrame:
        """The bars that are asked for (num_asked,)."""
        return self.bars.iloc[len(self.bars) - len(self.status) :]


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
        """Bars before the first one that has every feature, wherever candles begin."""
        own, bar = dataset_rows.warm_up_bars(self.config), self.config.bar_seconds
        higher = self.config.higher_timeframes
        longest = max([utils.duration_seconds(each) // bar for each in higher] or [1])
        return own + longest - 1  # a higher bar that began before the candles is left

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
        if len(candles) > 1 and report.timeframe not in (None, timeframe):
            problems = [f"candles of {report.timeframe}"]
        symbol = candles.attrs.get("symbol")
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
            DataError: If no bar can have a whole window.
        """
        window = self.config.sequence_length
        tail = candles.iloc[-(self.min_candles + last - 1) :].reset_index(drop=True)
        filled = dataset_rows.fill_and_resample(tail, self.config)
        if len(filled) < self.min_candles:
            raise DataError(
                f"expected at least {self.min_candles} candles of "
                f"{self.config.timeframe}: {self.warm_up_bars} before the first value "
                f"of {'+'.join(self.config.feature_sets)} and a window of {window}. "
                f"Received: {len(candles)}."
            )
        table = dataset_rows.compute_features(filled, self.config)
        kept = slice(max(0, len(filled) - window - last + 1), None)
        values = table.to_numpy(np.float32)[kept]
        bars = filled.iloc[kept].reset_index(drop=True)
        status = bar_status(bars, values, window_bars=window)[-last:]
        return NewestBars(bars=bars, features=values, status=status)


def bar_status(
    bars: pd.DataFrame, values: np.ndarray, *, window_bars: int
) -> np.ndarray:
    """Returns which bars have a whole window in their segment (num_bars,).

    Args:
        bars: With `is_filled` and `segment`, from 0 for the first candles there are.
        values: Their features (num_bars, num_features).
        window_bars: Bars of a window.
    """
    row, segment = np.arange(len(bars)), bars["segment"].to_numpy()
    begins = np.diff(segment, prepend=segment[:1]) != 0
    has_value = np.isfinite(values).all(axis=1)
    first = np.maximum(np.where(begins, row, 0), np.where(has_value, 0, row + 1))
    whole = row - np.maximum.accumulate(first) + 1 >= window_bars
    status = np.where(bars["is_filled"], FILLED, OK).astype(object)
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
