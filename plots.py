"""Results -> figures, each by one function, so that a notebook draws them inline.

In: pictures. Out: text and files (`report`), computing what is drawn (`evaluation`).
Figures are made without pyplot: nothing global, no window, nothing to close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, PercentFormatter

from config import CLASS_NAMES
from verdict import BASELINE_NAMES

CLASS_COLORS = {"SHORT": "#c2410c", "HOLD": "#94a3b8", "LONG": "#0f766e"}
INK, BLUE, GREY = "#0f172a", "#1d4ed8", "#64748b"


def plot_confusion_matrix(
    result: Mapping[str, Any],
    *,
    title: str = "",
    predicted_by: str = "most probable class",
) -> Figure:
    """Draws one confusion matrix, coloured by share of the true class.

    Args:
        result: One part's results, or its `thresholded` ones.
        title: Name of the part.
        predicted_by: What decided the predicted class.
    """
    matrix = np.asarray(result["confusion_matrix"])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(matrix):
        axes.text(
            j,
            i,
            f"{count:,}\n{shares[i, j]:.1%}",
            ha="center",
            va="center",
            color="white" if shares[i, j] > 0.55 else "#1e293b",
        )
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set_xlabel(f"predicted ({predicted_by})")
    axes.set_ylabel("true")
    axes.set_title(f"{title}: {result['num_samples']:,} windows".lstrip(": "))
    figure.colorbar(
        image, fraction=0.046, label="share of the true class", format="{x:.0%}"
    )
    return figure


def plot_reliability(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws how often each class happened against its forecast, before and after.

    The area of a dot is the share of the rows in its bin.
    """
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    before = result["expected_calibration_error"]
    after = result["calibrated"]["expected_calibration_error"]
    names = {
        "raw": f"before calibration, ECE {before:.3f}",
        "calibrated": f"after, ECE {after:.3f}",
    }
    top = 0.0
    for axes, (kind, name) in zip(panels, names.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        for class_name, color in CLASS_COLORS.items():
            bins = result["reliability"][kind][class_name]
            count = np.asarray(bins["count"], dtype=float)
            filled = count > 0
            stated = np.asarray(bins["mean_confidence"], dtype=float)[filled]
            happened = np.asarray(bins["frequency"], dtype=float)[filled]
            share = count[filled] / count.sum()
            axes.plot(stated, happened, color=color, linewidth=1.5, label=class_name)
            axes.scatter(stated, happened, s=8 + 500 * share, color=color)
            top = max(top, stated.max(), happened[share > 0.001].max(initial=0.0))
        axes.set_title(name)
        axes.set_xlabel("forecast probability")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share that happened")
    limit = min(1.02, 1.05 * top)
    panels[0].set_xlim(0, limit)
    panels[0].set_ylim(0, limit)
    figure.suptitle(f"{title}, dots sized by rows".lstrip(", "))
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return figure


def plot_thresholds(search: Mapping[str, Any]) -> Figure:
    """Draws the threshold search: both sides together, and each side alone.

    Left: total net return of each pair on validation; grey: too few trades. Right: net
    return a trade where only one side trades, by the share of rows signalled.
    """
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    grid, curve = figure.subplots(1, 2)
    if not search.get("tried"):
        for axes in (grid, curve):
            axes.set_axis_off()
        figure.suptitle(search["statement"])
        return figure
    table = pd.DataFrame(search["tried"])
    _draw_pairs(grid, table, search, figure)
    for share, other, side in (
        ("short_share", "long_share", "SHORT"),
        ("long_share", "short_share", "LONG"),
    ):
        alone = table[(table[other] == 0) & (table["num_trades"] > 0)]
        alone = alone.sort_values(share)
        curve.plot(
            alone[share],
            alone["mean_net_return_bps"].astype(float),
            marker="o",
            color=CLASS_COLORS[side],
            label=f"{side} alone",
        )
        # Beyond, there are many trades and the two curves meet.
        for row in alone[alone[share] < 0.08].itertuples():
            curve.annotate(
                f"{row.num_trades}",
                (getattr(row, share), row.mean_net_return_bps),
                xytext=(0, 6 if side == "LONG" else -12),
                textcoords="offset points",
                fontsize=7,
                ha="center",
                color=CLASS_COLORS[side],
            )
    curve.axhline(0, color=INK, linewidth=1)
    curve.set_xscale("log")
    curve.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    curve.set_xlabel("share of rows that reach the threshold")
    curve.set_ylabel("net return a trade (bps)")
    curve.set_title("one side alone; small figures: trades")
    curve.grid(alpha=0.3)
    curve.margins(y=0.12)
    curve.legend(frameon=False)
    figure.suptitle(search["statement"])
    return figure


def _draw_pairs(
    axes: Axes, table: pd.DataFrame, search: Mapping[str, Any], figure: Figure
) -> None:
    """Draws the total net return of every pair of thresholds."""
    enough = table[table["num_trades"] >= search["min_trades"]]
    shorts, longs = (
        np.unique(table[side].to_numpy(dtype=float))
        for side in ("short_share", "long_share")
    )
    values = np.full((len(shorts), len(longs)), np.nan)
    i = np.searchsorted(shorts, enough["short_share"])
    j = np.searchsorted(longs, enough["long_share"])
    values[i, j] = enough["total_return_pct"]
    limit = np.nanmax(np.abs(values)) if len(enough) else 1.0
    axes.set_facecolor("#e2e8f0")
    image = axes.imshow(
        values, cmap="RdYlGn", vmin=-limit, vmax=limit, origin="lower", aspect="auto"
    )
    axes.set_xticks(range(len(longs)), [_share(v) for v in longs], rotation=60)
    axes.set_yticks(range(len(shorts)), [_share(v) for v in shorts])
    axes.set_xlabel("rows signalled LONG")
    axes.set_ylabel("rows signalled SHORT")
    axes.set_title("total net return on validation")
    chosen = (search["short_threshold"], search["long_threshold"])
    if any(limit is not None for limit in chosen):
        match = _same(table["short_threshold"], chosen[0]) & _same(
            table["long_threshold"], chosen[1]
        )
        best = table[match].iloc[0]
        axes.scatter(
            np.searchsorted(longs, best["long_share"]),
            np.searchsorted(shorts, best["short_share"]),
            s=160,
            facecolors="none",
            edgecolors=INK,
            linewidths=2,
        )
    figure.colorbar(image, ax=axes, format="{x:+.0f} %")


def _same(column: pd.Series, value: float | None) -> pd.Series:
    return column.isna() if value is None else column == value


def _share(value: float) -> str:
    return "never" if value == 0 else f"{value:.1%}"


def plot_equity(trades: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws equity with and without costs beside buy and hold, and the drawdown."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    if "skipped" in trades:
        figure.suptitle(f"no trades: {trades['skipped']}")
        return figure
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curve = trades["curve"]
    times = pd.to_datetime(curve["time"]).tz_localize(None)
    final = trades["total_return_pct"]
    held = trades["buy_and_hold"]["total_return_pct"]
    lines = {
        "equity": (BLUE, "-", f"after {trades['cost_bps']:g} bps a side {final:+.1f}%"),
        "equity_before_costs": (BLUE, ":", "before costs"),
        "buy_and_hold": (GREY, "-", f"buy and hold {held:+.1f}%"),
    }
    for key, (color, style, label) in lines.items():
        values = curve[key]
        upper.plot(times, values, color=color, linestyle=style, label=label)
    upper.axhline(1, color=INK, linewidth=0.8)
    upper.set_ylabel("equity, start = 1")
    sample = ", thresholds chosen on these rows" if trades.get("in_sample") else ""
    count = f"{trades['num_trades']:,} trades" if trades["num_trades"] else "no trades"
    upper.set_title(f"{title}: {count}{sample}".lstrip(": "))
    upper.legend(frameon=False)
    fallen = -np.asarray(curve["drawdown_pct"])
    lower.fill_between(times, fallen, color=CLASS_COLORS["SHORT"])
    lower.set_ylabel("drawdown (%)")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    lower.set_ylim(min(-1.0, -1.1 * trades["max_drawdown_pct"]), 0)
    locator = AutoDateLocator(minticks=4, maxticks=8)
    lower.xaxis.set_major_locator(locator)
    lower.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return figure


def plot_baselines(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the skill of the model and of each probability baseline, with intervals."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    rows = {"this model": result["intervals"]} | {
        BASELINE_NAMES[name]: scores["intervals"]
        for name, scores in result["baselines"].items()
        if "intervals" in scores and name != "train_prior"
    }
    parts = {"": "all of it", "activity_": "activity", "direction_": "direction"}
    for axes, (prefix, heading) in zip(panels, parts.items(), strict=True):
        for height, (name, intervals) in enumerate(reversed(rows.items())):
            found = intervals[f"{prefix}skill_vs_train_prior"]
            if found["estimate"] is None:
                continue
            color = BLUE if name == "this model" else GREY
            low, high = found["low"], found["high"]
            if low is not None:
                axes.plot([low, high], [height, height], color=color, linewidth=2)
            axes.plot(found["estimate"], height, "o", color=color)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_title(heading)
        axes.grid(alpha=0.3, axis="x")
    panels[0].set_yticks(range(len(rows)), list(reversed(rows)))
    panels[0].set_ylim(-0.6, len(rows) - 0.4)
    panels[1].set_xlabel("log-loss skill against the train prior, 95 % interval")
    figure.suptitle(f"{title}: this model and its baselines".lstrip(": "))
    return figure


def plot_learning_curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draws loss and accuracy by epoch.

    Training values are at the class mix that training sees, with dropout; they need not
    lie below the validation values.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        for key, label in (
            (name, "training, with dropout"),
            (f"val_{name}", "validation"),
        ):
            if key in history:
                axes.plot(epochs, history[key], marker="o", markersize=3, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("log-loss (nats)" if name == "loss" else name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    best = int(np.argmin(history.get("val_loss", history["loss"])))
    panels[0].axvline(best + 1, color=GREY, linestyle=":")
    panels[0].set_title(f"lowest validation loss in epoch {best + 1}")
    return figure


def period_edges(times: np.ndarray, num_periods: int) -> np.ndarray:
    """Returns the edges of equal stretches of time, no more than there are rows.

    Args:
        times: (num_rows,) datetime64[ns], ascending.
        num_periods: Most stretches.
    """
    # A second beyond the last row: float arithmetic does not cut it off.
    first, last = times[0].astype(np.int64), times[-1].astype(np.int64) + 10**9
    count = max(1, min(num_periods, len(times)))
    return np.linspace(first, last, count + 1).astype(np.int64).view("datetime64[ns]")


def label_mix_over_time(
    timestamps: np.ndarray, labels: np.ndarray, *, num_periods: int = 120
) -> pd.DataFrame:
    """Returns the share of each class in equal stretches of time; 0 without any row.

    Args:
        timestamps: (num_rows,) datetime64.
        labels: (num_rows,) class ids; others count for none.
        num_periods: Most stretches.

    Returns:
        A column for each class, `(num_periods, 3)`, indexed by the start of each
        stretch; `attrs["stop"]` is the end of the last one.
    """
    times = np.asarray(timestamps).astype("datetime64[ns]")
    edges = period_edges(times, num_periods)
    places = np.searchsorted(edges, times, side="right") - 1
    count = len(edges) - 1
    table = {
        name: np.bincount(places[labels == k], minlength=count)
        for k, name in enumerate(CLASS_NAMES)
    }
    mix = pd.DataFrame(table, index=pd.DatetimeIndex(edges[:-1]))
    mix = mix.div(mix.sum(axis=1).clip(lower=1), axis=0)
    mix.attrs["stop"] = edges[-1]
    return mix


def plot_label_mix(
    mix: pd.DataFrame, *, edges: Mapping[str, Any] | None = None
) -> Figure:
    """Draws `label_mix_over_time`; `edges` marks where each part starts."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    draw_label_mix(axes, mix)
    for name, moment in (edges or mix.attrs.get("edges", {})).items():
        axes.axvline(moment, color=INK, linewidth=1)
        axes.text(moment, 1.01, f" {name}", fontsize=8, va="bottom")
    axes.set_ylabel("share of labels")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_label_mix(axes: Axes, mix: pd.DataFrame) -> None:
    """Draws `label_mix_over_time` into axes; a stretch without rows stays empty."""
    edges = np.append(mix.index.to_numpy("datetime64[ns]"), mix.attrs["stop"])
    colors = {name: CLASS_COLORS[name] for name in mix.columns}
    draw_steps(axes, edges, mix.to_numpy().T, colors)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    style_time_axis(axes)


def draw_steps(
    axes: Axes, edges: np.ndarray, shares: np.ndarray, colors: Mapping[str, str]
) -> None:
    """Stacks shares `(num_kinds, num_periods)`, level within each period."""
    axes.stackplot(
        np.repeat(edges, 2)[1:-1],
        np.repeat(shares, 2, axis=1),
        colors=list(colors.values()),
        labels=list(colors),
        linewidth=0,
    )


def style_time_axis(axes: Axes) -> None:
    """Gives an axis of moments few, short labels, and the panel no frame."""
    locator = AutoDateLocator(minticks=4, maxticks=10)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.margins(x=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def plot_splits(
    ranges: Sequence[tuple[Sequence[Any], Sequence[Any]]],
    num_samples: int,
    *,
    title: str = "",
) -> Figure:
    """Draws a splitter's folds: training, test, and what is left out between them.

    Args:
        ranges: What a splitter's `get_ranges(num_samples)` returns: for each fold the
            training ranges and the test ranges, (first, one past the last).
        num_samples: Samples that were split.
        title: Name of the splitter.
    """
    height = 1.4 + 0.3 * len(ranges)
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.subplots()
    colors = {"left out": "#e2e8f0", "training": BLUE, "test": CLASS_COLORS["SHORT"]}
    for fold, (train, test) in enumerate(ranges):
        for name, spans in (
            ("left out", [(0, num_samples)]),
            ("training", train),
            ("test", test),
        ):
            bars = [(start, stop - start) for start, stop in spans]
            label = name if fold == 0 else None
            axes.broken_barh(bars, (fold - 0.35, 0.7), color=colors[name], label=label)
    axes.set_xlim(0, num_samples)
    axes.set_ylim(len(ranges) - 0.4, -0.6)
    axes.yaxis.set_major_locator(FixedLocator(range(len(ranges))))
    axes.set_yticklabels([f"fold {fold + 1}" for fold in range(len(ranges))])
    axes.set_xlabel("sample, in time order")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def plot_fold_skill(summary: Mapping[str, Any]) -> Figure:
    """Draws each fold's skill against its training prior, with the folds' mean."""
    parts = {"all of it": "", "activity": "activity_", "direction": "direction_"}
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, len(parts), sharey=True)
    for axes, (name, prefix) in zip(panels, parts.items(), strict=True):
        row = summary["metrics"].get(f"{prefix}skill_vs_train_prior")
        axes.set_title(name)
        axes.axhline(0, color="#334155", linewidth=0.8)
        if row is None or row["mean"] is None:
            continue
        numbers = range(1, len(row["folds"]) + 1)
        values = [0.0 if value is None else value for value in row["folds"]]
        axes.bar(numbers, values, color=BLUE)
        axes.axhline(row["mean"], color=CLASS_COLORS["SHORT"], linestyle="--")
        axes.set_xlabel(f"fold (mean {row['mean']:+.3f})")
        axes.xaxis.set_major_locator(FixedLocator(numbers))
    panels[0].set_ylabel("log-loss skill")
    return figure
