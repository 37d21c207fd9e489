"""Steps on candles: checked, gaps filled, features computed as a training file's were.

In: the features that a pipeline was made for, held against what is registered here.
Out: how a feature is computed (`dataset.rows`, `dataset.features`), what is learned
from rows (`row_kinds`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

import utils
from candles.checks import check_candles
from candles.formats import as_table
from candles.table import longest_fill
from candles.timestamps import nanoseconds_of
from config import Config
from dataset import blocks, features, indicators
from dataset import rows as dataset_rows
from dataset.fingerprints import feature_set_digests
from preprocessing.row_kinds import FeatureRows
from settings.label_fields import MAX_FILL_BARS
from settings.names import is_other_market
from utils import DataError, RefusedArtifactError

State = Mapping[str, Any]

_SETTLING_BARS = {"indicators34": indicators.INDICATORS34_WARM_UP}
"""What recursive sets read beyond their warm-up."""


class CandleKind:
    """What steps on candles have in common."""

    reads: ClassVar[str] = "candles"
    learns: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class ValidateData(CandleKind):
    """Takes candles of one market in order of time; refuses others.

    Args:
        pair: The market.
        timeframe: Length of a bar.
    """

    pair: str
    timeframe: str

    def fit(self, table: pd.DataFrame) -> dict[str, Any]:
        """Learns nothing."""
        return {}

    def apply(self, table: pd.DataFrame, state: State) -> pd.DataFrame:
        """Returns a candle table.

        Raises:
            DataError: If it is of another pair or timeframe, unsorted, or not good.
        """
        if not isinstance(table, pd.DataFrame):
            raise DataError(
                "expected candles as a DataFrame with named columns. Received: "
                f"{type(table).__name__}. Read them with candles.read_candles."
            )
        candles = as_table(table)
        report = check_candles(candles, timeframe=self.timeframe, with_doubts=False)
        problems = list(report.problems)
        named = [name for name in ("timestamp", "date") if name in table]
        times = pd.Index(table[named[0]] if named else table.index)
        is_ordered = times.is_monotonic_increasing and times.is_unique
        if not problems and times.dtype.kind == "M" and not is_ordered:
            problems.append("rows out of their order, or twice")
        if len(candles) > 1 and report.timeframe not in (None, self.timeframe):
            problems = [f"candles of {report.timeframe}"]
        symbol = candles.attrs.get("symbol")
        for name in ("symbol", "pair"):
            symbol = str(table[name].iloc[-1]) if name in table else symbol
        if symbol is not None and is_other_market(symbol, self.pair):
            problems.append(f"{symbol!r} in a column")
        if problems:
            raise DataError(
                f"expected candles of {self.pair}, {self.timeframe}, in order of time. "
                f"Received: {'; '.join(problems)}."
            )
        return candles


@dataclass(frozen=True, kw_only=True)
class FillGaps(CandleKind):
    """Carries the last close over missing bars, and marks segments.

    Args:
        timeframe: Length of a bar.
        max_fill_bars: Longest run of missing bars that is filled.
        accept_jumps: Whether prices are taken as they are.
    """

    timeframe: str
    max_fill_bars: int
    accept_jumps: bool = False

    @functools.cached_property
    def config(self) -> Config:
        """A configuration with these fields."""
        return Config(**vars_of(self))

    def fit(self, candles: pd.DataFrame) -> dict[str, Any]:
        """Learns nothing."""
        return {}

    def apply(self, candles: pd.DataFrame, state: State) -> pd.DataFrame:
        """Returns bars with `is_filled` and `segment`."""
        return dataset_rows.fill_and_resample(candles, self.config)


@dataclass(frozen=True, kw_only=True)
class ComputeFeatures(CandleKind):
    """Computes feature sets side by side.

    Args:
        timeframe: Length of a bar.
        feature_sets: Their names.
        raw_prices: Absolute prices, in the sets that have them.
        higher_timeframes: Longer timeframes whose features are joined.
        context_pairs: Other pairs whose features are joined.
        max_fill_bars: Bars for which another pair's last one stands.
    """

    timeframe: str
    feature_sets: tuple[str, ...]
    raw_prices: bool = False
    higher_timeframes: tuple[str, ...] = ()
    context_pairs: tuple[str, ...] = ()
    max_fill_bars: int = MAX_FILL_BARS

    @functools.cached_property
    def config(self) -> Config:
        """A configuration with these fields."""
        return Config(**vars_of(self))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the order of a training file.

        Raises:
            ConfigError: If a feature set is not registered.
        """
        return blocks.feature_names(self.config)

    @functools.cached_property
    def warm_up_bars(self) -> int:
        """Bars before the first one that has every feature, wherever candles begin.

        A higher bar that began before the candles is left out. Recursive features have
        twice their warm-up, after which they have the bits of any longer history.
        """
        config = self.config
        higher = map(utils.duration_seconds, config.higher_timeframes)
        longest = max(higher, default=config.bar_seconds) // config.bar_seconds
        settling = max(_SETTLING_BARS.get(name, 0) for name in config.feature_sets)
        # A rate may be older than a bar that is filled.
        filled = longest_fill(config.max_fill_bars, config.timeframe)
        older = blocks.most_carried(config) - filled
        found = blocks.warm_up_bars(config) + longest - 1 + settling * longest
        return found + older

    def fit(self, filled: pd.DataFrame) -> dict[str, Any]:
        """Keeps the names of the features, and the digest of each set's source."""
        return {
            "feature_names": list(self.feature_names),
            "digests": feature_set_digests(self.config.feature_sets),
        }

    def apply(self, filled: pd.DataFrame, state: State) -> FeatureRows:
        """Returns the rows of all bars, NaN where one has no value yet."""
        table = blocks.compute_features(filled, self.config)
        return FeatureRows(
            names=tuple(table.columns),
            values=table.to_numpy(np.float32),
            opens=nanoseconds_of(filled["timestamp"]),
            close=filled["close"].to_numpy(),
            is_filled=filled["is_filled"].to_numpy(),
            segment=filled["segment"].to_numpy(),
        )

    def require_known_sets(self, state: State) -> None:
        """Refuses features that are made otherwise here than they were.

        Raises:
            RefusedArtifactError: If a set is not registered, or from another source, or
                gives other columns.
        """
        sets, cure = self.config.feature_sets, "Give the file that registers it."
        absent = [name for name in sets if name not in features.feature_set_names()]
        if absent:
            raise RefusedArtifactError(
                f"expected the feature sets {', '.join(sets)}. Received: no "
                f"{', '.join(absent)} among {', '.join(features.feature_set_names())}. "
                f"{cure}"
            )
        for name, digest in feature_set_digests(sets).items():
            trained = state["digests"].get(name)
            if trained is not None and trained != digest:
                raise RefusedArtifactError(
                    f"feature set {name!r}: expected the source that the model was "
                    f"trained with, sha256 {trained}. Received: {digest}. Bring that "
                    "source back, or train again with this one."
                )
        known = self.feature_names
        if list(known) != state["feature_names"]:
            raise RefusedArtifactError(
                f"expected the features {', '.join(state['feature_names'])}. Received, "
                f"of the feature sets {', '.join(sets)}: {', '.join(known)}."
            )


def vars_of(kind: Any) -> dict[str, Any]:
    """Returns the parameters of a step."""
    return {name: getattr(kind, name) for name in type(kind).__dataclass_fields__}
