"""Results -> the page's sections about forecasts: skill, confusion, reliability.

In: which numbers, in which order, in which words. Out: trades (`trades`), the
run (`run_facts`), how it looks (`page`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from config import CLASS_NAMES
from evaluation.evaluate import task_of_results
from reports import plots
from reports.blocks import (
    NOTHING,
    Block,
    Cell,
    Material,
    Matrix,
    Number,
    Picture,
    Rows,
    Section,
    Table,
    TableRow,
)
from reports.plots import SKILL_NAMES

_COMPARED: Rows = {
    "skill vs train prior": ("intervals.skill_vs_train_prior", "{:+.3f}"),
    "log-loss, nats": ("log_loss", "{:.4f}"),
    "accuracy": ("accuracy", "{:.3f}"),
}
_SCORES: Rows = {
    "from": ("first", "day"),
    "to": ("last", "day"),
    "windows": ("num_samples", "{:,}"),
    "share of SHORT and LONG": ("trade_share", "{:.1%}"),
    "log-loss, nats": ("intervals.log_loss", "{:.4f}"),
    "Brier score": ("brier", "{:.4f}"),
    "accuracy": ("intervals.accuracy", "{:.3f}"),
    "balanced accuracy": ("balanced_accuracy", "{:.3f}"),
    "macro F1": ("macro_f1", "{:.3f}"),
    "direction, p-value": ("direction_p_value", "{:.3f}"),
}
_CALIBRATED: Rows = {
    "log-loss, nats": ("log_loss", "{:.4f}"),
    "Brier score": ("brier", "{:.4f}"),
    "mean error": ("expected_calibration_error", "{:.3f}"),
    "largest error": ("maximum_calibration_error", "{:.3f}"),
}


def skill_section(material: Material) -> Section | None:
    """Skill with intervals, against baselines."""
    parts = [p for p in material.parts("baselines") if "log_loss" in _of(material, p)]
    if not parts:
        return None
    blocks: list[Block] = [_skill_picture(material, part) for part in parts]
    blocks += [_references(material, part) for part in parts]
    blocks += forecast_tables(material, parts, _COMPARED)
    caption = "Scores of the raw probabilities and their most probable class"
    blocks.append(score_table(material, parts, _SCORES, caption=caption))
    found = _of(material, parts[0])["intervals"]["skill_vs_train_prior"]
    return Section(
        key="skill",
        title="Skill against baselines",
        lead="1 is a perfect forecast, 0 no better than the reference, below 0 worse. "
        "In brackets 95 % intervals of a block bootstrap: neighbouring labels overlap, "
        f"so {parts[0]} counts as {found['num_blocks']} independent blocks of "
        f"{found['block_rows']} rows.",
        blocks=blocks,
    )


def _of(material: Material, part: str) -> Mapping[str, Any]:
    return material.results[part]


def forecast_tables(
    material: Material, parts: Sequence[str], compared: Rows
) -> list[Table]:
    """Returns a table for each part: the model and each baseline, side by side."""
    return [
        Table(
            caption=f"Forecasts of {part}",
            head=["", *compared],
            rows=material.numbers.by_row(forecast_places(material, part), compared),
        )
        for part in parts
    ]


def score_table(
    material: Material, parts: Sequence[str], scores: Rows, *, caption: str
) -> Table:
    """Returns one table of the model's scores, a column for each part."""
    return Table(
        caption=caption,
        head=["", *parts],
        rows=material.numbers.by_column(parts, scores),
        is_wide=True,
    )


def forecast_places(material: Material, part: str) -> dict[str, str]:
    """Returns where the numbers of the model and of each baseline are."""
    result = material.results[part]
    named = task_of_results(material.results).baseline_names
    return {"this model": part} | {
        named[name]: f"{part}.baselines.{name}" for name in result["baselines"]
    }


def _skill_picture(material: Material, part: str) -> Picture:
    figure = plots.plot_baselines(_of(material, part), title=part)
    return Picture(
        figure=figure,
        height=0.8 + 0.22 * len(figure.axes[0].get_yticks()),
        caption=f"Log-loss skill in {part}. Right of the line: better than the class "
        "shares of training.",
    )


def _references(material: Material, part: str) -> Table:
    numbers = material.numbers
    names = {"train_prior": "train prior", "trailing_7d": "trailing 7-day mix"}
    rows: list[TableRow] = [
        (
            name,
            [
                numbers.show(f"{part}.intervals.{prefix}skill_vs_{key}", "{:+.3f}")
                for prefix in SKILL_NAMES
            ],
        )
        for key, name in names.items()
    ]
    own: list[Cell] = [
        numbers.show(f"{part}.{prefix}skill_vs_own_mix", "{:+.3f}")
        for prefix in SKILL_NAMES
    ]
    rows.append((f"{part}'s own mix, unknown beforehand", own))
    if "gradient_boosting" in _of(material, part).get("comparisons", {}):
        key = f"{part}.comparisons.gradient_boosting.skill"
        boosted = numbers.interval(key, "{:+.3f}")
        rows.append(("gradient boosting", [boosted, None, None]))
    return Table(
        caption=f"Skill of this model in {part}, against",
        head=["", *SKILL_NAMES.values()],
        rows=rows,
        is_stacked=True,
    )


def confusion_section(material: Material) -> Section | None:
    """Confusion matrices by the most probable class and by the signals."""
    parts = material.parts("confusion_matrix")
    if not parts:
        return None
    blocks = []
    for part in parts:
        blocks.append(_matrix(material, part, f"{part}: most probable class"))
        if "thresholded" in _of(material, part):
            key, name = f"{part}.thresholded", f"{part}: signals at the thresholds"
            blocks.append(_matrix(material, key, name))
    return Section(
        key="confusion",
        title="Confusion matrices",
        lead="Counts, and below them the share of the true class. Always saying HOLD "
        "has a recall of 1 there and 0 elsewhere.",
        blocks=blocks,
    )


def _matrix(material: Material, key: str, caption: str) -> Matrix:
    numbers = material.numbers
    counts = np.asarray(numbers.find(f"{key}.confusion_matrix"))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = range(len(CLASS_NAMES))

    def score(name: str, kind: str) -> Number:
        place = f"{key}.classes.{name}"
        is_undefined = kind in numbers.find(f"{place}.undefined")
        text = NOTHING if is_undefined else ""
        return numbers.show(f"{place}.{kind}", "{:.3f}", text=text)

    return Matrix(
        caption=caption,
        names=CLASS_NAMES,
        counts=[
            [numbers.show(f"{key}.confusion_matrix.{i}.{j}", "{:,}") for j in classes]
            for i in classes
        ],
        shares=shares.tolist(),
        recall=[score(name, "recall") for name in CLASS_NAMES],
        precision=[score(name, "precision") for name in CLASS_NAMES],
    )


def reliability_section(material: Material) -> Section | None:
    """Do probabilities mean what they say, before and after calibration."""
    parts = material.parts("reliability")
    if not parts:
        return None
    kinds = {"raw": "before calibration", "calibrated": "after calibration"}
    blocks: list[Block] = [
        Picture(
            figure=plots.plot_reliability(
                _of(material, part), title=part, kinds=[kind]
            ),
            height=3.7,
            caption=f"In {part}, {name}.",
        )
        for part in parts
        for kind, name in kinds.items()
    ]
    places = {
        f"{part}, {when}": place
        for part in parts
        for when, place in (("before", part), ("after", f"{part}.calibrated"))
    }
    fitted = [
        f"{part} on {_of(material, part)['calibrated']['fitted_on']}" for part in parts
    ]
    blocks.append(
        Table(
            caption="Before and after calibration",
            head=["", *_CALIBRATED],
            rows=material.numbers.by_row(places, _CALIBRATED),
            note=f"Fitted, for {', for '.join(fitted)}.",
            is_wide=True,
        )
    )
    choice = material.results["calibration"]
    reason = f" ({choice['reason']})" if choice["reason"] else ""
    return Section(
        key="reliability",
        title="Reliability",
        lead="How often each class happened where it was forecast with a given "
        "probability: on the dotted line, in 30 % of the rows that were given 30 %. "
        "The area of a dot is its share of the rows. "
        f"Calibration: {choice['method']}{reason}.",
        blocks=blocks,
    )
