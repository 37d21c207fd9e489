"""A dataset for the eye: a summary of one screen, printed, and its picture, written.

In: a dataset in words. Out: computing and judging it (`dataset.dataset`), drawing it
(`dataset_plots`).
"""

from __future__ import annotations

import logging
import shlex
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

import utils
from candles.sources import refuse_candles
from config import CLASS_NAMES, Config
from dataset.columns import has_labels
from dataset.dataset import Dataset, find_problems, label_ids, read_dataset
from dataset.lengths import short_test_notes, unused_segment_lines
from reports.dataset_plots import bar_words, in_time_order, mix_over_time, plot_dataset
from reports.plots import save_png
from reports.text import format_table

logger = logging.getLogger(__name__)


def describe_file(file: str, output: str | None = None) -> None:
    """Prints a summary of a training file, and draws it beside it, or as `output`.

    Raises:
        ConfigError: If `output` is no name of a PNG.
        MissingInputError: If there is no such file.
        DataError: If it is no training file.
    """
    try:
        dataset = read_dataset(file)
    except utils.DataError:
        _refuse_candles(file)
        raise
    if not has_labels(dataset.frame.columns):
        _refuse_candles(file)
    logger.info("%s\n%s", file, format_summary(dataset))
    target = Path(output or Path(file).with_suffix(".png"))
    if target.suffix != ".png":
        text = f"--output: expected a name in .png. Received: {target}"
        raise utils.ConfigError(text)
    save_png(plot_dataset(dataset), target, dpi=110)
    logger.info("%s", target)


def _refuse_candles(file: str) -> None:
    """Names the commands that describe candles, and build from them."""
    given = shlex.quote(file)
    cure = f"python -m candles check {given} describes them, python dataset_builder.py"
    refuse_candles(Path(file), f"{cure} {given} builds a training file.")


def format_summary(dataset: Dataset) -> str:
    """Returns what is in a dataset, on one screen: rows, gaps, labels, features."""
    doubts = [f"doubtful: {line}" for line in dataset.metadata.get("doubts", ())]
    problems = [*doubts, *find_problems(dataset)] or ["none"]
    dataset = in_time_order(dataset)
    facts, frame = dataset.metadata, dataset.frame
    stated = facts.get("parameters", {})
    times = frame["timestamp"]
    span = f"{times.iloc[0]:%F %R} to {times.iloc[-1]:%F %R}"
    lines = [
        _line("dataset", f"{stated.get('pair', 'unknown pair')}, {dataset.timeframe}"),
        _line("target", _target_words(stated)),
        _line("rows", f"{len(frame):,}, {span}"),
        _line("bars", ", ".join(bar_words(dataset))),
    ]
    if "warm_up_bars" in facts:
        text = f"{facts['warm_up_bars']:,} of warm-up before the first row"
        if "future_window" in stated:
            text += f", {stated['future_window']:,} without an outcome after the last"
        if "num_bars" in facts:
            unused = facts["num_bars"] - facts["num_rows"]
            text += f"; {unused:,} of all {facts['num_bars']:,} bars are no row"
        lines.append(_line("beside them", text))
    if candles := facts.get("candles"):
        words = (
            f"{facts['num_candles']:,} of {candles['timeframe']}",
            utils.counted(candles["num_gaps"], "gap", "gaps"),
            utils.counted(candles["missing_bars"], "bar", "bars") + " missing",
            f"longest {candles['longest_gap_bars']}",
            _of(candles["zero_volume_bars"], facts["num_candles"], "without volume"),
        )
        lines.append(_line("candles", ", ".join(words)))
        lines += [_line("not used", line) for line in unused_segment_lines(facts)[:9]]
    if {"timeframe", "future_window"} <= stated.keys():
        usual = Config(
            timeframe=stated["timeframe"], future_window=stated["future_window"]
        )
        lines += [_line("too short", note) for note in short_test_notes(usual, facts)]
    lines += _label_lines(dataset)
    lines += _feature_lines(dataset)
    if "digests" in facts:
        lines.append(_line("candle bytes", facts["digests"]["candles"][:16]))
    lines += [_line("findings", problems[0])]
    lines += [_line("", problem) for problem in problems[1:9]]
    if len(problems) > 9:
        lines.append(_line("", f"and {len(problems) - 9} more"))
    return "\n".join(lines)


def _of(count: int, total: int, what: str) -> str:
    return f"{count:,} {what} ({count / max(1, total):.2%})"


def _line(name: str, text: str) -> str:
    wrapped = textwrap.wrap(text, 92, break_on_hyphens=False) or [""]
    return f"  {name:<14}" + f"\n{' ':16}".join(wrapped)


def _target_words(stated: dict[str, Any]) -> str:
    target = stated.get("target", "unknown")
    if target == "signal":
        return (
            f"signal: {stated['future_window']} bars, long +{stated['long_tp_pct']:g} "
            f"-{stated['long_sl_pct']:g} %, short +{stated['short_tp_pct']:g} "
            f"-{stated['short_sl_pct']:g} %, ties {stated['tie_policy']}"
        )
    if target == "direction":
        return (
            f"direction over {stated['future_window']} bars, "
            f"dead zone {stated['dead_zone_pct']:g} %"
        )
    if target == "unknown":
        return "a file without a description"
    return f"{target} over {stated['future_window']} bars"


def _label_lines(dataset: Dataset) -> list[str]:
    labels = label_ids(dataset.frame)
    if labels is None:
        values = dataset.target
        low, middle, high = np.nanquantile(values, (0.01, 0.5, 0.99))
        return [_line("values", f"1 % {low:.5g}, median {middle:.5g}, 99 % {high:.5g}")]
    shares = np.bincount(labels.clip(0, 2), minlength=3) / len(labels)
    text = ", ".join(f"{n} {s:.1%}" for n, s in zip(CLASS_NAMES, shares, strict=True))
    mix = mix_over_time(dataset)
    mix = mix[mix.sum(axis=1) > 0]
    spans = ", ".join(f"{n} {mix[n].min():.0%} to {mix[n].max():.0%}" for n in mix)
    moved = _line("over time", f"{spans} in {len(mix)} stretches")
    return [_line("labels", text), moved]


def _feature_lines(dataset: Dataset) -> list[str]:
    names = dataset.feature_names
    lines = [_line("features", f"{len(names)}; lowest, mean, highest, deviation:")]
    rows = []
    for name in names[:8]:
        values = dataset.frame[name].to_numpy(np.float64)
        known = values[np.isfinite(values)]
        if len(known):
            numbers = (known.min(), known.mean(), known.max(), known.std())
            rows.append([name[:24], *(f"{number:.4g}" for number in numbers)])
    lines += format_table(rows, width=10, indent=16)
    if len(names) > 8:
        lines.append(_line("", "and " + ", ".join(names[8:20])))
    if len(names) > 20:
        lines.append(_line("", f"and {len(names) - 20} more"))
    return lines
