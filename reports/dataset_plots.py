"""A dataset -> figures, each by a function that a notebook draws inline.

In: pictures of a dataset, and what became of its bars over time. Out: the same in words
(`reports.dataset`), computing and judging it (`dataset.dataset`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

import utils
from config import CLASS_NAMES, Config
from dataset.dataset import Dataset, label_ids
from preprocessing.scaling import FeatureScaler
from reports import time_plots
from reports.plots import BLUE, CLASS_COLORS, INK, name_rows, new_axes
from reports.time_plots import period_edges, style_time_axis

# Warm-up bars and bars whose outcome is not known are there, and are no rows.
_BARS = {
    "traded": "#cbd5e1",
    "filled": "#eab308",
    "unused (warm-up, no outcome)": "#93c5fd",
    "missing": "#b91c1c",
}
_MARKED_BARS = 240
_PERIODS = 150
_SAMPLED_ROWS = 200_000
_SHOWN_FEATURES = 24
_SPREAD = np.array([0.01, 0.25, 0.5, 0.75, 0.99])
_QUANTILES = (0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999)


def plot_dataset(dataset: Dataset) -> Figure:
    """Draws everything on one page: price, labels, mix over time, gaps, features."""
    dataset = in_time_order(dataset)
    tall = _feature_height(dataset)
    figure = Figure(figsize=(13, 9.2 + tall), layout="constrained")
    grid = figure.add_gridspec(4, 2, height_ratios=(3.2, 2.8, 1.3, tall))
    whole = figure.add_subplot(grid[0, 0])
    _draw_price(whole, dataset)
    _draw_marks(figure.add_subplot(grid[0, 1]), dataset)
    _draw_mix(figure.add_subplot(grid[1, :], sharex=whole), dataset)
    _draw_gaps(figure.add_subplot(grid[2, :], sharex=whole), dataset)
    before = figure.add_subplot(grid[3, 0])
    _draw_features(before, figure.add_subplot(grid[3, 1], sharey=before), dataset)
    pair = dataset.metadata.get("parameters", {}).get("pair", "")
    figure.suptitle(
        f"{pair} {dataset.timeframe}  |  {len(dataset.frame):,} rows, "
        f"{len(dataset.feature_names)} features".strip(),
        fontsize=14,
        color=INK,
    )
    return figure


def plot_price(dataset: Dataset) -> Figure:
    """Draws the close over the whole range, and its last bars with their labels."""
    figure, (left, right) = new_axes(13, 4, 1, 2, grid=None)
    dataset = in_time_order(dataset)
    _draw_price(left, dataset)
    _draw_marks(right, dataset)
    return figure


def plot_label_mix(dataset: Dataset) -> Figure:
    """Draws the share of each label, or the spread of a number, over time."""
    figure, axes = new_axes(13, 3.6, grid=None)
    _draw_mix(axes, in_time_order(dataset))
    return figure


def plot_gaps(dataset: Dataset) -> Figure:
    """Draws which bars were traded, filled, unused or missing over time."""
    figure, axes = new_axes(13, 2.2, grid=None)
    _draw_gaps(axes, in_time_order(dataset))
    return figure


def plot_features(dataset: Dataset, *, scaler: FeatureScaler | None = None) -> Figure:
    """Draws the distribution of each feature before and after scaling.

    Without a `scaler` the default one is fitted as a training would.
    """
    height = _feature_height(dataset)
    figure, (before, after) = new_axes(13, height, 1, 2, grid=None, sharey=True)
    _draw_features(before, after, dataset, scaler=scaler)
    return figure


def _feature_height(dataset: Dataset) -> float:
    shown = min(len(dataset.feature_names), _SHOWN_FEATURES)
    return max(3.0, 0.26 * shown + 1.2)


def in_time_order(dataset: Dataset) -> Dataset:
    """Returns the rows as pictures need them; that they were not so is a finding."""
    if dataset.timestamps.is_monotonic_increasing:
        return dataset
    frame = dataset.frame.sort_values("timestamp", kind="stable", ignore_index=True)
    return Dataset(frame=frame, metadata=dataset.metadata)


def _times(dataset: Dataset) -> np.ndarray:
    """Returns (num_rows,) datetime64[ns] in UTC, without a zone for matplotlib."""
    return dataset.timestamps.dt.tz_localize(None).to_numpy()


def mix_over_time(dataset: Dataset) -> pd.DataFrame:
    """Returns the share of each label in stretches of time."""
    return time_plots.label_mix_over_time(
        _times(dataset), dataset.target, num_periods=_PERIODS
    )


def _bar_counts(dataset: Dataset, edges: np.ndarray) -> np.ndarray:
    """Returns (4, num_periods) shares of the bars of a stretch, as `_BARS` names them.

    After the last row of a segment come bars without an outcome, before the first one
    its warm-up: those bars are there, the rest of a hole is missing.
    """
    times = _times(dataset).astype(np.int64)
    bar = utils.duration_seconds(dataset.timeframe or "1m") * 10**9
    frame, filled = dataset.frame, np.zeros(len(times), bool)
    if "is_target" in frame:
        filled = ~frame["is_target"].to_numpy(bool)
    limits = edges.astype(np.int64)
    counts = np.array(
        [np.histogram(times[rows], limits)[0] for rows in (~filled, filled)]
        + [_unused_bars(dataset, times, limits, bar)]
    )
    # Bars open on whole multiples from the first row on.
    places = np.maximum(np.diff(-((times[0] - limits) // bar)), 1)
    shares = counts / places
    return np.vstack([shares, np.clip(1 - shares.sum(axis=0), 0, 1)])


def _unused_bars(
    dataset: Dataset, times: np.ndarray, limits: np.ndarray, bar: int
) -> np.ndarray:
    """Returns (num_periods,) bars that were there but are no row."""
    facts = dataset.metadata
    future = facts.get("parameters", {}).get("future_window", 0)
    opens = [np.empty(0, np.int64)]
    for row in np.flatnonzero(np.diff(times) > bar) if "warm_up_bars" in facts else ():
        hole = np.arange(times[row] + bar, times[row + 1], bar)
        place = np.arange(len(hole))
        is_warm_up = place >= len(hole) - facts["warm_up_bars"]
        opens.append(hole[(place < future) | is_warm_up])
    return np.histogram(np.concatenate(opens), limits)[0]


def _bar_shares(dataset: Dataset) -> np.ndarray:
    return _bar_counts(dataset, period_edges(_times(dataset), 1))[:, 0]


def bar_words(dataset: Dataset) -> list[str]:
    """Returns the share of each kind of bars, named; of all candles, if known."""
    facts = dataset.metadata
    shares = _bar_shares(dataset)
    if "num_bars" in facts:
        first, last = (pd.Timestamp(facts["candles"][key]) for key in ("first", "last"))
        seconds = utils.duration_seconds(dataset.timeframe or "1m")
        places = int((last - first).total_seconds()) // seconds + 1
        bars, rows, targets = (facts[f"num_{x}"] for x in ("bars", "rows", "targets"))
        counts = (targets, rows - targets, bars - rows, max(0, places - bars))
        shares = np.array(counts) / max(places, bars)
    named = zip(_BARS, shares, strict=True)
    return [f"{share:.2%} {name}" for name, share in named]


def _draw_price(axes: Axes, dataset: Dataset) -> None:
    axes.set_title("price, whole range", loc="left")
    if "close" not in dataset.frame:
        _draw_nothing(axes, "the file has no close")
        return
    times, close = _times(dataset), dataset.frame["close"].to_numpy()
    step = max(1, len(close) // 4000)
    bar = utils.duration_seconds(dataset.timeframe or "1m") * 10**9
    holes = np.flatnonzero(np.diff(times.astype(np.int64)) > 3 * step * bar) + 1
    starts = np.union1d(np.arange(0, len(close), step), holes)
    # Highest and lowest of each stretch: thinning must not hide an extreme.
    low = np.minimum.reduceat(close, starts)
    high = np.maximum.reduceat(close, starts)
    at = np.searchsorted(starts, holes)
    moments = np.insert(times[starts], at, times[starts][at])
    low, high = (np.insert(values, at, np.nan) for values in (low, high))
    axes.fill_between(moments, low, high, color=BLUE, alpha=0.35, linewidth=0)
    axes.plot(moments, (low + high) / 2, color=BLUE, linewidth=0.9)
    if close.max() / close.min() > 5:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_ylabel("close")
    style_time_axis(axes)


def _draw_marks(axes: Axes, dataset: Dataset) -> None:
    frame = dataset.frame.tail(_MARKED_BARS)
    labels = label_ids(frame)
    what = "" if labels is None else " and their labels"
    axes.set_title(f"the last {len(frame)} bars{what}", loc="left")
    if "close" not in frame:
        _draw_nothing(axes, "the file has no close")
        return
    times = frame["timestamp"].dt.tz_localize(None).to_numpy()
    close = frame["close"].to_numpy()
    axes.plot(times, close, color=INK, linewidth=1)
    for k, marker in ((2, "^"), (0, "v")):
        chosen = labels == k if labels is not None else np.zeros(len(frame), bool)
        if chosen.any():
            name = CLASS_NAMES[k]
            x, y = times[chosen], close[chosen]
            marks = axes.plot(x, y, marker, color=CLASS_COLORS[name], label=name)
            marks[0].set(markersize=5, markeredgewidth=0)
            axes.legend(frameon=False, ncols=2, loc="best")
    axes.set_ylabel("close")
    style_time_axis(axes)


def _draw_mix(axes: Axes, dataset: Dataset) -> None:
    if label_ids(dataset.frame) is None:
        _draw_target(axes, dataset)
        return
    axes.set_title("share of labels over time", loc="left")
    time_plots.draw_label_mix(axes, mix_over_time(dataset))
    _legend_above(axes)


def _draw_target(axes: Axes, dataset: Dataset) -> None:
    stated = dataset.metadata.get("parameters", {}).get("target", "target")
    axes.set_title(f"{stated} over time: median, middle 50 % and 98 %", loc="left")
    times, values = _times(dataset), dataset.target
    edges = period_edges(times, _PERIODS)
    places = np.searchsorted(edges, times, side="right") - 1
    middle = edges[:-1] + np.diff(edges) // 2
    found = pd.Series(values).groupby(places).quantile(_SPREAD)
    spread = found.unstack().reindex(range(len(middle))).to_numpy().T
    axes.fill_between(middle, spread[0], spread[4], color=BLUE, alpha=0.2, linewidth=0)
    axes.fill_between(middle, spread[1], spread[3], color=BLUE, alpha=0.4, linewidth=0)
    axes.plot(middle, spread[2], color=BLUE, linewidth=1.2)
    style_time_axis(axes)


def _draw_gaps(axes: Axes, dataset: Dataset) -> None:
    edges = period_edges(_times(dataset), 2 * _PERIODS)
    axes.set_title("bars over time", loc="left")
    colors = zip(bar_words(dataset), _BARS.values(), strict=True)
    time_plots.draw_steps(axes, edges, _bar_counts(dataset, edges), dict(colors))
    axes.set(ylim=(0, 1), yticks=[])
    style_time_axis(axes)
    _legend_above(axes)


def _legend_above(axes: Axes) -> None:
    """Puts the legend beside the title, where it covers nothing."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0.2,
        ncols=4,
        frameon=False,
        fontsize=9,
    )


def _draw_features(
    before: Axes, after: Axes, dataset: Dataset, *, scaler: FeatureScaler | None = None
) -> None:
    """Draws medians, quartiles and tails, a row for each feature."""
    names = dataset.feature_names[:_SHOWN_FEATURES]
    rows = dataset.frame.iloc[:: max(1, len(dataset.frame) // _SAMPLED_ROWS)]
    values = rows[list(names)].to_numpy(np.float32)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        _draw_nothing(before, "no row has every feature")
        _draw_nothing(after, "no row has every feature")
        return
    if scaler is None:
        usual = Config()
        share = 1 - usual.validation_split - usual.test_split
        seen = values[: max(1, int(len(values) * share))]
        kind, limit = usual.scaler_type, usual.clip_limit
        scaler = FeatureScaler.fit(seen, names, kind=kind, clip_limit=limit)
    hidden = len(dataset.feature_names) - len(names)
    more = f"; first {len(names)} of {len(dataset.feature_names)}" if hidden else ""
    _draw_spread(before, values, names)
    before.set_xscale("symlog", linthresh=1, linscale=1.5)
    note = "bars: middle 50 %, 98 %, 99.8 %; mark: median"
    before.set_title(note, loc="right", fontsize=8, color="#475569")
    before.set_title("features as they are", loc="left")
    before.set_xlabel("value (linear within 1, logarithmic beyond)")
    _draw_spread(after, scaler.transform(values), names)
    after.set_title(f"scaled: {scaler.kind}, fitted on training rows{more}", loc="left")
    after.set_xlabel(f"scale units (clipped at {scaler.clip_limit:g})")
    after.set_xlim(-1.05 * scaler.clip_limit, 1.05 * scaler.clip_limit)
    after.tick_params(labelleft=False)


def _draw_spread(axes: Axes, values: np.ndarray, names: Sequence[str]) -> None:
    spread = np.quantile(values, _QUANTILES, axis=0)
    place = np.arange(len(names))
    axes.hlines(place, spread[0], spread[-1], color=BLUE, alpha=0.35, linewidth=1.5)
    axes.hlines(place, spread[1], spread[-2], color=BLUE, alpha=0.6, linewidth=4)
    axes.hlines(place, spread[2], spread[4], color=BLUE, linewidth=9)
    axes.plot(spread[3], place, "|", color=INK, markersize=9, markeredgewidth=2)
    axes.axvline(0, color="#94a3b8", linewidth=0.8, zorder=0)
    name_rows(axes, names)
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(axis="x", alpha=0.25)


def _draw_nothing(axes: Axes, reason: str) -> None:
    axes.text(0.5, 0.5, reason, ha="center", va="center", transform=axes.transAxes)
    axes.set_axis_off()
