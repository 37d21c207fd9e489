"""Shares over time -> figures: the class mix, and other stacks of level steps.

In: cutting time into stretches, drawing what happened in each. Out: figures of results
(`plots`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from config import CLASS_NAMES
from reports.plots import CLASS_COLORS, INK, legend_below, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def period_edges(times: np.ndarray, num_periods: int) -> np.ndarray:
    """Returns the edges of equal stretches of time, no more than there are rows.

    Args:
        times: (num_rows,) datetime64[ns].
        num_periods: Most stretches.
    """
    # A second beyond the last row: float arithmetic does not cut it off.
    first, last = times.min().astype(np.int64), times.max().astype(np.int64) + 10**9
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


def plot_label_mix(mix: pd.DataFrame) -> Figure:
    """Draws `label_mix_over_time`; its `attrs["edges"]` are where each part starts."""
    figure, axes = new_axes(9, 3.6, grid=None)
    draw_label_mix(axes, mix)
    mark_parts(axes, mix.attrs.get("edges", {}))
    axes.set_ylabel("share of labels")
    legend_below(figure)
    return figure


def mark_parts(axes: Axes, starts: Mapping[str, Any]) -> None:
    """Draws a line where each part starts, with its name above."""
    from matplotlib import dates

    places = axes.get_xaxis_transform()
    for name, moment in starts.items():
        start = dates.date2num(pd.Timestamp(moment).tz_localize(None))
        axes.axvline(start, color=INK, linewidth=1)
        axes.text(start, 1.01, f" {name}", fontsize=8, va="bottom", transform=places)


def draw_label_mix(axes: Axes, mix: pd.DataFrame) -> None:
    """Draws `label_mix_over_time` into axes; a stretch without rows stays empty."""
    edges = np.append(mix.index.to_numpy("datetime64[ns]"), mix.attrs["stop"])
    colors = {name: CLASS_COLORS[name] for name in mix.columns}
    draw_steps(axes, edges, mix.to_numpy().T, colors)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter("{x:.0%}")
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
    name_moments(axes, most=10)
    axes.margins(x=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def name_moments(axes: Axes, *, most: int = 8) -> None:
    """Gives an axis of moments few, short labels."""
    from matplotlib import dates

    locator = dates.AutoDateLocator(minticks=4, maxticks=most)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
