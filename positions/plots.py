"""Results of an agent -> figures: equity, positions, baselines, what seeds learned.

In: pictures. Out: the numbers (`judging`, `learned`), where they stand (`views`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from positions.claims import NAMES
from reports import plots
from reports.plots import BLUE, CLASS_COLORS, GREY, INK, VIOLET
from reports.time_plots import name_moments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINES = {
    "always_long": (CLASS_COLORS["LONG"], ":"),
    "always_short": (CLASS_COLORS["SHORT"], ":"),
    "buy_and_hold": (GREY, "-"),
    "parent": (VIOLET, "-"),
}


def part_figures(result: Mapping[str, Any], part: str) -> dict[str, Figure]:
    """Returns the figures of one part, by file name."""
    return {
        f"equity_{part}": plot_equity(result, title=part),
        f"positions_{part}": plot_positions(result, title=part),
        f"baselines_{part}": plot_against(result, title=part),
    }


def run_figures(results: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns the figure of a whole run, by file name; none of an evaluation."""
    if "learning" not in results:
        return {}
    return {"learning_curves": plot_learning(results["learning"], results["choice"])}


def plot_equity(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws equity with and without costs beside the baselines, and the drawdown."""
    figure, (upper, lower) = plots.new_axes(
        9, 5.4, 2, 1, sharex=True, height_ratios=[3, 1]
    )
    curve = result["curve"]
    times = pd.to_datetime(curve["time"]).tz_localize(None)
    for name, (color, style) in _LINES.items():
        if name in curve["baselines"]:
            final = result["baselines"][name]["total_return_pct"]
            line = upper.plot(times, curve["baselines"][name], linewidth=1)[0]
            line.set(
                color=color, linestyle=style, label=f"{NAMES[name]}: {final:+.1f}%"
            )
    upper.plot(
        times, curve["equity_before_costs"], ":", color=BLUE, label="before costs"
    )
    label = f"after costs: {result['total_return_pct']:+.1f}%"
    upper.plot(times, curve["equity"], color=BLUE, label=label)
    upper.axhline(1, color=INK, linewidth=0.8)
    upper.set(ylabel="equity, start = 1", title=title)
    plots.legend_below(figure, 2)
    lower.fill_between(
        times, -np.asarray(curve["drawdown_pct"]), color=CLASS_COLORS["SHORT"]
    )
    deepest = min(-1.0, -1.1 * result["max_drawdown_pct"])
    lower.set(ylabel="drawdown (%)", ylim=(deepest, 0))
    name_moments(lower)
    return figure


def plot_positions(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the close, and below it the position that was held."""
    figure, (upper, lower) = plots.new_axes(
        9, 4.6, 2, 1, sharex=True, height_ratios=[3, 2]
    )
    curve = result["curve"]
    times = pd.to_datetime(curve["time"]).tz_localize(None)
    upper.plot(times, curve["close"], color=INK, linewidth=0.8)
    upper.set(ylabel="close", title=f"{title}: {result['num_changes']:,} changes")
    held = np.asarray(curve["position"], float)
    sides = {"LONG": np.maximum(held, 0), "SHORT": np.minimum(held, 0)}
    for side, values in sides.items():
        filled = lower.fill_between(times, values, step="pre", linewidth=0)
        filled.set(color=CLASS_COLORS[side], label=side)
    lower.axhline(0, color=INK, linewidth=0.8)
    lower.set(ylabel="position", ylim=(-1.05, 1.05))
    name_moments(lower)
    plots.legend_below(figure, 2)
    return figure


def plot_against(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws what the agent earned beyond each baseline, with intervals."""
    rows = {
        NAMES[name]: result["comparisons"][name]["net_difference"]
        for name in result["baselines"]
    }
    figure, axes = plots.new_axes(7.5, 1.4 + 0.4 * len(rows), grid="x")
    for height, found in enumerate(rows.values()):
        plots.draw_interval(axes, found, height, BLUE)
    axes.axvline(0, color=INK, linewidth=1)
    plots.name_rows(axes, [f"beyond {name}" for name in rows])
    axes.set(xlabel="net a bar (bps), 95 % interval", title=title)
    return figure


def plot_learning(learning: Any, choice: Mapping[str, Any]) -> Figure:
    """Draws what each seed earned on validation while it learned."""
    figure, axes = plots.new_axes(7.5, 4.2)
    for number, each in enumerate(learning, 1):
        is_chosen = each["seed"] == choice["seed"]
        line = axes.plot(each["steps"], each["net_bps"], marker="o", markersize=3)[0]
        line.set(color=BLUE if is_chosen else GREY, alpha=1.0 if is_chosen else 0.7)
        if is_chosen:
            line.set_label(f"seed {number}, kept")
            at = each["steps"].index(choice["steps"])
            axes.scatter(each["steps"][at], each["net_bps"][at], s=80, color=BLUE)
    axes.plot([], [], color=GREY, label="other seeds")
    axes.axhline(0, color=INK, linewidth=0.8, label="no position")
    axes.set(xlabel="bars learned from", ylabel="net a bar on validation (bps)")
    plots.legend_below(figure)
    return figure
