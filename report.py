"""Results -> text for the terminal, JSON, and the plots of a run.

In: showing numbers. Out: computing them (`evaluation`), drawing them (`plots`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import utils
from config import CLASS_NAMES
from plots import (
    Figure,
    label_mix_over_time,
    plot_baselines,
    plot_confusion_matrix,
    plot_equity,
    plot_fold_skill,
    plot_label_mix,
    plot_learning_curves,
    plot_reliability,
    plot_splits,
    plot_thresholds,
)
from verdict import BASELINE_NAMES, interval

__all__ = [
    "format_results",
    "label_mix_over_time",
    "plot_baselines",
    "plot_confusion_matrix",
    "plot_equity",
    "plot_label_mix",
    "plot_learning_curves",
    "plot_reliability",
    "plot_results",
    "plot_splits",
    "plot_thresholds",
    "write_report",
]

PARTS = ("validation", "test")
_PARTS_OF_LOSS = ("activity", "direction")
_WIDTH = 100


def format_results(results: Mapping[str, Any]) -> str:
    """Returns the verdict in three lines, the warnings, and each part's tables."""
    blocks = []
    if results.get("verdict"):
        blocks.append("\n".join(results["verdict"]))
    if results.get("warnings"):
        notes = [_wrap(f"note: {text}") for text in results["warnings"]]
        blocks.append("\n".join(notes))
    for part in PARTS:
        if part in results:
            blocks.append(_format_part(part, results[part]))
    blocks.append(_format_choice(results))
    if "cross_validation" in results:
        blocks.append(format_cross_validation(results["cross_validation"]))
    return "\n\n".join(blocks)


def format_cross_validation(summary: Mapping[str, Any]) -> str:
    """Returns mean, spread and each fold of the headline numbers as text."""
    lines = [
        f"cross-validation: {summary['num_folds']} folds, "
        f"{summary['cv'].replace('_', ' ')}, before the test part",
        f"  {'':<24}{'mean':>9}{'spread':>9}   folds, oldest first",
    ]
    for key, (name, pattern) in _FOLD_ROWS.items():
        row = summary["metrics"].get(key)
        if row is None:
            continue
        folds = "".join(f"{_number(v, pattern):>9}" for v in row["folds"])
        mean, std = _number(row["mean"], pattern), _number(row["std"], pattern)
        lines.append(f"  {name:<24}{mean:>9}{std.lstrip('+'):>9}{folds}")
    return "\n".join(lines)


_FOLD_ROWS = {
    "skill_vs_train_prior": ("skill", "{:+.3f}"),
    "activity_skill_vs_train_prior": ("activity skill", "{:+.3f}"),
    "direction_skill_vs_train_prior": ("direction skill", "{:+.3f}"),
    "direction_p_value": ("direction p-value", "{:.3f}"),
    "accuracy": ("accuracy", "{:.3f}"),
    "trading_num_trades": ("trades", "{:.0f}"),
    "trading_mean_net_return_bps": ("net a trade, bps", "{:+.1f}"),
    "trading_total_return_pct": ("net return, %", "{:+.1f}"),
}


def _format_part(part: str, result: Mapping[str, Any]) -> str:
    span = f"{_day(result['first'])} to {_day(result['last'])}"
    lines = [f"{part}: {result['num_samples']:,} windows, {span}"]
    lines += _matrices(result)
    lines += _skill_table(result)
    lines += _baseline_table(result)
    lines.append(_trading_line(result["trading"]))
    return "\n".join(lines)


def _matrices(result: Mapping[str, Any]) -> list[str]:
    """Returns both confusion matrices side by side, and the scores of the first."""
    head = "".join(f"{name:>9}" for name in CLASS_NAMES)
    signals = result["thresholded"]
    lines = [
        f"  {'':<17}{'most probable class':^27}{'':14}{'signals at thresholds':>24}",
        f"  {'true / predicted':<17}{head}{'recall':>8}      {head}{'recall':>8}",
    ]
    for k, name in enumerate(CLASS_NAMES):
        cells = "      ".join(
            "".join(f"{count:>9,}" for count in each["confusion_matrix"][k])
            + f"{_score(each['classes'][name], 'recall'):>8}"
            for each in (result, signals)
        )
        lines.append(f"  {name:<17}{cells}")
    cells = "              ".join(
        "".join(
            f"{_score(each['classes'][name], 'precision'):>9}" for name in CLASS_NAMES
        )
        for each in (result, signals)
    )
    lines.append(f"  {'precision':<17}{cells}")
    fitted = result["calibrated"]
    lines += [
        f"  accuracy {result['accuracy']:.3f}, balanced "
        f"{result['balanced_accuracy']:.3f}, macro F1 {result['macro_f1']:.3f}",
        f"  log-loss {result['log_loss']:.4f}, calibration error "
        f"{result['expected_calibration_error']:.3f}; calibrated (fitted on "
        f"{fitted['fitted_on']}) {fitted['log_loss']:.4f}, "
        f"{fitted['expected_calibration_error']:.3f}",
    ]
    return lines


def _score(scores: Mapping[str, Any], key: str) -> str:
    return "-" if key in scores["undefined"] else f"{scores[key]:.3f}"


def _skill_table(result: Mapping[str, Any]) -> list[str]:
    names = {"train_prior": "the train prior", "trailing_7d": "the trailing 7-day mix"}
    prefixes = ("", "activity_", "direction_")
    lines = [_skill_row("log-loss skill against", ["all of it", *_PARTS_OF_LOSS])]
    for key, name in names.items():
        found = [result["intervals"][f"{prefix}skill_vs_{key}"] for prefix in prefixes]
        lines.append(_skill_row(name, [interval(each) for each in found]))
    own = [result[f"{prefix}skill_vs_own_mix"] for prefix in prefixes]
    lines.append(
        _skill_row("this part's own mix", [_number(each, "{:+.3f}") for each in own])
    )
    boosted = result["comparisons"].get("gradient_boosting")
    if boosted:
        lines.append(_skill_row("gradient boosting", [interval(boosted["skill"])]))
    p_value = result["direction_p_value"]
    shown = "too few blocks" if p_value is None else f"p = {p_value:.3f}"
    lines.append(f"  direction, shuffle test in blocks of labels: {shown}")
    return lines


def _skill_row(name: str, cells: Sequence[str]) -> str:
    return (f"  {name:<23}" + "".join(f"{cell:<26}" for cell in cells)).rstrip()


def _baseline_table(result: Mapping[str, Any]) -> list[str]:
    lines = [
        f"  {'':<24}{'skill':>8}{'activity':>10}{'direction':>11}{'accuracy':>10}"
        f"{'trades':>8}{'net/trade':>11}{'net':>9}"
    ]
    rows = {"this model": result} | {
        BASELINE_NAMES[name]: scores for name, scores in result["baselines"].items()
    }
    for name, scores in rows.items():
        trades = scores.get("trading", {})
        cells = [
            _number(scores.get(f"{prefix}skill_vs_train_prior"), "{:+.3f}")
            for prefix in ("", "activity_", "direction_")
        ]
        accuracy = _number(scores.get("accuracy"), "{:.3f}")
        mean = _number(trades.get("mean_net_return_bps"), "{:+.1f} bp")
        total = _number(trades.get("total_return_pct"), "{:+.1f}%")
        count = _number(trades.get("num_trades"), "{:,}")
        lines.append(
            f"  {name:<24}{cells[0]:>8}{cells[1]:>10}{cells[2]:>11}{accuracy:>10}"
            f"{count:>8}{mean:>11}{total:>9}"
        )
    return lines


def _trading_line(trades: Mapping[str, Any]) -> str:
    if "skipped" in trades:
        return f"  trades not simulated: {trades['skipped']}"
    if not trades["num_trades"]:
        return "  no trades"
    sample = " (the thresholds were chosen here)" if trades["in_sample"] else ""
    needed = trades["break_even_precision_pct"]
    intervals = trades["intervals"]
    return (
        f"  {trades['num_trades']:,} trades{sample}: "
        f"take profit {trades['trade_precision_pct']:.1f}% of them, "
        f"{needed:.1f}% to break even\n"
        f"  net {interval(intervals['mean_net_return_bps'], '{:+.1f}')} bps a trade, "
        f"costs {trades['cost_bps']:g} bps a side, break-even at "
        f"{trades['break_even_cost_bps']:.1f}\n"
        f"  Sharpe {interval(intervals['sharpe'], '{:+.1f}')}, "
        f"drawdown {trades['max_drawdown_pct']:.1f}%, in a trade "
        f"{trades['exposure_pct']:.0f}% of the time"
    )


def _format_choice(results: Mapping[str, Any]) -> str:
    search, fitted = results["thresholds"], results["calibration"]
    limits = [
        "never" if search.get(key) is None else f"{search[key]:.3f}"
        for key in ("short_threshold", "long_threshold")
    ]
    chosen = "" if "skipped" in search else f"SHORT {limits[0]}, LONG {limits[1]}: "
    return _wrap(
        f"decided on validation: calibration {fitted['method']}"
        + (f" ({fitted['reason']})" if fitted["reason"] else "")
        + f"; thresholds {chosen}{search['statement']}"
    )


def _wrap(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ")


def _number(value: float | None, pattern: str) -> str:
    return "-" if value is None else pattern.format(value)


def _day(moment: Any) -> str:
    return f"{pd.Timestamp(moment):%Y-%m-%d %H:%M}"


def plot_results(results: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns every figure that follows from the results alone, by file name."""
    figures = {"thresholds": plot_thresholds(results["thresholds"])}
    for part in PARTS:
        if part in results:
            result = results[part]
            figures |= {
                f"confusion_matrix_{part}": plot_confusion_matrix(result, title=part),
                f"confusion_matrix_{part}_signals": plot_confusion_matrix(
                    result["thresholded"],
                    title=part,
                    predicted_by="signals at thresholds",
                ),
                f"reliability_{part}": plot_reliability(result, title=part),
                f"equity_{part}": plot_equity(result["trading"], title=part),
                f"baselines_{part}": plot_baselines(result, title=part),
            }
    return figures


def plot_cross_validation(summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns the folds' rows and their skill as figures, by file name."""
    rows = [fold["rows"] for fold in summary["folds"]]
    ranges = [([r["train"], r["validation"]], [r["test"]]) for r in rows]
    last = max(row["test"][1] for row in rows)
    name = summary["cv"].replace("_", " ")
    return {
        "folds": plot_splits(ranges, last, title=f"rows of {name} folds"),
        "folds_skill": plot_fold_skill(summary),
    }


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    *,
    history: Mapping[str, Sequence[float]],
    label_mix: pd.DataFrame,
) -> None:
    """Writes `confusion_matrix_report.json` and `plots/*.png` into a run folder."""
    utils.write_json(folder / "confusion_matrix_report.json", results)
    figures = plot_results(results)
    if "cross_validation" in results:
        figures |= plot_cross_validation(results["cross_validation"])
    figures["learning_curves"] = plot_learning_curves(history)
    figures["label_mix"] = plot_label_mix(label_mix)
    for name, figure in figures.items():
        with utils.atomic_path(folder / "plots" / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=120)
