"""Results of a run -> one HTML page that needs nothing else: no network, no script.

In: the order of the page, its verdict, figures as SVG inside it. Out: the sections
(`views`, `trades`, `run_facts`), the looks (`templates/report.html`), writing it into
the run's folder (`report`).
"""

from __future__ import annotations

import functools
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib as mpl
import pandas as pd
from markupsafe import Markup, escape

from evaluation.verdict import MIN_DEFLATED_SHARPE
from files.strict import to_jsonable
from reports import plots
from reports.blocks import Cell, Material, Section
from reports.importance import importance_section
from reports.plots import CLASS_COLORS, Figure
from reports.run_facts import (
    audit_section,
    configuration_section,
    data_section,
    digests_section,
    labels_section,
    learning_section,
)
from reports.trades import folds_section, thresholds_section, trading_section
from reports.views import view_of

TEMPLATES = Path(__file__).parent / "templates"
WIDTH_INCHES = 4.0
"""Of every figure, so that its words are as large on a phone as those around it."""

SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    trading_section,
    thresholds_section,
    folds_section,
    importance_section,
    labels_section,
    learning_section,
    data_section,
    configuration_section,
    digests_section,
)
"""In the order of the page, after the audit and the forecasts (`View.sections`); each
gives None where its data are missing."""

COSTS_RULE = (
    "Claimed where the interval of the net return a trade lies above 0, and where the "
    "deflated Sharpe ratio, which pays for every pair of thresholds tried, gives more "
    f"than {MIN_DEFLATED_SHARPE:g}."
)
"""What decides the last line of the verdict."""

NO_WARNINGS = "The report's own checks found nothing that stands out."
ALWAYS = (
    "Only the test part counts: validation chose the epoch, the calibration and the "
    "thresholds. A test part that is looked at run after run is searched, too."
)

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

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
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


def render_page(
    results: Mapping[str, Any],
    *,
    history: Mapping[str, Sequence[float]] | None = None,
    label_mix: pd.DataFrame | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Returns the page of a run as HTML.

    The same arguments give the same bytes. What comes from outside (pair, paths, names
    of features) is escaped.

    Args:
        results: From `evaluation.evaluate`, ready for JSON.
        history: Metric name -> one value an epoch.
        label_mix: From `time_plots.label_mix_over_time`.
        metadata: What stands in the run's metadata file.
    """
    # As the files beside the page have it: lists for arrays, text for moments.
    results = to_jsonable(results)
    material = Material(
        results=results,
        history=history or {},
        metadata=to_jsonable(metadata or {}),
        label_mix=label_mix,
    )
    with mpl.rc_context(_STYLE):
        makers = (audit_section, *view_of(results).sections, *SECTIONS)
        made = (make(material) for make in makers)
        sections = [section for section in made if section is not None]
        return _template().render(
            title=_title(material.metadata),
            headline=_headline(material),
            verdict=_verdict(results),
            claims=results.get("claims", {}),
            warnings=results.get("warnings", []),
            no_warnings=NO_WARNINGS,
            always=ALWAYS,
            sections=sections,
        )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = to_svg
    environment.filters["exact"] = json.dumps
    return environment.get_template("report.html")


def _title(metadata: Mapping[str, Any]) -> str:
    config = metadata.get("config", {})
    words = [config.get(name) for name in ("pair", "timeframe", "model")]
    return " ".join(str(word) for word in words if word) or "A training run"


def _headline(material: Material) -> list[Cell]:
    """Returns what the page is about: the data, the label, the test part."""
    numbers, config = material.numbers, material.metadata.get("config", {})
    cells: list[Cell] = []
    if "future_window" in config:
        cells.append(
            f"{config['sequence_length']} bars seen, {config['future_window']} ahead"
        )
    if config.get("target") == "signal":
        cells.append(
            f"take profit {config['long_tp_pct']:g} %, "
            f"stop loss {config['long_sl_pct']:g} %"
        )
    if numbers.find("test.trading.cost_bps") is not None:
        cells.append(numbers.show("test.trading.cost_bps", "costs {:g} bps a side"))
    if numbers.find("test.num_samples") is not None:
        cells.append(numbers.show("test.num_samples", "test part {:,} windows"))
    if numbers.find("test.first") is not None:
        days = [str(numbers.find(f"test.{end}"))[:10] for end in ("first", "last")]
        cells.append(" to ".join(days))
    return cells


def _verdict(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns each line of the verdict as its question, its answer and its rule."""
    lines = [line.partition(": ") for line in results.get("verdict", [])]
    rules = {**view_of(results).rules, "After costs": COSTS_RULE}
    return [
        {"question": question, "answer": answer, "rule": rules.get(question, "")}
        for question, _, answer in lines
    ]


def to_svg(figure: Figure, *, height: float, name: str, label: str) -> Markup:
    """Returns a figure as SVG to stand in a page, in the page's fonts and colours.

    Args:
        figure: The figure.
        height: Inches.
        name: Of the figure, unlike any other in the page.
        label: What a screen reader says.
    """
    figure.set_size_inches(WIDTH_INCHES, height)
    content = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(
            content,
            format="svg",
            metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")),
        )
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
