"""How results of classes are shown: lines of text, figures, sections of the page.

In: which numbers, in which order, in which words. Out: numbers instead of classes
(`number_forecasts`), trades (`trades`), the run (`run_facts`), how it looks (`page`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from config import CLASS_NAMES
from evaluation.classes import Classes
from evaluation.verdict import MAX_P_VALUE
from metrics.wording import interval, number, p_value
from reports import plots
from reports.blocks import (
    NOTHING,
    Material,
    Matrix,
    Number,
    Rows,
    Section,
    Table,
    TableRow,
)
from reports.outlook import outlook_table
from reports.plots import SKILL_NAMES
from reports.text import TRADES, chosen_thresholds, format_table, number_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COMPARED: Rows = {
    "skill vs train prior": ("intervals.skill_vs_train_prior", "{:+.3f}"),
    "log-loss, nats": ("log_loss", "{:.4f}"),
    "accuracy": ("accuracy", "{:.3f}"),
}
_BASELINES: Rows = {
    "skill": ("skill_vs_train_prior", "{:+.3f}"),
    "activity": ("activity_skill_vs_train_prior", "{:+.3f}"),
    "direction": ("direction_skill_vs_train_prior", "{:+.3f}"),
    "accuracy": ("accuracy", "{:.3f}"),
    **TRADES,
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


RULES = {
    "Skill": "The share of the log-loss that the model takes away from forecasts "
    "without a model. Claimed where the 95 % interval lies above 0 against the class "
    "shares of training and against the label mix of the trailing seven days.",
    "In what": "Activity: whether a take profit will be hit at all. Direction: which "
    f"one. Direction also needs p < {MAX_P_VALUE:g} in a shuffle test.",
}
"""First words of a line of the verdict -> what decides it (`evaluation.verdict`)."""


# Text


def part_lines(result: Mapping[str, Any]) -> list[str]:
    """Returns confusion, skill and baselines of one part as lines."""
    return [*_matrices(result), *_skill_table(result), *_baseline_table(result)]


def decided(results: Mapping[str, Any]) -> str:
    """Returns the calibration and the thresholds that validation chose, and how."""
    fitted = results["calibration"]
    reason = f" ({fitted['reason']})" if fitted["reason"] else ""
    chosen = chosen_thresholds(results, "{:.3f}", "{:.3f}")
    return f"calibration {fitted['method']}{reason}; {chosen}"


def _matrices(result: Mapping[str, Any]) -> list[str]:
    """Returns both confusion matrices side by side, and the scores of the first."""
    both, fitted = (result, result["thresholded"]), result["calibrated"]
    rows = [["true / predicted", *([*CLASS_NAMES, "recall", ""] * 2)[:-1]]]
    for k, name in enumerate(CLASS_NAMES):
        cells = [
            [*map("{:,}".format, each["confusion_matrix"][k]), _score(each, name), ""]
            for each in both
        ]
        rows.append([name, *sum(cells, [])[:-1]])
    cells = [
        [*(_score(each, name, "precision") for name in CLASS_NAMES), "", ""]
        for each in both
    ]
    rows.append(["precision", *sum(cells, [])[:-2]])
    lines = format_table(rows, width=7)
    first, second = (found.end() for found in re.finditer(CLASS_NAMES[-1], lines[0]))
    over = "most probable class".rjust(first)
    return [
        over + "signals at thresholds".rjust(second - first),
        *lines,
        f"  accuracy {result['accuracy']:.3f}, balanced "
        f"{result['balanced_accuracy']:.3f}, macro F1 {result['macro_f1']:.3f}",
        f"  log-loss {result['log_loss']:.4f}, calibration error "
        f"{result['expected_calibration_error']:.3f}; calibrated (fitted on "
        f"{fitted['fitted_on']}) {fitted['log_loss']:.4f}, "
        f"{fitted['expected_calibration_error']:.3f}",
    ]


def _score(result: Mapping[str, Any], name: str, key: str = "recall") -> str:
    scores = result["classes"][name]
    return number(None if key in scores["undefined"] else scores[key], "{:.3f}")


def _skill_table(result: Mapping[str, Any]) -> list[str]:
    names = {"train_prior": "the train prior", "trailing_7d": "the trailing 7-day mix"}
    rows = [["log-loss skill against", *SKILL_NAMES.values()]]
    for key, name in names.items():
        found = (result["intervals"][f"{kind}skill_vs_{key}"] for kind in SKILL_NAMES)
        rows.append([name, *map(interval, found)])
    own = (result[f"{kind}skill_vs_own_mix"] for kind in SKILL_NAMES)
    rows.append(["this part's own mix", *(number(each, "{:+.3f}") for each in own)])
    for name in _trained(result):
        skill = result["comparisons"][name]["skill"]
        rows.append([Classes.baseline_names[name], interval(skill)])
    shown = p_value(result["direction_p_value"], "too few trades")
    return [
        *format_table(rows, left=4),
        f"  direction, shuffle test in blocks of labels: {shown}",
    ]


def _baseline_table(result: Mapping[str, Any]) -> list[str]:
    named = Classes.baseline_names
    rows = {"this model": result} | {
        named[name]: scores for name, scores in result["baselines"].items()
    }
    return number_table(rows.items(), _BASELINES)


# Figures


def part_figures(result: Mapping[str, Any], part: str) -> dict[str, Figure]:
    """Returns the figures of one part that only classes have, by file name."""
    return {
        f"confusion_matrix_{part}": plots.plot_confusion_matrix(result, title=part),
        f"confusion_matrix_{part}_signals": plots.plot_confusion_matrix(
            result["thresholded"], title=part, predicted_by="signals at thresholds"
        ),
        f"reliability_{part}": plots.plot_reliability(result, title=part),
        f"baselines_{part}": plots.plot_baselines(result, title=part),
    }


# Sections


def skill_section(material: Material) -> Section | None:
    """Skill with intervals, against baselines."""
    results = material.results
    parts = [p for p in material.parts("baselines") if "log_loss" in results[p]]
    if not parts:
        return None
    rows = material.figures[f"baselines_{parts[0]}"].axes[0].get_yticks()
    caption = (
        "Log-loss skill in {}. Right of the line: better than the class shares of "
        "training."
    )
    scores = "Scores of the raw probabilities and their most probable class"
    return Section(
        key="skill",
        title="Skill against baselines",
        lead="1 is a perfect forecast, 0 no better than the reference, below 0 worse. "
        "In brackets 95 % intervals: neighbouring labels overlap and volatility lasts, "
        "so a part counts as a few independent pieces, however many its rows.",
        blocks=[
            *material.pictures("baselines", parts, 0.8 + 0.22 * len(rows), caption),
            *(_references(material, part) for part in parts),
            *outlook_table(material),
            *material.forecast_tables("Forecasts of {}", parts, _COMPARED),
            material.numbers.by_column(scores, parts, _SCORES),
        ],
    )


def _trained(result: Mapping[str, Any]) -> list[str]:
    """Returns the trained baselines that a part is compared with."""
    return [name for name in result.get("comparisons", {}) if name != "best_baseline"]


def _references(material: Material, part: str) -> Table:
    numbers = material.numbers
    keys = {
        "train prior": f"{part}.intervals.{{}}skill_vs_train_prior",
        "trailing 7-day mix": f"{part}.intervals.{{}}skill_vs_trailing_7d",
        f"{part}'s own mix, unknown beforehand": f"{part}.{{}}skill_vs_own_mix",
    }
    rows: list[TableRow] = [
        (name, [numbers.show(key.format(kind), "{:+.3f}") for kind in SKILL_NAMES])
        for name, key in keys.items()
    ]
    for name in _trained(material.results[part]):
        skill = numbers.interval(f"{part}.comparisons.{name}.skill", "{:+.3f}")
        rows.append((Classes.baseline_names[name], [skill, None, None]))
    caption = f"Skill of this model in {part}, against"
    head = ["", *SKILL_NAMES.values()]
    return Table(caption=caption, head=head, rows=rows, is_stacked=True)


def confusion_section(material: Material) -> Section | None:
    """Confusion matrices by the most probable class and by the signals."""
    parts = material.parts("confusion_matrix")
    if not parts:
        return None
    matrices = {}
    for part in parts:
        matrices[part] = f"{part}: most probable class"
        if "thresholded" in material.results[part]:
            matrices[f"{part}.thresholded"] = f"{part}: signals at the thresholds"
    return Section(
        key="confusion",
        title="Confusion matrices",
        lead="Counts, and below them the share of the true class. Always saying HOLD "
        "has a recall of 1 there and 0 elsewhere.",
        blocks=[_matrix(material, *each) for each in matrices.items()],
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
    captions = ("In {}, before calibration.", "In {}, after calibration.")
    places = {
        f"{part}, {when}": place
        for part in parts
        for when, place in (("before", part), ("after", f"{part}.calibrated"))
    }
    results = material.results
    fitted = [f"{part} on {results[part]['calibrated']['fitted_on']}" for part in parts]
    note = f"Fitted, for {', for '.join(fitted)}. Errors: of the most probable class."
    name, looks = "Before and after calibration", {"is_wide": True, "note": note}
    choice = results["calibration"]
    reason = f" ({choice['reason']})" if choice["reason"] else ""
    return Section(
        key="reliability",
        title="Reliability",
        lead="How often each class happened where it was forecast with a given "
        "probability: on the dotted line, in 30 % of the rows that were given 30 %. "
        "The area of a dot is its share of the rows. "
        f"Calibration: {choice['method']}{reason}.",
        blocks=[
            *material.pictures("reliability", parts, 3.7, *captions),
            material.numbers.by_row(name, places, _CALIBRATED, **looks),
        ],
    )
