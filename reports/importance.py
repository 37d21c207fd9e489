"""What each feature is worth to the model: as text, figure, and section of the page.

In: showing `importance` of the results. Out: measuring it (`evaluation.importance`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from reports.blocks import Block, Material, Rows, Section
from reports.plots import BLUE, GREY, INK, new_axes
from reports.text import number_table

MOST_FEATURES = 20
"""Features that a figure and the terminal have room for."""

_COLUMNS: Rows = {
    "skill lost": ("mean", "{:+.4f}"),
    "spread": ("std", "{:.4f}"),
    "direction skill lost": ("direction_mean", "{:+.4f}"),
}


def _columns(features: Sequence[Mapping[str, Any]]) -> Rows:
    """Returns the columns, that of the direction where it was measured."""
    has_direction = any(each.get("direction_mean") is not None for each in features)
    return dict([*_COLUMNS.items()][: 2 + has_direction])


def format_importance(importance: Mapping[str, Any]) -> str:
    """Returns the most important features, a line each."""
    features = importance["features"]
    rows = [(each["name"][:28], each) for each in features[:MOST_FEATURES]]
    lines = [
        f"without a feature, {importance['part']}: skill lost when it is shuffled, "
        f"{importance['num_windows']:,} windows, {importance['num_repeats']} times",
        *number_table(rows, _columns(features)),
    ]
    if len(features) > MOST_FEATURES:
        lines.append(f"  ... and {len(features) - MOST_FEATURES} more")
    return "\n".join(lines)


def plot_importance(importance: Mapping[str, Any]) -> Figure:
    """Draws the skill that is lost without each of the most important features."""
    features = importance["features"][:MOST_FEATURES]
    titles = {"mean": "all of it", "direction_mean": "direction"}
    kinds = {key: titles[key] for key, _ in _columns(features).values() if key != "std"}
    size, shape = (4.5 * len(kinds), 1.2 + 0.26 * len(features)), (1, len(kinds))
    figure, panels = new_axes(*size, *shape, grid="x", sharey=True, squeeze=False)
    places = np.arange(len(features))
    for axes, (key, title) in zip(panels[0], kinds.items(), strict=True):
        lost = [each[key] or 0.0 for each in features]
        ends = [each[key.replace("mean", "std")] or 0.0 for each in features]
        axes.barh(places, lost, xerr=ends, color=BLUE, height=0.7, ecolor=GREY)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set(title=title, xlabel="skill lost")
    panels[0][0].set_yticks(places, [each["name"][:28] for each in features])
    panels[0][0].set_ylim(len(features) - 0.4, -0.6)
    return figure


def importance_section(material: Material) -> Section | None:
    """What the model loses without each feature, and what its library says of them."""
    found = material.results.get("importance")
    if not found:
        return None
    names = [each["name"] for each in found["features"]]
    columns = _columns(found["features"])
    places = {name: f"importance.features.{k}" for k, name in enumerate(names)}
    blocks: list[Block] = [
        material.picture(
            "importance",
            0.9 + 0.2 * min(len(names), MOST_FEATURES),
            "Skill lost when a feature is shuffled among validation windows; lines: "
            "spread over the shuffles.",
        ),
        material.numbers.by_row(
            f"{len(names)} features, most lost first",
            places,
            columns,
            is_open=len(names) <= MOST_FEATURES,
        ),
    ]
    own = material.results.get("library_importance")
    if own:
        place: Rows = {"share": ("share", "{:.1%}")}
        rows = {each["name"]: f"library_importance.{k}" for k, each in enumerate(own)}
        caption = "What the library itself says"
        note = "Gain of splits, or size of coefficients, in training."
        blocks.append(
            material.numbers.by_row(caption, rows, place, note=note, is_open=False)
        )
    return Section(
        key="importance",
        title="Features",
        lead="What the model loses when a feature tells of other bars instead. Of two "
        "features that say the same, neither seems to matter much.",
        blocks=blocks,
    )
