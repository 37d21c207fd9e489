"""Results -> figures, each by one function, so that a notebook draws them inline.

In: pictures. Out: text and files (`report`), computing what is drawn
(`evaluation.evaluate`), trades (`trade_plots`), shares over time (`time_plots`).
Figures are made without pyplot: nothing global, no window, nothing to close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator

from config import CLASS_NAMES
from evaluation.classes import Classes
from preprocessing.parts import spans_of

SKILL_NAMES = {"": "all of it", "activity_": "activity", "direction_": "direction"}
"""Prefix of a key of the results -> the part of the log-loss that it measures."""

CLASS_COLORS = {"SHORT": "#c2410c", "HOLD": "#94a3b8", "LONG": "#0f766e"}
INK, BLUE, GREY, FAINT = "#0f172a", "#1d4ed8", "#64748b", "#e2e8f0"
VIOLET = "#7c3aed"
_MOST_MARKERS = 30


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


def panels_of(figure: Figure, count: int) -> list[tuple[SubFigure, Axes]]:
    """Returns panels side by side, of which a page can show each alone."""
    parts = figure.subfigures(1, count, squeeze=False, wspace=0)[0]
    return [(part, part.subplots()) for part in parts]


def plot_reliability(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws how often each class happened against its forecast, before and after.

    The area of a dot is the share of the rows in its bin.

    Args:
        result: One part's results.
        title: Name of the part.
    """
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    before = result["expected_calibration_error"]
    after = result["calibrated"]["expected_calibration_error"]
    names = {
        "raw": f"before calibration, ECE {before:.3f}",
        "calibrated": f"after, ECE {after:.3f}",
    }
    bins = [_filled_bins(result, k, c) for k in names for c in CLASS_COLORS]
    top = max(max(a.max(), b[s > 0.001].max(initial=0.0)) for a, b, s in bins)
    limit = min(1.02, 1.05 * top)
    for (panel, axes), kind in zip(panels_of(figure, 2), names, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        for class_name, color in CLASS_COLORS.items():
            stated, happened, share = _filled_bins(result, kind, class_name)
            axes.plot(stated, happened, color=color, linewidth=1.5, label=class_name)
            axes.scatter(stated, happened, s=8 + 500 * share, color=color)
        axes.set_title(f"{title} {names[kind]}".lstrip())
        axes.set_xlabel("forecast probability")
        axes.set_ylabel("share that happened")
        axes.grid(alpha=0.3)
        axes.set_xlim(0, limit)
        axes.set_ylim(0, limit)
        panel.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _filled_bins(
    result: Mapping[str, Any], kind: str, class_name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns forecast, frequency and share of rows of the bins that have rows."""
    bins = result["reliability"][kind][class_name]
    count = np.asarray(bins["count"], dtype=float)
    filled = count > 0
    stated = np.asarray(bins["mean_confidence"], dtype=float)[filled]
    happened = np.asarray(bins["frequency"], dtype=float)[filled]
    return stated, happened, count[filled] / count.sum()


def plot_baselines(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws the skill of the model and of each probability baseline, with intervals."""
    rows = {"this model": result["intervals"]} | {
        Classes.baseline_names[name]: scores["intervals"]
        for name, scores in result["baselines"].items()
        if "intervals" in scores and name != "train_prior"
    }
    height = 1.4 + 0.24 * len(SKILL_NAMES) * (len(rows) + 1)
    figure = Figure(figsize=(6, height), layout="constrained")
    axes = figure.subplots()
    labels: list[str] = []
    for prefix, heading in SKILL_NAMES.items():
        axes.axhline(len(labels) - 0.5, color=FAINT, linewidth=1)
        labels.append(heading)
        for name, intervals in rows.items():
            found = intervals[f"{prefix}skill_vs_train_prior"]
            color = BLUE if name == "this model" else GREY
            draw_interval(axes, found, len(labels), color)
            labels.append(name)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(labels)), labels)
    for label in axes.get_yticklabels()[:: len(rows) + 1]:
        label.set_fontweight("bold")
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(alpha=0.3, axis="x")
    axes.set_xlabel("skill against the train prior, 95 % interval")
    axes.set_title(title)
    return figure


def draw_interval(
    axes: Axes, found: Mapping[str, Any], height: float, color: str
) -> None:
    """Draws an estimate as a dot on its interval; nothing where there is none."""
    if found["estimate"] is None:
        return
    if found["low"] is not None:
        axes.plot([found["low"], found["high"]], [height] * 2, color=color, linewidth=2)
    axes.plot(found["estimate"], height, "o", color=color, markersize=5)


def curve_metrics(history: Mapping[str, Sequence[float]]) -> list[str]:
    """Returns which of loss and accuracy a history has values of."""
    names = ("loss", "accuracy")
    return [name for name in names if history.get(name) or history.get(f"val_{name}")]


def plot_learning_curves(
    history: Mapping[str, Sequence[float]], *, step: str = "epoch"
) -> Figure:
    """Draws loss and accuracy by epoch, or by round of trees.

    Training values are at the class mix that training sees, and with a network's
    dropout; they need not lie below the validation values.

    Args:
        history: Metric name -> one value an epoch.
        step: What a value stands for.
    """
    metrics = curve_metrics(history)
    figure = Figure(figsize=(4.5 * len(metrics), 3.8), layout="constrained")
    panels = panels_of(figure, len(metrics))
    for (_, axes), name in zip(panels, metrics, strict=True):
        for key, label in (
            (name, "training"),
            (f"val_{name}", "validation"),
        ):
            if history.get(key):
                epochs = np.arange(1, len(history[key]) + 1)
                color = BLUE if label == "validation" else GREY
                marker = "o-" if len(epochs) <= _MOST_MARKERS else "-"
                axes.plot(
                    epochs, history[key], marker, color=color, markersize=3, label=label
                )
        axes.set_xlabel(step)
        is_log_loss = name == "loss" and "accuracy" in history
        axes.set_ylabel("log-loss (nats)" if is_log_loss else name)
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        if name == "loss":
            kept = "val_loss" if "val_loss" in history else "loss"
            best = int(np.argmin(history[kept]))
            axes.axvline(best + 1, color=GREY, linestyle=":")
            axes.set_title(
                f"lowest {kept.replace('val_', 'validation ')}: {step} {best + 1}"
            )
    return figure


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
    colors = {"left out": FAINT, "training": GREY, "test": BLUE}
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


def plot_fold_skill(
    summary: Mapping[str, Any], skills: tuple[str, Mapping[str, str]]
) -> Figure:
    """Draws each fold's skill against references; dotted: the folds' mean.

    Args:
        summary: `cross_validation` of the results.
        skills: Kind of the skill; key of the summary -> name of the line.
    """
    kind, names = skills
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=1)
    styles = zip(names.items(), (BLUE, GREY, VIOLET), "osD", strict=False)
    for place, ((key, name), color, marker) in enumerate(styles):
        row = summary["metrics"].get(key)
        if row is None or row["mean"] is None:
            continue
        values = np.array(row["folds"], dtype=float)
        numbers = np.arange(1, len(values) + 1) + 0.12 * (place - 1)
        axes.axhline(row["mean"], color=color, linestyle=":", linewidth=1)
        axes.plot(numbers, values, marker, color=color, markersize=6, label=name)
    axes.set_xlim(0.5, summary["num_folds"] + 0.5)
    axes.xaxis.set_major_locator(FixedLocator(range(1, summary["num_folds"] + 1)))
    axes.set_xlabel("fold" if "paths" in summary else "fold, oldest first")
    axes.set_ylabel(kind)
    axes.grid(alpha=0.3, axis="y")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def plot_cross_validation(
    summary: Mapping[str, Any], *, skills: tuple[str, Mapping[str, str]]
) -> dict[str, Figure]:
    """Returns the folds' rows and their skill as figures, by file name.

    See `plot_fold_skill`.
    """
    rows = [fold["rows"] for fold in summary["folds"]]
    spans = [{name: spans_of(each) for name, each in row.items()} for row in rows]
    ranges = [(each["train"] + each["validation"], each["test"]) for each in spans]
    last = max(stop for row in spans for each in row.values() for _, stop in each)
    name = summary["cv"].replace("_", " ")
    return {
        "folds": plot_splits(ranges, last, title=f"rows of {name} folds"),
        "folds_skill": plot_fold_skill(summary, skills),
    }
