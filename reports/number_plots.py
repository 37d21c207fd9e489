"""Results of a return or a price -> figures: errors, bins, residuals, skill.

In: pictures. Out: computing what is drawn (`evaluation.number_scores`), those that
classes have, too (`plots`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from evaluation.numbers import Numbers
from metrics.wording import number
from reports.plots import BLUE, CLASS_COLORS, GREY, INK


def part_figures(result: Mapping[str, Any], part: str) -> dict[str, Figure]:
    """Returns the figures of one part that only a number has, by file name."""
    return {
        f"predicted_actual_{part}": plot_predicted_actual(result, title=part),
        f"errors_{part}": plot_errors(result, title=part),
        f"residuals_{part}": plot_residuals(result, title=part),
        f"baselines_{part}": plot_regression_baselines(result, title=part),
    }


def plot_predicted_actual(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws what followed each tenth of the predictions, with intervals.

    The dotted line is a prediction that comes true on average, the level one that of a
    forecast which names the mean.
    """
    figure = Figure(figsize=(6.4, 5.0), layout="constrained")
    axes = figure.subplots()
    bins = result["bins"]
    stated, actual = (
        np.array(bins[key], float) for key in ("predicted_bps", "actual_bps")
    )
    low, high = (
        np.array([np.nan if v is None else v for v in bins[key]], float)
        for key in ("low_bps", "high_bps")
    )
    edge = [float(stated.min()), float(stated.max())]
    axes.plot(edge, edge, color=GREY, linestyle=":", label="as predicted")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.vlines(stated, low, high, color=BLUE, linewidth=2, alpha=0.6)
    axes.plot(stated, actual, "o-", color=BLUE, label="mean that followed, 95 %")
    axes.set_xlabel("predicted log return (bps), tenths of the rows")
    axes.set_ylabel("actual log return (bps)")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def plot_errors(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the absolute error over time beside persistence, and the bias below."""
    figure = Figure(figsize=(9, 5.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    errors = result["errors"]
    edges = pd.to_datetime([*errors["start"], errors["stop"][-1]]).tz_localize(None)
    for key, color, label in (
        ("mae_persistence_bps", GREY, "persistence"),
        ("mae_bps", BLUE, "this model"),
    ):
        upper.stairs(
            errors[key], edges, color=color, linewidth=1.5, baseline=None, label=label
        )
    upper.set_ylabel("mean error (bps)")
    upper.set_title(title)
    upper.legend(frameon=False)
    lower.stairs(errors["bias_bps"], edges, color=CLASS_COLORS["SHORT"], baseline=None)
    lower.axhline(0, color=INK, linewidth=0.8)
    lower.set_ylabel("bias (bps)")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    _time_axis(lower)
    return figure


def plot_residuals(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the distribution of actual - predicted beside that of persistence."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    found = result["residuals"]
    edges = np.asarray(found["edges_bps"])
    axes.stairs(
        found["count_persistence"],
        edges,
        fill=True,
        color=GREY,
        alpha=0.4,
        label="persistence",
    )
    axes.stairs(found["count"], edges, color=BLUE, linewidth=1.5, label="this model")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_title(title)
    axes.set_xlabel(
        f"actual - predicted log return (bps); {found['outside']:,} rows lie outside"
    )
    axes.set_ylabel("rows")
    axes.grid(alpha=0.3)
    axes.legend(
        title=f"mean {found['mean_bps']:+.2f}\ndeviation {found['std_bps']:.1f}\n"
        f"excess kurtosis {number(found['excess_kurtosis'], '{:.1f}')}",
        frameon=False,
    )
    return figure


def plot_regression_baselines(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the skill of the model and of each baseline, with intervals."""
    rows = {"this model": result["intervals"]} | {
        Numbers.baseline_names[name]: scores["intervals"]
        for name, scores in result["baselines"].items()
        if "intervals" in scores and name != "persistence"
    }
    figure = Figure(figsize=(7.5, 1.4 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for height, (name, intervals) in enumerate(reversed(rows.items())):
        found = intervals["skill_mse_vs_persistence"]
        if found["estimate"] is None:
            continue
        color = BLUE if name == "this model" else GREY
        if found["low"] is not None:
            ends = [found["low"], found["high"]]
            axes.plot(ends, [height, height], color=color, linewidth=2)
        axes.plot(found["estimate"], height, "o", color=color)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(rows)), list(reversed(rows)))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    # A baseline without any sense is far below 0 and would hide the others.
    lowest = min(result["intervals"]["skill_mse_vs_persistence"]["estimate"] or 0, 0)
    left = max(axes.get_xlim()[0], 3 * lowest - 0.3)
    axes.set_xlim(left=left)
    for height, intervals in enumerate(reversed(rows.values())):
        value = intervals["skill_mse_vs_persistence"]["estimate"]
        if value is not None and value < left:
            axes.text(left, height, f" \u2190 {value:+.2f}", color=GREY, va="center")
    axes.set_xlabel("skill against persistence, 95 % interval")
    axes.set_title(title)
    axes.grid(alpha=0.3, axis="x")
    return figure


def plot_target_over_time(table: Mapping[str, Any]) -> Figure:
    """Draws the spread of the actual log returns over time, and where parts start.

    Args:
        table: `target_over_time` of the results.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    times = pd.to_datetime(table["time"]).tz_localize(None)
    levels = table["quantiles_bps"]
    for low, high, alpha in (("5", "95", 0.2), ("25", "75", 0.4)):
        axes.fill_between(
            times,
            levels[low],
            levels[high],
            step="post",
            color=BLUE,
            alpha=alpha,
            linewidth=0,
            label=f"{low} to {high} %",
        )
    axes.step(times, levels["50"], where="post", color=INK, label="median")
    for name, moment in table["parts"].items():
        start = date2num(pd.Timestamp(moment).tz_localize(None))
        axes.axvline(start, color=INK, linewidth=1)
        axes.annotate(
            f" {name}",
            (start, 1.0),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            va="bottom",
        )
    axes.set_ylabel("log return over the horizon (bps)")
    axes.grid(alpha=0.3)
    _time_axis(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _time_axis(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=4, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
