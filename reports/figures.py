"""Figures of a run, each drawn once: a file of its own, and a picture of the page.

In: which figures a run has, by the name of their file; their style, as PNG and as SVG.
Out: what they show (`plots`, `trade_plots`, `number_plots`, `time_plots`), where each
stands in the page (its sections).
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure, SubFigure

from files.progress import track
from reports import number_plots, plots
from reports.blocks import PARTS, Material
from reports.composition import plot_importance
from reports.plots import CLASS_COLORS
from reports.time_plots import plot_label_mix
from reports.trade_plots import plot_equity, plot_prices, plot_thresholds
from reports.tuning import plot_tuning
from reports.views import view_of

WIDTH_INCHES = 4.0
"""Of every picture, so that its words are as large on a phone as those around it."""

_COLORS = {
    plots.INK: "ink",
    plots.BLUE: "blue",
    plots.GREY: "grey",
    plots.FAINT: "faint",
    plots.VIOLET: "violet",
    "#ffffff": "paper",
    **{color: name.lower() for name, color in CLASS_COLORS.items()},
}
"""Colour of a figure -> the name of the page's colour, which knows light and dark."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # A feature may be named $x$: texts are no formulas.
    "text.parse_math": False,
    "text.color": plots.INK,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": plots.INK,
    "axes.edgecolor": plots.GREY,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": plots.GREY,
    "legend.fontsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": plots.GREY,
    "ytick.color": plots.GREY,
    "xtick.labelcolor": plots.INK,
    "ytick.labelcolor": plots.INK,
}


def draw_figures(material: Material) -> dict[str, Figure]:
    """Returns every figure of a run, by file name, in the style of the page."""
    results = material.results
    with mpl.rc_context(STYLE):
        figures = plot_results(results)
        if material.prices is not None:
            figures["trades_test"] = plot_prices(
                material.prices, material.trades, title="test"
            )
        if "cross_validation" in results:
            folds = results["cross_validation"]
            skills = view_of(results).fold_skills
            figures |= plots.plot_cross_validation(folds, skills=skills)
            if "skipped" not in folds.get("trading", {"skipped": ""}):
                figures["folds_equity"] = plot_equity(
                    folds["trading"],
                    title="tests of all folds",
                    beside={"first model": folds["never_retrained"]["trading"]},
                )
        if plots.curve_metrics(material.history):
            figures["learning_curves"] = plots.plot_learning_curves(
                material.history, step=material.step
            )
        if material.label_mix is not None:
            figures["label_mix"] = plot_label_mix(material.label_mix)
    return figures


def plot_results(results: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns every figure that follows from the results alone, by file name."""
    view, figures = view_of(results), {}
    if results.get("thresholds", {}).get("tried"):
        figures["thresholds"] = plot_thresholds(results["thresholds"])
    if "importance" in results:
        figures["importance"] = plot_importance(results["importance"])
    if "tuning" in results:
        figures["tuning"] = plot_tuning(results["tuning"])
    if "target_over_time" in results:
        table = results["target_over_time"]
        figures["target_over_time"] = number_plots.plot_target_over_time(table)
    figures |= view.run_figures(results)
    for part in PARTS:
        if part in results:
            figures |= view.part_figures(results[part], part)
            if "skipped" not in results[part].get("trading", {"skipped": ""}):
                equity = plot_equity(results[part]["trading"], title=part)
                figures[f"equity_{part}"] = equity
    return figures


def save_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Writes each figure as a PNG."""
    for name, figure in track(figures.items(), "figure", len(figures)):
        plots.save_png(figure, folder / f"{name}.png", dpi=160)


@plots.any_letters()
def to_svg(
    figure: Figure | SubFigure, *, height: float, name: str, label: str
) -> Markup:
    """Returns a figure as SVG to stand in a page, in the page's fonts and colours.

    Args:
        figure: The figure, or a panel of one.
        height: Inches of the whole figure.
        name: Of the picture, unlike any other in the page.
        label: What a screen reader says.
    """
    whole = figure.get_figure(root=True)
    panels = whole.subfigs
    whole.set_size_inches(WIDTH_INCHES * max(1, len(panels)), height)
    with mpl.rc_context(STYLE):  # of ticks that are made while places are found
        plots.lay_out(whole, FigureCanvasSVG)
    area = figure.bbox.transformed(whole.dpi_scale_trans.inverted())
    others = [each for each in whole.get_children() if figure not in (whole, each)]
    content = io.StringIO()
    for each in others:
        each.set_visible(False)
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        whole.savefig(
            content,
            format="svg",
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
            bbox_inches=area if panels else None,
        )
    for each in others:
        each.set_visible(True)
    text = content.getvalue()
    text = text[text.index("<svg") :]
    box = re.search(r'viewBox="[^"]+"', text)
    opening = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(label)}">'
    text = re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"(font: [^;\"]*?px) '[^\";]*", r"\1 var(--font)", text)
    text = text.replace("xlink:href", "href")
    for color, variable in _COLORS.items():
        text = text.replace(color, f"var(--{variable})")
    return Markup(text)  # noqa: S704 - made by matplotlib, which escapes its texts
