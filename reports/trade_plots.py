"""Trades as a list, and as figures: the search of the thresholds, equity, drawdown.

In: lists and pictures of money. Out: those of forecasts (`plots`, `number_plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from config import CLASS_NAMES, Config
from data_loader import TrainingData
from dataset.labels import STOP_LOSS, TAKE_PROFIT, TIMEOUT
from evaluation.backtest import simulate_part, trading_problem
from evaluation.trading import TradeOutcomes
from reports import plots
from reports.plots import BLUE, CLASS_COLORS, GREY, INK
from reports.time_plots import name_moments, period_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

EXITS = {TIMEOUT: "horizon", TAKE_PROFIT: "take profit", STOP_LOSS: "stop loss"}
"""Exit code -> where a trade ended, in words."""

_CLOSES, _MARKS = 500, 75


def list_trades(
    table: pd.DataFrame, scores: np.ndarray, data: TrainingData, config: Config
) -> pd.DataFrame:
    """Returns each trade that the signals of one part made, in time order.

    Columns: `time_in` and `time_out`, closes of bars, UTC; `side`; `entry_price` and
    `exit_price`; `bars_held`; `exit`, the reason; `size`, the amount traded as a
    fraction of equity; `gross_bps` and `net_bps` of that amount, before and after
    costs; `equity` after the trade, 1 at the start. None without outcomes, or trades.
    Of pooled pairs `pair` comes first, in order of exits.

    Args:
        table: The part, with its `signal`.
        scores: As those of `backtest_part`.
        data: The same data.
        config: The same run.
    """
    if trading_problem(table) is not None:
        return pd.DataFrame()
    if "pair" not in table:
        trades, outcomes, _ = simulate_part(table, scores, data, config)
        return _trades_table(trades, outcomes)
    found = []
    for name, own in table.assign(place=np.arange(len(table))).groupby("pair"):
        places = own.pop("place").to_numpy()
        one = own.drop(columns="pair")
        trades, outcomes, _ = simulate_part(one, scores[places], data, config)
        found.append(_trades_table(trades, outcomes))
        found[-1].insert(0, "pair", str(name))
    trades, _, _ = simulate_part(table, scores, data, config)
    joined = pd.concat(found).sort_values("time_out", kind="stable", ignore_index=True)
    return joined.assign(size=trades["size"], equity=trades["equity"])


def _trades_table(trades: np.ndarray, outcomes: TradeOutcomes) -> pd.DataFrame:
    entry = np.asarray(outcomes.close, dtype=np.float64)[trades["row"]]
    columns = {
        "time_in": np.char.add(trades["entry_time"].astype(str), "Z"),
        "time_out": np.char.add(trades["exit_time"].astype(str), "Z"),
        "side": np.where(trades["side"] == 1, "LONG", "SHORT"),
        "entry_price": entry,
        "exit_price": entry * (1.0 + trades["side"] * trades["gross_return"]),
        "bars_held": trades["exit_bars"],
        "exit": [EXITS[code] for code in trades["exit_code"].tolist()],
        "size": trades["size"],
        "gross_bps": 1e4 * trades["gross_return"],
        "net_bps": 1e4 * trades["net_return"],
        "equity": trades["equity"],
    }
    return pd.DataFrame(columns)


def plot_thresholds(search: Mapping[str, Any]) -> Figure:
    """Draws the threshold search: both sides together, and each side alone.

    First the total net return of each pair on validation; grey: too few trades. Then
    the net return a trade where only one side trades, by the share of rows signalled;
    left out where none does.
    """
    figure = plots.new_figure(10.5, 4.6)
    figure.suptitle(search["statement"])
    table = pd.DataFrame(search["tried"])
    is_alone = table[["short_share", "long_share"]].min(axis=1) == 0
    alone = table[is_alone & (table["num_trades"] > 0)]
    panels = plots.panels_of(figure, 1 + (len(alone) > 0))
    _draw_pairs(panels[0][1], table, search, panels[0][0])
    if len(alone):
        _draw_sides(*panels[1], alone)
    return figure


def _draw_sides(panel: SubFigure, curve: Axes, table: pd.DataFrame) -> None:
    """Draws the net return a trade where only one side trades."""
    # The numbers of trades stand along the edges: the curves may meet.
    edges = curve.get_xaxis_transform()
    for side, height, align in (("SHORT", 0.02, "bottom"), ("LONG", 0.98, "top")):
        share, color = f"{side.lower()}_share", CLASS_COLORS[side]
        alone = table[table[share] > 0].sort_values(share)
        net = alone["mean_net_return_bps"].astype(float)
        curve.plot(alone[share], net, marker="o", label=f"{side} alone", color=color)
        # Beyond, there are many trades.
        for row in alone[alone[share] < 0.08].itertuples():
            label = curve.text(getattr(row, share), height, f"{row.num_trades:,}")
            label.set(color=color, fontsize=7, ha="center", va=align, transform=edges)
    curve.axhline(0, color=INK, linewidth=1)
    curve.set_xscale("log")
    curve.xaxis.set_major_formatter("{x:.1%}")
    curve.xaxis.set_minor_formatter("")
    curve.set_title("one side alone; small figures: trades")
    curve.set_xlabel("share of rows that reach the threshold")
    curve.set_ylabel("net return a trade (bps)")
    curve.grid(alpha=0.3)
    curve.margins(y=0.15)
    plots.legend_below(panel)


def _draw_pairs(
    axes: Axes, table: pd.DataFrame, search: Mapping[str, Any], panel: SubFigure
) -> None:
    """Draws the total net return of every pair of thresholds."""
    from matplotlib import colormaps

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
    colors = colormaps["RdBu"].resampled(15)
    image = axes.pcolormesh(values, cmap=colors, edgecolors="white", linewidth=0.5)
    image.set_clim(-limit, limit)
    middle = np.arange(max(len(longs), len(shorts))) + 0.5
    axes.set_xticks(middle[: len(longs)], [_share(v) for v in longs], rotation=60)
    axes.set_yticks(middle[: len(shorts)], [_share(v) for v in shorts])
    axes.set(xlabel="rows signalled LONG", ylabel="rows signalled SHORT")
    axes.set_title("total net return on validation")
    chosen = (search["short_threshold"], search["long_threshold"])
    if any(limit is not None for limit in chosen):
        match = _same(table["short_threshold"], chosen[0]) & _same(
            table["long_threshold"], chosen[1]
        )
        best = table[match].iloc[0]
        x = middle[np.searchsorted(longs, best["long_share"])]
        y = middle[np.searchsorted(shorts, best["short_share"])]
        axes.scatter(x, y, s=160, facecolors="none", edgecolors="black", linewidths=2)
    panel.colorbar(image, ax=axes, format="{x:+.0f} %")


def _same(column: pd.Series, value: float | None) -> pd.Series:
    return column.isna() if value is None else column == value


def _share(value: float) -> str:
    return "never" if value == 0 else f"{value:.1%}"


def plot_equity(
    trades: Mapping[str, Any],
    *,
    title: str = "",
    beside: Mapping[str, Mapping[str, Any]] | None = None,
) -> Figure:
    """Draws equity with and without costs beside buy and hold, and the drawdown.

    `beside` are other trades of the same rows by name.
    """
    figure, (upper, lower) = plots.new_axes(
        9, 5.4, 2, 1, sharex=True, height_ratios=[3, 1]
    )
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
    for name, other in (beside or {}).items():
        label = f"{name}: {other['total_return_pct']:+.1f}%"
        there = pd.to_datetime(other["curve"]["time"]).tz_localize(None)
        upper.plot(there, other["curve"]["equity"], color=plots.VIOLET, label=label)
    upper.axhline(1, color=INK, linewidth=0.8)
    upper.set_ylabel("equity, start = 1")
    sample = ", thresholds chosen here" if trades.get("in_sample") else ""
    count = f"{trades['num_trades']:,} trades" if trades["num_trades"] else "no trades"
    upper.set_title(f"{title}: {count}{sample}".lstrip(": "))
    plots.legend_below(figure, 2)
    fallen = -np.asarray(curve["drawdown_pct"])
    lower.fill_between(times, fallen, color=CLASS_COLORS["SHORT"])
    deepest = min(-1.0, -1.1 * trades["max_drawdown_pct"])
    lower.set(ylabel="drawdown (%)", ylim=(deepest, 0))
    name_moments(lower)
    return figure


def plot_prices(
    prices: pd.DataFrame, trades: Mapping[str, Sequence[Any]], *, title: str = ""
) -> Figure:
    """Draws the close with entries and exits by side; below, where signals stood.

    Of long parts the lowest and the highest close of each stretch are drawn, and of
    marks that would cover each other one.

    Args:
        prices: See `reports.blocks.Material`.
        trades: From `list_trades`, at least one.
        title: Name of the part.
    """
    figure, (upper, lower) = plots.new_axes(
        9, 5.4, 2, 1, sharex=True, height_ratios=[5, 1]
    )
    times = prices["time"].dt.tz_localize(None).to_numpy("datetime64[ns]")
    stretch = np.arange(len(prices)) * _CLOSES // max(len(prices), _CLOSES)
    levels = prices["close"].reset_index(drop=True).groupby(stretch)
    drawn = np.unique(levels.agg(["idxmin", "idxmax"]))
    close = prices["close"].to_numpy()[drawn]
    upper.plot(times[drawn], close, color=INK, linewidth=0.8, zorder=3)
    table = pd.DataFrame(trades)
    edges = period_edges(times, _MARKS)
    for side, height, entry in (("LONG", 1, "^"), ("SHORT", 0, "v")):
        color, own = CLASS_COLORS[side], table[table["side"] == side]
        ends = (("in", "entry", entry, color), ("out", "exit", "o", "none"))
        for end, name, marker, fill in ends if len(own) else ():
            moments = pd.to_datetime(own[f"time_{end}"]).dt.tz_localize(None)
            kept = _one_a_stretch(moments, edges)
            price = own[f"{name}_price"]
            marks = upper.scatter(moments[kept], price[kept], s=12, marker=marker)
            marks.set(facecolor=fill, edgecolor=color, label=f"{side} {end}")
        signalled = times[prices["signal"] == CLASS_NAMES.index(side)]
        ticks = signalled[_one_a_stretch(signalled, edges)]
        lower.vlines(ticks, height - 0.4, height + 0.4, color=color)
    count = f"{len(table):,} trade{'s' * (len(table) > 1)}"
    upper.set(ylabel="close", title=f"{title}: {count}".lstrip(": "))
    lower.set_yticks([1, 0], ["LONG", "SHORT"])
    lower.set(ylim=(-0.6, 1.6), ylabel="signals")
    lower.grid(visible=False)
    name_moments(lower)
    plots.legend_below(figure, 2)
    return figure


def _one_a_stretch(moments: Any, edges: np.ndarray) -> np.ndarray:
    """Returns whether each moment (num_moments,) is the first of its stretch."""
    return ~pd.Series(np.searchsorted(edges, moments)).duplicated().to_numpy()
