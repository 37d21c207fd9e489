"""Results -> figures, each by one function, so that a notebook draws them inline.

In: pictures. Out: text and files (`report`), computing what is drawn
(`evaluation.evaluate`), trades (`trade_plots`), shares over time (`time_plots`).
Figures are made without pyplot: nothing global, no window, nothing to close.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config import CLASS_NAMES
from evaluation.classes import Classes
from files.atomic import atomic_path
from preprocessing.parts import spans_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.figure import Figure, SubFigure

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

    `result` is one part's, or its `thresholded` one.
    """
    matrix = np.asarray(result["confusion_matrix"])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = new_axes(5.4, 4.6, grid=None)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), count in np.ndenumerate(matrix):
        text, color = f"{count:,}\n{shares[i, j]:.1%}", "#1e293b"
        color = "white" if shares[i, j] > 0.55 else color
        axes.text(j, i, text, ha="center", va="center", color=color)
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set(xlabel=f"predicted ({predicted_by})", ylabel="true")
    axes.set_title(f"{title}: {result['num_samples']:,} windows".lstrip(": "))
    figure.colorbar(
        image, fraction=0.046, label="share of the true class", format="{x:.0%}"
    )
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of so many inches, which gives its parts their places."""
    from matplotlib.figure import Figure  # a run with a light report never needs it

    return Figure(figsize=(width, height), layout="constrained")


def new_axes(
    width: float, height: float, *shape: int, grid: str | None = "both", **options: Any
) -> tuple[Figure, Any]:
    """Returns a figure of so many inches, and its axes with a pale grid.

    `shape` has rows and columns of axes, `grid` the directions that have lines ("both",
    "x", "y" or None), `options` are those of `Figure.subplots`.
    """
    figure = new_figure(width, height)
    found = figure.subplots(*shape, **options)
    for axes in np.ravel(found) if grid else ():
        axes.grid(alpha=0.3, axis=grid)
    return figure, found


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names rows below each other, the first at the top; they have no frame."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


@contextlib.contextmanager
def any_letters() -> Iterator[None]:
    """Draws names in letters that matplotlib's font lacks without a warning.

    The page shows them in the reader's fonts, a PNG as boxes.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


def lay_out(figure: Figure, canvas: type[FigureCanvasBase]) -> None:
    """Gives all parts of a figure their places, once, by the letters of a canvas.

    A figure with a layout is drawn twice by each `savefig`, the first time for them.
    """
    import matplotlib as mpl

    engine = figure.get_layout_engine()
    if engine is not None:
        canvas(figure)
        engine.execute(figure)
        with mpl.rc_context({"figure.autolayout": False}):
            figure.set_layout_engine(None)


def save_png(figure: Figure, path: Path, *, dpi: int) -> None:
    """Writes a figure on white, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_path(path) as temporary, any_letters():
        figure.dpi = dpi
        lay_out(figure, FigureCanvasAgg)
        figure.savefig(temporary, dpi=dpi, facecolor="white")


def legend_below(figure: Figure | SubFigure, num_columns: int = 3) -> None:
    """Puts the legend below everything, where it covers nothing."""
    figure.legend(
        loc="outside lower center",
        ncols=num_columns,
        frameon=False,
        columnspacing=1.2,
        handlelength=1.5,
    )


def panels_of(figure: Figure, count: int) -> list[tuple[SubFigure, Axes]]:
    """Returns panels side by side, of which a page can show each alone."""
    parts = figure.subfigures(1, count, squeeze=False, wspace=0)[0]
    return [(part, part.subplots()) for part in parts]


def plot_reliability(result: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draws how often each class happened against its forecast, before and after.

    The area of a dot is the share of the rows in its bin.
    """
    figure = new_figure(9, 4.6)
    names = {"raw": "before calibration", "calibrated": "after"}
    bins = [_filled_bins(result, k, c) for k in names for c in CLASS_COLORS]
    top = max(max(a.max(), b[s > 0.001].max(initial=0.0)) for a, b, s in bins)
    limit = min(1.02, 1.05 * top)
    for (panel, axes), kind in zip(panels_of(figure, 2), names, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        errors = []  # of what is drawn: the top label's has no bin below a third
        for class_name, color in CLASS_COLORS.items():
            stated, happened, share = _filled_bins(result, kind, class_name)
            errors.append(share @ np.abs(happened - stated))
            axes.plot(stated, happened, color=color, linewidth=1.5, label=class_name)
            axes.scatter(stated, happened, s=8 + 500 * share, color=color)
        error = f"ECE by class {np.mean(errors):.3f}"
        axes.set_title(f"{title} {names[kind]}, {error}".lstrip())
        axes.set(xlabel="forecast probability", ylabel="share that happened")
        axes.set(xlim=(0, limit), ylim=(0, limit))
        axes.grid(alpha=0.3)
        legend_below(panel)
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
    figure, axes = new_axes(6, height, grid="x")
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
    name_rows(axes, labels)
    for label in axes.get_yticklabels()[:: len(rows) + 1]:
        label.set_fontweight("bold")
    axes.set(xlabel="skill against the train prior, 95 % interval", title=title)
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
    """
    metrics = curve_metrics(history)
    figure = new_figure(4.5 * len(metrics), 3.8)
    panels = panels_of(figure, len(metrics))
    for (_, axes), name in zip(panels, metrics, strict=True):
        lines = {"training": (name, GREY), "validation": (f"val_{name}", BLUE)}
        for label, (key, color) in lines.items():
            if values := history.get(key):
                epochs = np.arange(1, len(values) + 1)
                marker = "o-" if len(epochs) <= _MOST_MARKERS else "-"
                axes.plot(
                    epochs, values, marker, color=color, markersize=3, label=label
                )
        is_log_loss = name == "loss" and "accuracy" in history
        axes.set(xlabel=step, ylabel="log-loss (nats)" if is_log_loss else name)
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
    count = len(ranges)
    figure, axes = new_axes(9, 1.4 + 0.3 * min(count, 20), grid=None)
    kinds = {"left out": FAINT, "training": GREY, "test": BLUE}
    for fold, (train, test) in enumerate(ranges):
        parts = ([(0, num_samples)], train, test)
        for (name, color), spans in zip(kinds.items(), parts, strict=True):
            bars = [(start, stop - start) for start, stop in spans]
            label = name if fold == 0 else None
            axes.broken_barh(bars, (fold - 0.35, 0.7), color=color, label=label)
    name_rows(axes, [""] * count)
    every = range(0, count, math.ceil(count / 20))
    axes.set_yticks(every, [f"fold {fold + 1}" for fold in every])
    axes.set(xlim=(0, num_samples), xlabel="sample, in time order", title=title)
    legend_below(figure)
    return figure


def plot_fold_skill(
    summary: Mapping[str, Any], skills: tuple[str, Mapping[str, str]]
) -> Figure:
    """Draws each fold's skill against references; dotted: the folds' mean.

    `skills` are the kind of the skill, and key of the summary -> name of its line.
    """
    kind, names = skills
    figure, axes = new_axes(6, 3.6, grid="y")
    axes.axhline(0, color=INK, linewidth=1)
    styles = zip(names.items(), (BLUE, GREY, VIOLET), "osD", strict=False)
    size = 6 if summary["num_folds"] <= 12 else 3
    for place, ((key, name), color, marker) in enumerate(styles):
        row = summary["metrics"].get(key)
        if row is None or row["mean"] is None:
            continue
        values = np.array(row["folds"], dtype=float)
        numbers = np.arange(1, len(values) + 1) + 0.12 * (place - 1)
        axes.axhline(row["mean"], color=color, linestyle=":", linewidth=1)
        axes.plot(numbers, values, marker, color=color, markersize=size, label=name)
    count = summary["num_folds"]
    axes.set_xticks(range(1, count + 1, math.ceil(count / 12)))
    order = "fold" if "paths" in summary else "fold, oldest first"
    axes.set(xlim=(0.5, count + 0.5), xlabel=order, ylabel=kind)
    legend_below(figure)
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
