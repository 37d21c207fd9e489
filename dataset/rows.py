"""Candles + a configuration -> the rows of a dataset: which bars are kept, with what.

In: filling, features and targets side by side, the choice of rows, their description.
Out: the features of bars (`blocks`), where candles come from and where rows go
(`dataset_builder`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import utils
from candles import table as candle_tables
from candles.checks import MOST_MISSING, detect_timeframe, increasing_stamps
from candles.columns import EXTRAS
from candles.jumps import Jumps, find_jumps
from candles.timestamps import nanoseconds_of
from config import Config
from dataset import context, features, labels
from dataset.barriers import usual_move_pct
from dataset.blocks import (
    beside_columns,
    compute_features,
    has_value,
    require_beside,
    shorter_warm_ups,
    warm_up_bars,
)
from dataset.dataset import Dataset, describe_frame
from dataset.fingerprints import feature_set_digests
from files.strict import to_jsonable
from settings.data_fields import day_after
from settings.label_fields import LabelFields
from settings.run_fields import RunFields
from utils import DataError

_LISTED_GAPS = 20
_JUMP_CURE = "Mend the candles, or take the prices as they are with --accept-jumps."


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetParts:
    """What a dataset is put together from.

    Args:
        features: Feature columns of every bar, `(num_bars, num_features)`.
        outcomes: The other columns of the rows that are kept, `(num_rows,)`.
        kept: First and following bar of each stretch of kept rows.
        metadata: Description of the dataset.
    """

    features: pa.Table
    outcomes: pa.Table
    kept: list[tuple[int, int]]
    metadata: dict[str, Any]

    def dataset(self) -> Dataset:
        """Puts the parts together."""
        frame = assemble(self.features, self.outcomes, self.kept)
        metadata = self.metadata | describe_frame(frame)
        return Dataset(frame=frame, metadata=to_jsonable(metadata))


def build_parts(
    candles: pd.DataFrame,
    config: Config,
    *,
    others: Mapping[str, pd.DataFrame] | None = None,
    feature_table: pa.Table | None = None,
) -> DatasetParts:
    """Computes features and outcomes and chooses the rows that have both.

    Args:
        candles: Checked candle table, of the configuration's timeframe or finer.
        config: Features, target and their parameters.
        others: Checked candle tables of the context pairs, where `candles` have not
            their columns already.
        feature_table: `DatasetParts.features` of the same candles, where it is known.

    Raises:
        DataError: If no row of the days asked for has both its whole look-back and its
            whole future.
    """
    candles = _until_end(candles, config)
    jumps = find_jumps(candles, own_timeframe(candles, config))
    filled = fill_and_resample(candles, config, jumps)
    filled = context.join_context(filled, others or {}, config.timeframe)
    require_beside(filled, config)
    extras = [name for name in beside_columns(config) if name in EXTRAS]
    beside = context.describe_context(filled, config, extras)
    if feature_table is None or feature_table.num_rows != len(filled):
        feature_table = pa.Table.from_pandas(
            compute_features(filled, config), preserve_index=False
        )
    outcome = compute_outcomes(filled, config)
    kept = has_value(feature_table, config)
    kept &= (outcome["label_end"] != labels.NO_OUTCOME).to_numpy()
    if not kept.any():
        context.require_reached(beside, config)
        raise DataError(_nothing_kept_message(filled, config, jumps))
    if config.start_date is not None:
        first = pd.Timestamp(config.start_date, tz="UTC")
        kept &= (filled["timestamp"] >= first).to_numpy()
        _require_days(kept, candles, config)
    if len(jumps.bad_rows) and not outcome["is_target"][kept].any():
        raise DataError(
            "expected rows whose label crosses no doubtful price. Received: none; "
            f"{'; '.join(jumps.doubts)}. {_JUMP_CURE}"
        )
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False))
    columns = [filled[["timestamp", "close"]], outcome, filled[["segment"]]]
    table = pd.concat([part[kept] for part in columns], axis=1)
    return DatasetParts(
        features=feature_table,
        outcomes=pa.Table.from_pandas(table, preserve_index=False),
        kept=list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)),
        metadata={
            "parameters": config.dataset_parameters,
            "features": feature_table.column_names,
            "feature_version": features.FEATURE_VERSION,
            "feature_digests": feature_set_digests(config.feature_sets),
            "label_version": labels.LABEL_VERSION,
            "warm_up_bars": warm_up_bars(config),
            "shorter_warm_ups": shorter_warm_ups(config, warm_up_bars(config)),
            "usual_move_pct": usual_move_pct(filled["close"], config.future_window),
            **_describe_candles(candles, filled, own_timeframe(candles, config)),
            **({"context": beside} if beside else {}),
            "segments_without_rows": _segments_without_rows(filled, kept, config),
            "dates": {"start": config.start_date, "end": config.end_date},
            "timezone": config.timezone,
            "doubts": [
                *candles.attrs.get("doubts", ()),
                *_doubts_of_gaps(candles, filled, config),
                *jumps.doubts,
                *context.doubts_of_context(beside),
            ],
        },
    )


def _doubts_of_gaps(
    candles: pd.DataFrame, filled: pd.DataFrame, config: Config
) -> list[str]:
    """Returns what to say where as many bars are missing as `check` refuses."""
    bar = utils.duration_seconds(own_timeframe(candles, config)) * 10**9
    span = int(np.ptp(nanoseconds_of(candles["timestamp"])))
    missing, share = 1 - len(candles) / (span // bar + 1), filled["is_filled"].mean()
    words = (
        f"{missing:.0%} of the candles are missing; {share:.0%} of the bars that rows "
        "are made of are filled: they repeat the last close, without volume"
    )
    return [words] if missing >= MOST_MISSING else []


def _until_end(candles: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Returns the candles up to the last day: nothing after it is looked at."""
    if config.end_date is None:
        return candles
    after = pd.Timestamp(day_after(config.end_date), tz="UTC")
    is_inside = (candles["timestamp"] < after).to_numpy()
    _require_days(is_inside, candles, config)
    return candles[is_inside]


def _require_days(is_inside: np.ndarray, candles: pd.DataFrame, config: Config) -> None:
    if not is_inside.any():
        times = candles["timestamp"]
        raise DataError(
            f"expected rows from {config.start_date or 'the start'} to "
            f"{config.end_date or 'the end'}. Received: candles from "
            f"{times.iloc[0]:%F} to {times.iloc[-1]:%F}, the warm-up in them. Change "
            "start_date or end_date."
        )


def _segments_without_rows(
    filled: pd.DataFrame, kept: np.ndarray, config: Config
) -> list[dict[str, Any]]:
    """Returns number (from 1), first and last bar, `bars` and `reason` of each."""
    segment, times = filled["segment"].to_numpy(), filled["timestamp"]
    starts = np.flatnonzero(np.diff(segment, prepend=-1))
    stops = np.append(starts[1:], len(segment))
    warm_up = warm_up_bars(config)
    found = []
    for number in np.flatnonzero(np.add.reduceat(kept.astype(np.int64), starts) == 0):
        first, last = times.iloc[starts[number]], times.iloc[stops[number] - 1]
        bars = int(stops[number] - starts[number])
        reason = "no bar has every feature and an outcome"
        if bars <= warm_up:
            reason = "shorter than the warm-up"
        elif bars <= warm_up + config.future_window:
            reason = "shorter than the warm-up and the bars of a label"
        elif config.start_date is not None and f"{last:%F}" < config.start_date:
            reason = "before the first day"
        found.append({"segment": int(number) + 1, "first": first, "last": last})
        found[-1] |= {"bars": bars, "reason": reason}
    return found


def fill_and_resample(
    candles: pd.DataFrame, config: Config, jumps: Jumps | None = None
) -> pd.DataFrame:
    """Returns bars of the configuration's timeframe with `is_filled` and `segment`.

    Finer candles are filled first: a minute without a trade does not cost its hour.
    Where a price jumps and stays, a segment ends; other bars of doubtful prices are
    marked `is_doubtful`, where there are any. With `accept_jumps` neither is done.

    Args:
        candles: Checked candle table.
        config: Timeframe, and what is filled and accepted.
        jumps: What is doubtful about the candles; None looks.
    """
    own = own_timeframe(candles, config)
    stamps = nanoseconds_of(candles["timestamp"])
    bad = cuts = stamps[:0]
    if not config.accept_jumps:
        jumps = jumps or find_jumps(candles, own)
        bad, cuts = stamps[jumps.bad_rows], stamps[jumps.cut_rows]
    fill = functools.partial(
        candle_tables.fill_gaps, max_fill_bars=config.max_fill_bars, cuts=cuts
    )
    if own != config.timeframe:
        candles = candle_tables.resample_candles(
            fill(candles, own), config.timeframe, source_timeframe=own
        )
    filled = fill(candles, config.timeframe)
    if len(bad):
        stamps = nanoseconds_of(filled["timestamp"])
        holder = np.maximum(np.searchsorted(stamps, bad, side="right") - 1, 0)
        inside = np.abs(bad - stamps[holder]) < config.bar_seconds * 10**9
        filled["is_doubtful"] = np.isin(np.arange(len(filled)), holder[inside])
    return filled


def own_timeframe(candles: pd.DataFrame, config: RunFields) -> str:
    """Returns the candles' timeframe; the wanted one settles it where they are sparse.

    Raises:
        DataError: If it cannot be told.
    """
    steps = np.diff(increasing_stamps(candles))
    if not len(steps) or steps.min() == config.bar_seconds * 10**9:
        return config.timeframe
    return detect_timeframe(candles)


def compute_outcomes(filled: pd.DataFrame, config: LabelFields) -> pd.DataFrame:
    """Returns the columns of `labels` for the configuration's target."""
    if config.target == "direction":
        return labels.direction_target(
            filled, horizon=config.future_window, dead_zone_pct=config.dead_zone_pct
        )
    if config.target == "return":
        return labels.return_target(filled, horizon=config.future_window)
    if config.target == "price":
        return labels.price_target(filled, horizon=config.future_window)
    return labels.label_candles(
        filled,
        future_window=config.future_window,
        long_tp_pct=config.long_tp_pct,
        long_sl_pct=config.long_sl_pct,
        short_tp_pct=config.short_tp_pct,
        short_sl_pct=config.short_sl_pct,
        tie_policy=config.tie_policy,
    )


def assemble(
    feature_table: pa.Table, outcomes: pa.Table, kept: Sequence[Sequence[int]]
) -> pd.DataFrame:
    """Returns the frame of the kept rows, in the order of a training file's columns.

    Either table may have some of its columns only, or none.
    """
    rest = outcomes.to_pandas()
    if not feature_table.num_columns:
        return rest
    rows = pa.concat_tables([feature_table.slice(a, b - a) for a, b in kept])
    first = [name for name in ("timestamp",) if name in rest]
    parts = [rest[first], rows.to_pandas(), rest.drop(columns=first)]
    return pd.concat([part for part in parts if part.shape[1]], axis=1)


def _describe_candles(
    candles: pd.DataFrame, filled: pd.DataFrame, timeframe: str
) -> dict[str, Any]:
    bar = utils.duration_seconds(timeframe) * 10**9
    times = pd.DatetimeIndex(candles["timestamp"])
    missing = np.diff(increasing_stamps(candles)) // bar - 1
    longest = np.argsort(-missing, kind="stable")[:_LISTED_GAPS]
    num_filled = int(filled["is_filled"].sum())
    return {
        "num_candles": len(candles),
        "num_bars": len(filled),
        "num_filled_bars": num_filled,
        "num_segments": int(filled["segment"].nunique()),
        "candles": {
            "timeframe": timeframe,
            "first": times[0],
            "last": times[-1],
            "num_gaps": np.count_nonzero(missing),
            "missing_bars": missing.sum(),
            "longest_gap_bars": missing.max(initial=0),
            "longest_gaps": [
                {"after": times[row], "bars": int(missing[row])}
                for row in longest
                if missing[row] > 0
            ],
            "zero_volume_bars": np.count_nonzero(candles["volume"] == 0),
            "filled_share": num_filled / len(filled),
        },
    }


def _nothing_kept_message(filled: pd.DataFrame, config: Config, jumps: Jumps) -> str:
    sizes = filled["segment"].value_counts()
    longest = f"the longest has {sizes.max()} bars"
    received = f"one segment; it has {sizes.max()} bars"
    if len(sizes) > 1:
        limit = candle_tables.longest_fill(config.max_fill_bars, config.timeframe)
        is_cut = len(jumps.cut_rows) and not config.accept_jumps
        gaps = utils.counted(len(sizes) - 1, "gap", "gaps")
        what = "jumps of the price or gaps" if is_cut else gaps
        received = (
            f"{what} longer than max_fill_bars ({limit}) "
            f"cut the candles into {len(sizes)} segments; {longest}"
        )
        if is_cut:
            received += f"; {'; '.join(jumps.doubts)} (see --accept-jumps)"
    fitting = shorter_warm_ups(config, sizes.max() - config.future_window)
    named = ", ".join(f"{name} ({bars} bars)" for name, bars in fitting.items())
    return (
        f"no segment holds a warm-up: expected one of at least "
        f"{warm_up_bars(config) + config.future_window + 1} bars, "
        f"{warm_up_bars(config)} before the first value of "
        f"{'+'.join(config.feature_sets)} and {config.future_window} of future. "
        f"Received: {received}. Fetch the missing candles, use longer ones, or feature "
        f"sets whose warm-up fits these: {named or 'none does'}."
    )
