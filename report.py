"""Results -> a table for the terminal, JSON, plots.

In: showing numbers. Out: computing them (`evaluation`, `metrics`).
Every plot is a function that returns a figure, so that a notebook draws it inline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import utils
from config import CLASS_NAMES

CLASS_COLORS = {"SHORT": "#c2410c", "HOLD": "#94a3b8", "LONG": "#0f766e"}
PARTS = ("validation", "test")


def format_results(results: Mapping[str, Any]) -> str:
    """Returns the confusion matrix, class scores and skill of each part as text."""
    blocks = []
    for part in PARTS:
        if part in results:
            blocks.append(_format_part(part, results[part]))
    return "\n\n".join(blocks)


def _format_part(part: str, result: Mapping[str, Any]) -> str:
    names = list(CLASS_NAMES)
    span = f"{_day(result['first'])} to {_day(result['last'])}"
    lines = [
        f"{part}: {result['num_samples']:,} windows, {span}",
        f"  {'true / predicted':<18}"
        + "".join(f"{name:>9}" for name in names)
        + f"{'precision':>12}{'recall':>8}{'F1':>8}",
    ]
    for name, row in zip(names, result["confusion_matrix"], strict=True):
        scores = result["classes"][name]
        cells = [
            "-" if key in scores["undefined"] else f"{scores[key]:.3f}"
            for key in ("precision", "recall", "f1")
        ]
        lines.append(
            f"  {name:<18}"
            + "".join(f"{count:>9,}" for count in row)
            + f"{cells[0]:>12}{cells[1]:>8}{cells[2]:>8}"
        )
    lines.append(
        f"  accuracy {result['accuracy']:.3f}, balanced "
        f"{result['balanced_accuracy']:.3f}, macro F1 {result['macro_f1']:.3f}, "
        f"log-loss {result['log_loss']:.4f}"
    )
    lines.append(
        "  log-loss skill: "
        f"{_signed(result['skill_vs_train_prior'])} against the train prior, "
        f"{_signed(result['skill_vs_own_mix'])} against this part's own mix, "
        f"{_signed(result['skill_vs_trailing_7d'])} against the trailing 7 days"
    )
    lines.append(
        "  of it, against the train prior: activity "
        f"{_signed(result['activity_skill_vs_train_prior'])}, direction "
        f"{_signed(result['direction_skill_vs_train_prior'])}"
    )
    return "\n".join(lines)


def _signed(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.3f}"


def _day(moment: Any) -> str:
    return f"{pd.Timestamp(moment):%Y-%m-%d %H:%M}"


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    *,
    history: Mapping[str, Sequence[float]],
    label_mix: pd.DataFrame,
) -> None:
    """Writes `confusion_matrix_report.json` and `plots/*.png` into a run folder."""
    utils.write_json(folder / "confusion_matrix_report.json", results)
    figures = {
        f"confusion_matrix_{part}": plot_confusion_matrix(results[part], title=part)
        for part in PARTS
        if part in results
    }
    figures["learning_curves"] = plot_learning_curves(history)
    figures["label_mix"] = plot_label_mix(label_mix)
    for name, figure in figures.items():
        with utils.atomic_path(folder / "plots" / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=120)


def plot_confusion_matrix(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws one part's confusion matrix, coloured by share of the true class."""
    matrix = np.asarray(result["confusion_matrix"])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(matrix):
        axes.text(
            j,
            i,
            f"{count:,}\n{shares[i, j]:.0%}",
            ha="center",
            va="center",
            color="white" if shares[i, j] > 0.55 else "#1e293b",
        )
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set_xlabel("predicted (most probable class)")
    axes.set_ylabel("true")
    axes.set_title(f"{title}: {result['num_samples']:,} windows".lstrip(": "))
    figure.colorbar(image, label="share of the true class", format="{x:.0%}")
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
    panels[0].axvline(best + 1, color="#64748b", linestyle=":")
    panels[0].set_title(f"lowest validation loss in epoch {best + 1}")
    return figure


def label_mix_over_time(
    timestamps: np.ndarray, labels: np.ndarray, *, num_periods: int = 120
) -> pd.DataFrame:
    """Returns the share of each class in equal stretches of time.

    Args:
        timestamps: (num_rows,) datetime64.
        labels: (num_rows,) class ids.
        num_periods: Most stretches.
    """
    span = timestamps[-1] - timestamps[0]
    width = max(span / num_periods, np.timedelta64(1, "m"))
    period = ((timestamps - timestamps[0]) / width).astype(np.int64)
    table = pd.crosstab(period, labels, normalize="index")
    table = table.reindex(columns=range(len(CLASS_NAMES)), fill_value=0.0)
    table.index = pd.DatetimeIndex(timestamps[0] + table.index.to_numpy() * width)
    table.columns = pd.Index(CLASS_NAMES)
    return table


def plot_label_mix(
    mix: pd.DataFrame, *, edges: Mapping[str, Any] | None = None
) -> Figure:
    """Draws `label_mix_over_time`; `edges` marks where each part starts."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    colors = [CLASS_COLORS[name] for name in mix.columns]
    axes.stackplot(mix.index, mix.to_numpy().T, labels=mix.columns, colors=colors)
    for name, moment in (edges or mix.attrs.get("edges", {})).items():
        axes.axvline(moment, color="#0f172a", linewidth=1)
        axes.text(moment, 1.01, f" {name}", fontsize=8, va="bottom")
    axes.set_ylim(0, 1)
    axes.set_xlim(mix.index[0], mix.index[-1])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("share of labels")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure
