"""Results -> text for the terminal, JSON, the plots and the page of a run.

In: showing numbers. Out: computing them (`evaluation`), drawing them (`plots`), the
page's content (`page`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from artifacts.run_folder import RunFolder
from config import Config
from data_loader import TrainingData
from evaluation.part_scores import Judged
from evaluation.results import HEADLINES
from files.atomic import atomic_write
from files.strict import write_json
from metrics.wording import interval, number
from reports.blocks import Numbers
from reports.composition import (
    format_importance,
    format_pairs,
    format_parents,
    format_position,
)
from reports.outlook import confirmation, outlook_text, promised_text
from reports.text import day, format_table, wrap
from reports.time_plots import label_mix_over_time
from reports.trade_plots import list_trades
from reports.trades import FOLD_ROWS, WALKED, WALKS, shown_folds
from reports.tuning import format_tuning
from reports.views import View, view_of

logger = logging.getLogger(__name__)

PARTS = ("validation", "test")
NUMBERS = "confusion_matrix_report.json"


def format_results(results: Mapping[str, Any]) -> str:
    """Returns the verdict, the warnings, and each part's tables."""
    blocks, view = [], view_of(results)
    if results.get("verdict"):
        blocks.append("\n".join(results["verdict"]))
    if results.get("warnings"):
        notes = [wrap(f"note: {text}") for text in results["warnings"]]
        blocks.append("\n".join(notes))
    for part in PARTS:
        if part in results:
            blocks.append(_format_part(part, results[part], view))
    if "pairs" in results:
        blocks.append(format_pairs(results))
    blocks += filter(None, [outlook_text(results), promised_text(results)])
    blocks.append(wrap(f"decided on validation: {view.decided(results)}"))
    if "parents" in results:
        blocks.append(format_parents(results))
    if "position" in results:
        blocks.append(format_position(results["position"]))
    if "tuning" in results:
        blocks.append(format_tuning(results["tuning"]))
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
        *_fold_table(
            summary["metrics"], "folds" if "paths" in summary else "folds, oldest first"
        ),
    ]
    if "paths" in summary:
        seen = [fold["lookback_rows"] for fold in summary["folds"]]
        known = "not known, the file has no description"
        counts = known if None in seen else ", ".join(f"{n:,}" for n in seen)
        lines += _fold_table(summary["paths"], "paths through all blocks")
        lines.append(f"  training rows whose look-back touches a test block: {counts}")
    if "skipped" not in summary.get("trading", {"skipped": ""}):
        lines += ["the folds' tests as one, one position at a time:"]
        lines += _walk_table(summary)
    return "\n".join(lines)


def _walk_table(summary: Mapping[str, Any]) -> list[str]:
    """Returns what the folds' tests earned, and what else would have, as text."""
    numbers, rows = Numbers(summary), []
    for name, place in WALKS.items():
        cells = []
        for key, pattern in WALKED.values():
            _, of_interval, found = key.rpartition("intervals.")
            full = numbers.find(f"{place}.{key}") if of_interval else None
            value = numbers.find(f"{place}.{found}")
            cells.append(interval(full, pattern) if full else number(value, pattern))
        rows.append([name, *cells])
    gain = interval(
        summary["never_retrained"]["intervals"]["gain_bps_per_day"], "{:+.1f}"
    )
    gained = f"  retraining gained {gain} bps of net return a day"
    return [*format_table([["", *WALKED], *rows]), gained]


def _fold_table(metrics: Mapping[str, Any], what: str) -> list[str]:
    rows, shown = [], {}
    for key, (name, pattern) in FOLD_ROWS.items():
        row = metrics.get(key)
        if row is not None:
            mean, std = number(row["mean"], pattern), number(row["std"], pattern)
            shown = shown_folds(row["folds"])
            each = (number(row["folds"][k], pattern) for k in shown.values())
            rows.append([name, mean, std.lstrip("+"), *each])
    extremes = [name for name in shown if not name.isdigit()]
    head, *lines = format_table([["", "mean", "spread", *extremes], *rows])
    what = f"of the {what.partition(',')[0]}" if extremes else what
    return [f"{head}   {what}", *lines]


def _format_part(part: str, result: Mapping[str, Any], view: View) -> str:
    span = f"{day(result['first'])} to {day(result['last'])}"
    lines = [f"{part}: {result['num_samples']:,} {view.counted}, {span}"]
    lines += view.part_lines(result)
    if "trading" in result:
        lines.append(_trading_line(result["trading"]))
    return "\n".join(lines)


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
        won = (
            f"{trades['win_rate_pct']:.1f}% of them won, held for "
            f"{trades['mean_holding_bars']:.0f} bars"
        )
    intervals, count = trades["intervals"], trades["num_trades"]
    return (
        f"  {count:,} trade{'s' * (count != 1)}{sample}: {won}\n"
        f"  net {interval(intervals['mean_net_return_bps'], '{:+.1f}')} bps a trade, "
        f"costs {trades['cost_bps']:g} bps a side, break-even at "
        f"{trades['break_even_cost_bps']:.1f}\n"
        f"  Sharpe {interval(intervals['sharpe'], '{:+.1f}')}, "
        f"drawdown {trades['max_drawdown_pct']:.1f}%, in a trade "
        f"{trades['exposure_pct']:.0f}% of the time"
    )


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    *,
    history: Mapping[str, Sequence[float]],
    label_mix: pd.DataFrame | None,
    metadata: Mapping[str, Any] | None = None,
    trades: pd.DataFrame | None = None,
    prices: pd.DataFrame | None = None,
) -> None:
    """Writes the report into a run folder.

    `confusion_matrix_report.json`, `plots/*.png`, and `report.html`, which is one page
    of the same numbers. See `reports.blocks.Material` for the arguments.
    """
    from reports.figures import save_figures
    from reports.page import gather, render_page

    write_json(folder / NUMBERS, results)
    material = gather(
        results,
        history=history,
        label_mix=label_mix,
        metadata=metadata,
        trades=trades,
        prices=prices,
    )
    page = render_page(material)
    save_figures(material.figures, folder / "plots")
    atomic_write(folder / "report.html", page)


def tested_trades(
    model: Judged, data: TrainingData, config: Config
) -> dict[str, pd.DataFrame]:
    """Returns `trades` and `prices` of the test part, see `Material`; or nothing."""
    test = model.of_part("test")
    trades = list_trades(test.table, test.scores(), data, config)
    if trades.empty:
        return {}
    if data.pairs:  # one picture of closes is of one market
        return {"trades": trades}
    bar = pd.Timedelta(seconds=config.bar_seconds)
    prices = test.table[["close", "signal"]].assign(time=test.table["timestamp"] + bar)
    return {"trades": trades, "prices": prices}


def write_run_report(
    run: RunFolder,
    data: TrainingData,
    results: Mapping[str, Any],
    *,
    model: Judged | None,
    history: dict[str, list[float]],
    metadata: dict[str, Any],
) -> None:
    """Writes the report and the metadata with its headlines; prints the report.

    `model` is what was said of each row; None where that is no forecast to trade by.
    Where the test part has trades, `trades_{tag}.csv` lists them. A `light` report has
    no pictures and no page.
    """
    metadata["results"] = {
        key: results[key] for key in ("verdict", "claims", "warnings")
    } | {
        part: {key: results[part][key] for key in HEADLINES if key in results[part]}
        for part in ("validation", "test")
    }
    write_json(run.file("metadata", ".json"), metadata)
    logger.info("%s", format_results(results))
    _write_judged(
        run.path,
        data,
        results,
        model=model,
        config=run.config,
        parts=tuple(data.parts),
        history=history,
        metadata=metadata,
    )


def format_evaluation(results: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Returns the report of later data as text: what was judged, then the results."""
    head = f"{about['model_id']}, judged on {about['rows']['evaluated']:,} rows of "
    head += f"{about['days']:.1f} days, with everything frozen; "
    head += confirmation(results, about)
    return f"{wrap(head)}\n{format_results(results)}"


def write_evaluation(
    folder: Path,
    data: TrainingData,
    results: Mapping[str, Any],
    *,
    model: Judged | None,
    config: Config,
    about: Mapping[str, Any],
) -> None:
    """Writes the report of a finished model on later data; see `write_run_report`.

    Args:
        folder: That it goes into.
        data: Its `test` are the rows that were judged.
        results: Of these rows.
        model: What the model said of them; None as in `write_run_report`.
        config: Its run, at the costs in force.
        about: `artifacts.evaluations.Evaluation`.
    """
    _write_judged(
        folder,
        data,
        results,
        model=model,
        config=config,
        parts=("test",),
        history={},
        metadata=about,
    )


def _write_judged(
    folder: Path,
    data: TrainingData,
    results: Mapping[str, Any],
    *,
    model: Judged | None,
    config: Config,
    parts: Sequence[str],
    history: Mapping[str, Sequence[float]],
    metadata: Mapping[str, Any],
) -> None:
    """Writes numbers, trades, pictures and the page; of a light report numbers alone.

    `parts` are those whose labels are drawn, in order of time.
    """
    if config.report == "light":
        write_json(folder / NUMBERS, results)
        return
    mix = None
    if len(data.labels):
        rows = slice(data.parts[parts[0]].start, data.parts[parts[-1]].stop)
        mix = label_mix_over_time(data.timestamps[rows], data.labels[rows])
        mix.attrs["edges"] = {name: data.first_time(data.parts[name]) for name in parts}
    traded = {} if model is None else tested_trades(model, data, config)
    if traded:
        text = traded["trades"].to_csv(index=False)
        atomic_write(folder / f"trades_{config.tag}.csv", text)
    write_report(
        folder,
        results,
        history=history,
        label_mix=mix,
        metadata=metadata,
        **traded,
    )
