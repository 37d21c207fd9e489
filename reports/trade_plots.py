"""Results of trades -> figures: the search of the thresholds, equity and drawdown.

In: pictures of money. Out: those of forecasts (`plots`, `number_plots`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import NullFormatter, PercentFormatter

from reports.plots import BLUE, CLASS_COLORS, GREY, INK, panels_of


def plot_thresholds(search: Mapping[str, Any]) -> Figure:
    """Draws the threshold search: both sides together, and each side alone.

    First the total net return of each pair on validation; grey: too few trades. Then
    the net return a trade where only one side trades, by the share of rows signalled.

    Args:
        search: Its results.
    """
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    figure.suptitle(search["statement"])
    if search.get("tried"):
        table = pd.DataFrame(search["tried"])
        (panel, pairs), (_, sides) = panels_of(figure, 2)
        _draw_pairs(pairs, table, search, panel)
        _draw_sides(sides, table)
    return figure


def _draw_sides(curve: Axes, table: pd.DataFrame) -> None:
    """Draws the net return a trade where only one side trades."""
    sides = []
    for share, other, side in (
        ("short_share", "long_share", "SHORT"),
        ("long_share", "short_share", "LONG"),
    ):
        alone = table[(table[other] == 0) & (table["num_trades"] > 0)]
        alone = alone.sort_values(share)
        sides += curve.plot(
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
    if any(
        np.size(line.get_xdata()) for line in sides
    ):  # an empty axis has no logarithm
        curve.set_xscale("log")
    curve.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    curve.xaxis.set_minor_formatter(NullFormatter())
    curve.set_xlabel("share of rows that reach the threshold")
    curve.set_ylabel("net return a trade (bps)")
    curve.set_title("one side alone; small figures: trades")
    curve.grid(alpha=0.3)
    curve.margins(y=0.12)
    curve.legend(frameon=False)


def _draw_pairs(
    axes: Axes, table: pd.DataFrame, search: Mapping[str, Any], panel: SubFigure
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
    axes.set_facecolor("#c4c9d0")  # a pale blue would be a gain
    # Squares, not pixels: they stay sharp in a vector file.
    image = axes.pcolormesh(
        np.arange(len(longs) + 1) - 0.5,
        np.arange(len(shorts) + 1) - 0.5,
        values,
        cmap=colormaps["RdBu"].resampled(15),
        vmin=-limit,
        vmax=limit,
        edgecolors="white",
        linewidth=0.5,
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
            edgecolors="black",
            linewidths=2,
        )
    panel.colorbar(image, ax=axes, format="{x:+.0f} %")


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
        "equity": (BLUE, "-", f"after costs: {final:+.1f}%"),
        "equity_before_costs": (BLUE, ":", "before costs"),
        "buy_and_hold": (GREY, "-", f"buy and hold: {held:+.1f}%"),
    }
    for key, (color, style, label) in lines.items():
        values = curve[key]
        upper.plot(times, values, color=color, linestyle=style, label=label)
    upper.axhline(1, color=INK, linewidth=0.8)
    upper.set_ylabel("equity, start = 1")
    sample = ", thresholds chosen here" if trades.get("in_sample") else ""
    count = f"{trades['num_trades']:,} trades" if trades["num_trades"] else "no trades"
    upper.set_title(f"{title}: {count}{sample}".lstrip(": "))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
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
