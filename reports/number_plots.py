"""Results of a return or a price -> figures: errors, bins, residuals, skill.

In: pictures. Out: computing what is drawn (`evaluation.number_scores`), those that
classes have, too (`plots`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from evaluation.numbers import Numbers
from metrics.wording import number
from reports import plots
from reports.plots import BLUE, CLASS_COLORS, GREY, INK
from reports.time_plots import mark_parts, name_moments

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    figure, axes = plots.new_axes(6.4, 5.0)
    bins = result["bins"]
    stated, actual, low, high = (
        np.array(bins[f"{key}_bps"], float)
        for key in ("predicted", "actual", "low", "high")
    )
    edge = [float(stated.min()), float(stated.max())]
    axes.plot(edge, edge, color=GREY, linestyle=":", label="as predicted")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.vlines(stated, low, high, color=BLUE, linewidth=2, alpha=0.6)
    axes.plot(stated, actual, "o-", color=BLUE, label="mean that followed, 95 %")
    axes.set(xlabel="predicted log return (bps), tenths of the rows", title=title)
    axes.set_ylabel("actual log return (bps)")
    axes.legend(frameon=False)
    return figure


def plot_errors(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the absolute error over time beside persistence, and the bias below."""
    figure, (upper, lower) = plots.new_axes(
        9, 5, 2, 1, sharex=True, height_ratios=[2, 1]
    )
    errors = result["errors"]
    edges = pd.to_datetime([*errors["start"], errors["stop"][-1]]).tz_localize(None)
    for key, color, label in (
        ("mae_persistence_bps", GREY, "persistence"),
        ("mae_bps", BLUE, "this model"),
    ):
        upper.stairs(
            errors[key], edges, color=color, linewidth=1.5, baseline=None, label=label
        )
    upper.set(ylabel="mean error (bps)", title=title)
    plots.legend_below(figure)
    lower.stairs(errors["bias_bps"], edges, color=CLASS_COLORS["SHORT"], baseline=None)
    lower.axhline(0, color=INK, linewidth=0.8)
    lower.set_ylabel("bias (bps)")
    name_moments(lower)
    return figure


def plot_residuals(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the distribution of actual - predicted beside that of persistence."""
    figure, axes = plots.new_axes(6.4, 4.2)
    found = result["residuals"]
    edges = np.asarray(found["edges_bps"])
    persistence = axes.stairs(found["count_persistence"], edges, fill=True)
    persistence.set(color=GREY, alpha=0.4, label="persistence")
    axes.stairs(found["count"], edges, color=BLUE, linewidth=1.5, label="this model")
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(title=title, ylabel="rows")
    axes.set_xlabel(
        f"actual - predicted log return (bps); {found['outside']:,} rows lie outside"
    )
    axes.legend(
        title=f"mean {found['mean_bps']:+.2f}\ndeviation {found['std_bps']:.1f}\n"
        f"excess kurtosis {number(found['excess_kurtosis'], '{:.1f}')}",
        frameon=False,
    )
    return figure


def plot_regression_baselines(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the skill of the model and of each baseline, with intervals."""
    key = "skill_mse_vs_persistence"
    rows = {"this model": result["intervals"][key]} | {
        Numbers.baseline_names[name]: scores["intervals"][key]
        for name, scores in result["baselines"].items()
        if "intervals" in scores and name != "persistence"
    }
    figure, axes = plots.new_axes(7.5, 1.4 + 0.4 * len(rows), grid="x")
    for height, (name, found) in enumerate(rows.items()):
        plots.draw_interval(axes, found, height, BLUE if name == "this model" else GREY)
    axes.axvline(0, color=INK, linewidth=1)
    plots.name_rows(axes, list(rows))
    # A baseline without any sense is far below 0 and would hide the others.
    lowest = min(rows["this model"]["estimate"] or 0, 0)
    left = max(axes.get_xlim()[0], 3 * lowest - 0.3)
    axes.set_xlim(left=left)
    for height, found in enumerate(rows.values()):
        value = found["estimate"]
        if value is not None and value < left:
            axes.text(left, height, f" \u2190 {value:+.2f}", color=GREY, va="center")
    axes.set(xlabel="skill against persistence, 95 % interval", title=title)
    return figure


def plot_target_over_time(table: Mapping[str, Any]) -> Figure:
    """Draws the spread of the actual log returns over time, and where parts start."""
    figure, axes = plots.new_axes(9, 3.6)
    times = pd.to_datetime(table["time"]).tz_localize(None)
    levels = table["quantiles_bps"]
    for low, high, alpha in (("5", "95", 0.2), ("25", "75", 0.4)):
        filled = axes.fill_between(times, levels[low], levels[high], step="post")
        filled.set(color=BLUE, alpha=alpha, linewidth=0, label=f"{low} to {high} %")
    axes.step(times, levels["50"], where="post", color=INK, label="median")
    mark_parts(axes, table["parts"])
    axes.set_ylabel("log return over the horizon (bps)")
    name_moments(axes)
    plots.legend_below(figure)
    return figure
