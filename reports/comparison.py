"""A comparison of runs -> one table, one picture, JSON and CSV.

In: showing numbers. Out: computing them (`experiments.comparison`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import utils
from files.atomic import atomic_write
from files.strict import write_json
from metrics.wording import interval, number
from reports.plots import BLUE, GREY, INK, draw_interval, name_rows, new_axes, save_png
from reports.text import day, format_table, spread, wrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 118
_SIGNIFICANT = 0.05

Cell = Callable[[Mapping[str, Any]], str]


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Returns the comparison as one table, the best model first, and how to read it."""
    finished = [x for x in comparison["models"] if x["status"] == "completed"]
    failed = [x for x in comparison["models"] if x["status"] == "failed"]
    lines = []
    if finished:
        test = comparison["test"]
        columns = _columns(comparison)
        lines.append(
            f"comparison on {test['num_samples']:,} test windows, "
            f"{day(test['first'])} to {day(test['last'])}, the same for every model"
        )
        lines += format_table(
            [list(columns), *([c(x) for c in columns.values()] for x in finished)]
        )
        lines += _reading(comparison, finished)
    lines += [
        wrap(f"{x['model']} failed: {x['error']}", width=_WIDTH, indent=2)
        for x in failed
    ]
    return "\n".join(lines)


def _columns(comparison: Mapping[str, Any]) -> dict[str, Cell]:
    """Returns heading -> what one model has below it."""
    is_number = comparison["loss"] != "log-loss"
    own = "correlation" if is_number else "activity"
    folds = "skill_mse_vs_persistence" if is_number else "skill_vs_train_prior"
    columns: dict[str, Cell] = {
        "": lambda x: x["model"],
        "vs persistence" if is_number else "skill vs prior": lambda x: interval(
            x["skill"], "{:+.2f}"
        ),
        "vs 7 days": lambda x: number(x["skill_vs_trailing"]["estimate"], "{:+.2f}"),
        own: lambda x: number(x[own]["estimate"], "{:+.2f}"),
        "sign" if is_number else "direction": lambda x: number(
            x["direction"]["estimate"], "{:+.3f}"
        ),
        "p": lambda x: number(x["direction_p_value"], "{:.3f}"),
        "net bps/trade": _net,
        "trades": lambda x: number(x["trading"].get("num_trades"), "{:,}"),
        "trained": lambda x: f"{'>' * x['is_resumed']}{x['training_seconds']:,.1f} s",
        "numbers": lambda x: f"{x['parameters']:,}",
        "file": lambda x: utils.format_bytes(x["model_bytes"]),
        "p vs best": lambda x: (
            "best"
            if x["model"] == comparison["best"]
            else number(_p_value(x), "{:.3f}")
        ),
    }
    if any("grade" in x for x in comparison["models"]):
        columns["grade"] = lambda x: str(x["grade"])
        columns["answer"] = lambda x: number(x["latency_ms"], "{:.2f} ms")
    if any(x.get("cross_validation") for x in comparison["models"]):
        columns["skill of folds"] = lambda x: spread(x["cross_validation"].get(folds))
    return columns


def _net(entry: Mapping[str, Any]) -> str:
    trades = entry["trading"]
    if "mean_net_return_bps" not in trades:
        return "not known"
    if not trades["num_trades"]:
        return "-"
    return interval(trades["mean_net_return_bps"], "{:+.0f}")


def _p_value(entry: Mapping[str, Any]) -> float | None:
    """Returns the adjusted p-value against the best; None where there is none."""
    against = entry["against_best"]
    return against and against["adjusted_p_value"]


def _reading(
    comparison: Mapping[str, Any], finished: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Returns what the p-values mean, and what they say."""
    others = [x for x in finished if x["model"] != comparison["best"]]
    notes = []
    equal = [x for x in others if _is_equal(x)]
    if others:
        names = ", ".join(x["model"] for x in equal) or "no model"
        best = comparison["best"]
        notes.append(f"not told apart from {best} (p >= {_SIGNIFICANT}): {names}")
        notes.append(
            f"p vs best: two-sided test of an equal mean {comparison['loss']}, paired "
            f"by row over {comparison['test']['length']['days']:.0f} days; "
            f"Holm-adjusted for {utils.counted(len(others), 'test', 'tests')}. The "
            "best was chosen on these rows: the p-values describe them, and confirm "
            "nothing."
        )
    if any(x["is_resumed"] for x in finished):
        notes.append("trained: > marks the last process of a resumed run")
    return [wrap(note, width=_WIDTH, indent=2) for note in notes]


def _is_equal(entry: Mapping[str, Any]) -> bool:
    p_value = _p_value(entry)
    return p_value is None or p_value >= _SIGNIFICANT


def plot_comparison(comparison: Mapping[str, Any]) -> Figure:
    """Draws each finished model's skill, direction, net edge, time and size.

    Blue is the best, and what cannot be told from it.
    """
    models = [x for x in comparison["models"] if x["status"] == "completed"]
    is_number = comparison.get("loss") != "log-loss"
    own = "correlation" if is_number else "activity"
    panels = {
        "skill": "skill vs persistence" if is_number else "skill vs the train prior",
        own: own if is_number else "activity skill",
        "direction": "right signs beyond chance" if is_number else "direction skill",
        "net": "net return a trade (bps)",
        "training_seconds": "training (s)",
        "model_bytes": "model file (bytes)",
    }
    height = 2.4 + 2 * 0.3 * len(models)
    figure, places = new_axes(10.5, height, 2, 3, grid="x", sharey=True)
    colors = [
        BLUE if x["model"] == comparison["best"] or _is_equal(x) else GREY
        for x in models
    ]
    for axes, (key, title) in zip(places.flat, panels.items(), strict=True):
        axes.set_title(title, fontsize=10)
        name_rows(axes, [x["model"] for x in models])
        if key in ("training_seconds", "model_bytes"):
            values = [max(x[key], 0.1) for x in models]
            axes.set_xscale("log")
            for k, value in enumerate(values):
                axes.plot(value, k, "s", color=colors[k], markersize=5)
            # A decade at least, so that the axis has numbers to read.
            low, high = min(values), max(values)
            axes.set_xlim(low / 4, high * 4)
            continue
        axes.axvline(0, color=INK, linewidth=1)
        for k, entry in enumerate(models):
            trades = entry["trading"] if entry["trading"].get("num_trades") else {}
            net = trades.get("mean_net_return_bps")
            if found := net if key == "net" else entry[key]:
                draw_interval(axes, found, k, colors[k])
    test = comparison["test"]
    seen = "IN SAMPLE: " if comparison.get("in_sample") else ""
    figure.suptitle(
        f"{seen}{test['num_samples']:,} test windows, {day(test['first'])} to "
        f"{day(test['last'])}; lines: 95 % intervals; blue: the best, and what is "
        "not told apart from it",
        fontsize=9,
    )
    return figure


def flat_table(entries: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Returns one row a run and one column a number: `skill.low`, `trading.num_trades`.

    Lists stay out: they are in the JSON. So do columns without any value.
    """
    table = pd.json_normalize([dict(entry) for entry in entries])
    table = table.dropna(axis="columns", how="all")
    is_list = [any(isinstance(v, list) for v in table[c]) for c in table.columns]
    return table.loc[:, ~np.array(is_list)]


def write_comparison(folder: Path, comparison: Mapping[str, Any]) -> None:
    """Writes `comparison.csv`, `comparison.png` and, last, `comparison.json`."""
    table = flat_table(comparison["models"])
    atomic_write(folder / "comparison.csv", table.to_csv(index=False))
    if comparison["best"] is not None:
        save_png(plot_comparison(comparison), folder / "comparison.png", dpi=120)
    write_json(folder / "comparison.json", comparison)
