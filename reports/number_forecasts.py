"""How results of a return or a price are shown: lines of text, a section of the page.

In: which numbers, in which order, in which words. Out: classes (`class_forecasts`),
trades (`trades`), its pictures (`number_plots`), how it looks (`page`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from evaluation.numbers import Numbers
from evaluation.verdict import MAX_P_VALUE
from metrics.wording import five_digits, interval, number, p_value
from reports.blocks import Material, Rows, Section
from reports.outlook import outlook_table
from reports.text import TRADES, chosen_thresholds, format_table, number_table

_SCORES: Rows = {
    "from": ("first", "day"),
    "to": ("last", "day"),
    "windows": ("num_samples", "{:,}"),
    "mean absolute error": ("intervals.mae", "{:.5g}"),
    "mean absolute error of persistence": ("mae_persistence", "{:.5g}"),
    "root mean square error": ("intervals.rmse", "{:.5g}"),
    "root mean square error of persistence": ("rmse_persistence", "{:.5g}"),
    "mean absolute error, % of the price": ("mape_pct", "{:.3f}"),
    "R2": ("intervals.r2", "{:+.4f}"),
    "squared-error skill against persistence": (
        "intervals.skill_mse_vs_persistence",
        "{:+.4f}",
    ),
    "against the mean of training": ("intervals.skill_mse_vs_train_mean", "{:+.4f}"),
    "against the trailing 7-day mean": (
        "intervals.skill_mse_vs_trailing_7d",
        "{:+.4f}",
    ),
    "correlation with what followed": ("intervals.correlation", "{:+.3f}"),
    "slope of what followed on the forecast": ("intervals.slope", "{:+.2f}"),
    "signs right": ("sign_accuracy", "{:.1%}"),
    "by chance": ("sign_expected", "{:.1%}"),
    "beyond chance": ("intervals.sign_excess", "{:+.3f}"),
    "sign, p-value": ("sign_p_value", "{:.3f}"),
    "inside the intervals": ("intervals.coverage", "{:.1%}"),
    "mean width of the intervals, bps": ("coverage.width_bps", "{:.1f}"),
    "between the outer quantiles": ("intervals.quantile_coverage", "{:.1%}"),
    "mean width between them, bps": ("quantiles.width_bps", "{:.1f}"),
    "pinball skill against training": (
        "intervals.skill_pinball_vs_train",
        "{:+.4f}",
    ),
    "deviation of the forecasts, bps": ("predicted_std_bps", "{:.1f}"),
    "deviation of what followed, bps": ("actual_std_bps", "{:.1f}"),
}
_COMPARED: Rows = {
    "skill vs persistence": ("intervals.skill_mse_vs_persistence", "{:+.3f}"),
    "mean absolute error": ("mae", "{:.4g}"),
    "signs right": ("sign_accuracy", "{:.1%}"),
}
_PICTURES = {
    "baselines": (
        2.6,
        "Squared-error skill in {}. Right of the line: better than "
        "naming the present value again.",
    ),
    "predicted_actual": (3.4, "What followed each tenth of the forecasts in {}."),
    "errors": (
        3.6,
        "Mean absolute error in {} over time; below, actual - predicted.",
    ),
    "residuals": (3.2, "Errors in {}, beside those of persistence."),
}


_REFERENCES = {
    "persistence": "persistence",
    "train_mean": "the train mean",
    "trailing_7d": "the trailing 7-day mean",
}
RULES = {
    "Skill": "The share of the squared error that the model takes away from forecasts "
    "without a model. Claimed where the 95 % interval lies above 0 against naming the "
    "present value again, the mean of training and that of the trailing seven days.",
    "In what": "Whether the sign of a move is known beyond what rising and falling as "
    f"often would give. Also needs p < {MAX_P_VALUE:g} in a shuffle test.",
}
"""First words of a line of the verdict -> what decides it (`evaluation.verdict`)."""


# Text


def part_lines(result: Mapping[str, Any]) -> list[str]:
    """Returns one part's errors, skill, signs and baselines as lines."""
    return [
        *_error_lines(result),
        *_skill_lines(result),
        *_sign_lines(result),
        *_coverage_lines(result),
        *_quantile_lines(result),
        *_baseline_lines(result),
    ]


def _error_lines(result: Mapping[str, Any]) -> list[str]:
    target = result["target"]
    mae, rmse, naive_mae, naive_rmse = (
        _error(result[key], target)
        for key in ("mae", "rmse", "mae_persistence", "rmse_persistence")
    )
    unit = " bps" if target == "return" else ""
    more = (
        f"  R2 {number(result['r2'], '{:+.4f}')} (persistence "
        f"{number(result['r2_persistence'], '{:+.4f}')})"
    )
    if result.get("mape_pct") is not None:
        more += f", mean absolute error {result['mape_pct']:.3f}% of the price"
    return [
        f"  mean absolute error {mae}{unit} (persistence {naive_mae}), "
        f"root mean square {rmse}{unit} ({naive_rmse})",
        more,
    ]


def _skill_lines(result: Mapping[str, Any]) -> list[str]:
    intervals = result["intervals"]
    rows = {name: intervals[f"skill_mse_vs_{key}"] for key, name in _REFERENCES.items()}
    rows |= {
        Numbers.baseline_names[name]: found["skill"]
        for name, found in result["comparisons"].items()
        if name != "best_baseline"
    }
    return [
        "  squared-error skill against",
        *format_table([(k, interval(v)) for k, v in rows.items()], left=2, indent=4),
        f"  correlation {interval(intervals['correlation'])}, slope of actual on "
        f"predicted {interval(intervals['slope'], '{:+.2f}')}",
        f"  deviation of predicted {result['predicted_std_bps']:.1f} bps, of actual "
        f"{result['actual_std_bps']:.1f} bps",
    ]


def _sign_lines(result: Mapping[str, Any]) -> list[str]:
    if result["sign_accuracy"] is None:
        return ["  signs: the price did not move"]
    shown = p_value(result["sign_p_value"], "too few moves")
    return [
        f"  signs right {result['sign_accuracy']:.1%}, "
        f"{result['sign_expected']:.1%} by chance: "
        f"{interval(result['intervals']['sign_excess'])}; shuffle test in blocks: "
        f"{shown}"
    ]


def _coverage_lines(result: Mapping[str, Any]) -> list[str]:
    if "coverage" not in result:
        return []
    found = result["coverage"]
    held = _held(found, result["intervals"]["coverage"])
    return [f"  intervals of {found['level']:.0%}: {held}"]


def _quantile_lines(result: Mapping[str, Any]) -> list[str]:
    if "quantiles" not in result:
        return []
    found, intervals = result["quantiles"], result["intervals"]
    held = _held(found, intervals["quantile_coverage"])
    below = ", ".join(
        f"{level:g}: {share:.1%}"
        for level, share in zip(found["levels"], found["below"], strict=True)
    )
    lines = [
        f"  outer quantiles, {found['level']:.0%}: {held}",
        f"  came below each quantile: {below}",
    ]
    if "skill_pinball_vs_train" in intervals:
        skill = interval(intervals["skill_pinball_vs_train"])
        lines.append(f"  pinball skill against the quantiles of training: {skill}")
    return lines


def _held(found: Mapping[str, Any], inside: Mapping[str, Any]) -> str:
    thirds = ", ".join(f"{share:.1%}" for share in found["thirds"])
    return (
        f"{interval(inside, '{:.1%}')} inside (by thirds {thirds}), "
        f"{found['width_bps']:.1f} bps wide"
    )


def _baseline_lines(result: Mapping[str, Any]) -> list[str]:
    target = result["target"]
    rows: dict[str, Mapping[str, Any]] = {"this model": result} | {
        Numbers.baseline_names[name]: scores
        for name, scores in result["baselines"].items()
    }
    for name, scores in rows.items():
        if "mae" in scores:
            rows[name] = {**scores, "error": _error(scores["mae"], target)}
    columns: Rows = {
        "skill": ("skill_mse_vs_persistence", "{:+.3f}"),
        "error (bps)" if target == "return" else "error": ("error", "{}"),
        "signs": ("sign_accuracy", "{:.1%}"),
        **TRADES,
    }
    return number_table(rows.items(), columns)


def _error(value: float, target: str) -> str:
    """Returns an error as basis points of a log return, or in units of the price."""
    if target == "return":
        return f"{1e4 * value:.2f}"
    return five_digits(value).format(value)


def decided(results: Mapping[str, Any]) -> str:
    """Returns the thresholds that validation chose, and how."""
    return chosen_thresholds(results, "-{:.2f} bps", "+{:.2f} bps", scale=1e4)


# Sections


def regression_section(material: Material) -> Section | None:
    """Errors and skill of a return or a price, against forecasts without a model."""
    parts = material.parts("baselines")
    if not parts:
        return None
    pictures = (
        material.pictures(name, parts, *looks) for name, looks in _PICTURES.items()
    )
    return Section(
        key="regression",
        title="Errors and skill",
        lead=f"The target is a {material.results['unit']}. Skill is the share of the "
        "squared error taken away: 0 is no better than the reference. In brackets 95 % "
        "intervals.",
        blocks=[
            *itertools.chain(*pictures),
            *outlook_table(material),
            *material.forecast_tables("Forecasts of {}", parts, _COMPARED),
            material.numbers.by_column("Scores", parts, _SCORES),
        ],
    )
