"""Results -> text for the terminal, JSON, the plots and the page of a run.

In: showing numbers. Out: computing them (`evaluation`), drawing them (`plots`), the
page's content (`page`).
"""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from artifacts.run_folder import RunFolder
from config import CLASS_NAMES
from data_loader import TrainingData
from evaluation.folds import HEADLINES
from evaluation.verdict import BASELINE_NAMES, interval, number
from files.atomic import atomic_path, atomic_write
from files.strict import write_json
from reports import number_plots
from reports.importance import format_importance, plot_importance
from reports.page import render_page
from reports.plots import (
    Figure,
    curve_metrics,
    plot_baselines,
    plot_confusion_matrix,
    plot_cross_validation,
    plot_equity,
    plot_learning_curves,
    plot_reliability,
    plot_splits,
    plot_thresholds,
)
from reports.time_plots import label_mix_over_time, plot_label_mix
from reports.trades import FOLD_ROWS

__all__ = [
    "format_results",
    "label_mix_over_time",
    "plot_baselines",
    "plot_confusion_matrix",
    "plot_equity",
    "plot_importance",
    "plot_label_mix",
    "plot_learning_curves",
    "plot_reliability",
    "plot_results",
    "plot_splits",
    "plot_thresholds",
    "write_report",
]

logger = logging.getLogger(__name__)

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
    if "importance" in results:
        blocks.append(format_importance(results["importance"]))
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
    for key, (name, pattern) in FOLD_ROWS.items():
        row = summary["metrics"].get(key)
        if row is None:
            continue
        folds = "".join(f"{number(v, pattern):>9}" for v in row["folds"])
        mean, std = number(row["mean"], pattern), number(row["std"], pattern)
        lines.append(f"  {name:<24}{mean:>9}{std.lstrip('+'):>9}{folds}")
    return "\n".join(lines)


def _format_part(part: str, result: Mapping[str, Any]) -> str:
    span = f"{_day(result['first'])} to {_day(result['last'])}"
    lines = [f"{part}: {result['num_samples']:,} windows, {span}"]
    if "sign_p_value" in result:
        lines += number_plots.format_part(result)
    else:
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
        _skill_row("this part's own mix", [number(each, "{:+.3f}") for each in own])
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
            number(scores.get(f"{prefix}skill_vs_train_prior"), "{:+.3f}")
            for prefix in ("", "activity_", "direction_")
        ]
        accuracy = number(scores.get("accuracy"), "{:.3f}")
        mean = number(trades.get("mean_net_return_bps"), "{:+.1f} bp")
        total = number(trades.get("total_return_pct"), "{:+.1f}%")
        count = number(trades.get("num_trades"), "{:,}")
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
    won = (
        f"take profit {trades['trade_precision_pct']:.1f}% of them, "
        f"{trades['break_even_precision_pct']:.1f}% to break even"
    )
    if trades["exits"]["timeout"] == trades["num_trades"]:
        won = f"{trades['win_rate_pct']:.1f}% of them won, held to the horizon"
    intervals = trades["intervals"]
    return (
        f"  {trades['num_trades']:,} trades{sample}: {won}\n"
        f"  net {interval(intervals['mean_net_return_bps'], '{:+.1f}')} bps a trade, "
        f"costs {trades['cost_bps']:g} bps a side, break-even at "
        f"{trades['break_even_cost_bps']:.1f}\n"
        f"  Sharpe {interval(intervals['sharpe'], '{:+.1f}')}, "
        f"drawdown {trades['max_drawdown_pct']:.1f}%, in a trade "
        f"{trades['exposure_pct']:.0f}% of the time"
    )


def _format_choice(results: Mapping[str, Any]) -> str:
    search = results["thresholds"]
    if "calibration" not in results:
        chosen = number_plots.format_thresholds(search)
        return _wrap(f"decided on validation: thresholds {chosen}{search['statement']}")
    fitted = results["calibration"]
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


def _day(moment: Any) -> str:
    return f"{pd.Timestamp(moment):%Y-%m-%d %H:%M}"


def plot_results(results: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns every figure that follows from the results alone, by file name."""
    figures = {"thresholds": plot_thresholds(results["thresholds"])}
    if "importance" in results:
        figures["importance"] = plot_importance(results["importance"])
    if "target_over_time" in results:
        table = results["target_over_time"]
        figures["target_over_time"] = number_plots.plot_target_over_time(table)
    for part in PARTS:
        if part in results:
            result = results[part]
            if "sign_p_value" in result:
                own = number_plots.plot_part(result, title=part)
                figures |= {f"{name}_{part}": figure for name, figure in own.items()}
                figures[f"equity_{part}"] = plot_equity(result["trading"], title=part)
                continue
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


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    *,
    history: Mapping[str, Sequence[float]],
    label_mix: pd.DataFrame | None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report into a run folder.

    `confusion_matrix_report.json`, `plots/*.png`, and `report.html`, which is one page
    of the same numbers.

    Args:
        folder: The run.
        results: From `evaluation.evaluate`, ready for JSON.
        history: Metric name -> one value an epoch.
        label_mix: From `label_mix_over_time`; None where the target is a number.
        metadata: Sections of the run's metadata, for the page.
    """
    write_json(folder / "confusion_matrix_report.json", results)
    # A feature may be named $x^$: texts are no formulas.
    with mpl.rc_context({"text.parse_math": False}):
        figures = plot_results(results)
        if "cross_validation" in results:
            figures |= plot_cross_validation(results["cross_validation"])
        if curve_metrics(history):
            figures["learning_curves"] = plot_learning_curves(history)
        if label_mix is not None:
            figures["label_mix"] = plot_label_mix(label_mix)
    for name, figure in figures.items():
        with atomic_path(folder / "plots" / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=120)
    page = render_page(results, history=history, label_mix=label_mix, metadata=metadata)
    atomic_write(folder / "report.html", page)


def write_run_report(
    run: RunFolder,
    data: TrainingData,
    results: dict[str, Any],
    *,
    history: dict[str, list[float]],
    metadata: dict[str, Any],
) -> None:
    """Writes the report and the metadata with its headlines; prints the report."""
    mix = None
    if not data.is_regression:
        mix = label_mix_over_time(data.timestamps, data.labels)
        mix.attrs["edges"] = {
            name: data.timeline.at(part.start) for name, part in data.parts.items()
        }
    write_report(run.path, results, history=history, label_mix=mix, metadata=metadata)
    metadata["results"] = {
        key: results[key] for key in ("verdict", "claims", "warnings")
    } | {
        part: {key: results[part][key] for key in HEADLINES if key in results[part]}
        for part in ("validation", "test")
    }
    write_json(run.file("metadata", ".json"), metadata)
    logger.info("%s", format_results(results))
