"""The leakage audit: looks for leaks in a training file and in feature functions.

In: which checks a file allows, and their report. Out: the checks themselves: what
candles prove (`lookahead`, `gap_fills`), what splits and scalers saw (`split_checks`),
what statistics show (`column_skill`, `label_timing`). Nothing is trained.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import utils
from audit import (
    column_skill,
    context_steps,
    gap_fills,
    label_copies,
    label_timing,
    leading,
    learned_columns,
    lookahead,
    recomputed,
    split_checks,
)
from audit.feature_files import run_with_features
from audit.file_candles import (
    FileCandles,
    candles_of_pair,
    find_file_candles,
    split_words,
    synthetic_market,
)
from audit.findings import (
    FUTURE_FILLED,
    LEAK,
    LOOKS_AHEAD,
    NOT_DONE,
    OTHER_FEATURES,
    PASSED,
    SHIFTED_LABEL,
    TOO_GOOD,
    AuditReport,
    Finding,
    joined,
)
from audit.recomputed import Recomputed
from audit.split_checks import Splits, split_targets
from candles.sources import (
    CandleSource,
)
from config import Config
from data_loader import TrainingData, TrainingDataLoader
from dataset import blocks
from dataset.context_files import ContextSource
from files.atomic import require_creatable
from files.strict import write_json
from settings.names import member_config

logger = logging.getLogger(__name__)

_NO_CLIP = 1e30
_SYNTHETIC_BARS = 20_000  # beyond the warm-up
_MAX_SYNTHETIC_BARS = 1_000_000
_SHOWN = 4


def quick_audit(data: TrainingData, config: Config) -> AuditReport:
    """Returns what can be said in seconds of data that a training reads.

    Args:
        data: Its rows, scaled.
        config: The run.
    """
    if data.pairs:
        reports = {
            pair: quick_audit(own, member_config(config, pair))
            for pair, _, own in data.each_pair()
        }
        return joined(reports, _subject(data))
    parts = {name: part.targets for name, part in data.parts.items()}
    shared = split_checks.check_shared_bars(
        {"run": parts}, window_bars=data.window_bars, future_window=data.future_window
    )
    known = _known_columns(data, config) if data.source.get("built_by_us") else []
    why = "needs candles and functions: python trainer.py --audit"
    unproven = tuple(
        Finding(check=check, outcome=NOT_DONE, what=why)
        for check in (LOOKS_AHEAD, OTHER_FEATURES)
    )
    fitted = split_checks.check_fitted_on_train(data)
    statistics = _statistics(data, data, left_out=known)
    findings = (*unproven, shared, fitted, *statistics)
    return AuditReport(subject=_subject(data), findings=findings)


def run_audit(
    config: Config,
    *,
    frame: pd.DataFrame | None = None,
    candles: CandleSource = None,
    context: ContextSource | None = None,
    splits: Splits | None = None,
) -> AuditReport:
    """Audits the training file of a run, and the functions of its features.

    Args:
        config: The run: file, features, target, window, splits, scaler.
        frame: A training file's columns instead of the file.
        candles: What the file was made from: a table, a file or several. None takes
            candles of which the file's description has the digest, where they are in
            the folder `data` or are the demo market.
        context: Those of context pairs by pair; others are looked for beside
            `candles`.
        splits: Target rows of further splits, such as those of a splitter of your own.

    Raises:
        MissingInputError: If there is no training file, or a candle file is missing.
        DataError: If the file or the candles break their contract, or the candles are
            not those of the file.
    """
    data, raw = _load(config, frame), _load_raw(config, frame)
    if not data.pairs:
        return _audit(data, raw, config, frame, candles, context, splits)
    reports, plain = {}, {pair: own for pair, _, own in raw.each_pair()}
    for pair, _, own in data.each_pair():
        found, member = candles_of_pair(candles, pair), member_config(config, pair)
        reports[pair] = _audit(own, plain[pair], member, None, found, context, None)
    return joined(reports, _subject(data))


def _audit(
    data: TrainingData,
    raw: TrainingData,
    config: Config,
    frame: pd.DataFrame | None,
    candles: CandleSource,
    context: ContextSource | None,
    splits: Splits | None,
) -> AuditReport:
    found = find_file_candles(config, data, candles, context)
    bars = None if found is None else found.joined
    if bars is not None:
        blocks.require_beside(bars, config)
    functions = _audit_functions(raw, found, config)
    again = None
    if bars is not None:
        has_features = functions.outcome != LEAK and bool(_known_columns(raw, config))
        again = recomputed.recompute(raw, bars, config, has_features=has_features)
    own = None if found is None else found.own
    gaps = gap_fills.check_gaps(config, frame, data, own, again)
    compared = _audit_columns(raw, again, functions, gaps)
    proven, uncovered = [], []
    if again is not None and len(again.rows) < raw.num_rows:
        uncovered = [recomputed.uncovered_rows(raw, again)]
    elif compared[0].outcome == PASSED:
        proven = compared[0].evidence["columns"]
    findings = (
        functions,
        *compared,
        *uncovered,
        *context_steps.check_steps(bars, config),
        gaps,
        split_checks.check_shared_bars(
            dict(split_targets(data, config)) | dict(splits or {}),
            window_bars=data.window_bars,
            future_window=data.future_window,
        ),
        split_checks.check_fitted_on_train(data, raw),
        *_statistics(data, raw, None if uncovered else bars, again, left_out=proven),
    )
    return AuditReport(subject=_subject(data), findings=findings)


def _statistics(
    data: TrainingData,
    raw: TrainingData,
    bars: pd.DataFrame | None = None,
    again: Recomputed | None = None,
    *,
    left_out: Collection[str] = (),
) -> Iterator[Finding]:
    """Yields what the columns and labels of a file show by themselves.

    Args:
        data: What a training reads.
        raw: The same, not scaled, or scaled where nothing else is at hand.
        bars: Candles of the file, gaps filled.
        again: What they give for its rows.
        left_out: Columns whose functions tell whether they lead the market.
    """
    classes, true_labels = _as_classes(data, again)
    edges = label_timing.find_label_edges(classes)
    shift = label_timing.check_label_shift(
        classes, edges=edges, true_labels=true_labels
    )
    if again is not None and len(again.rows) < raw.num_rows and shift.outcome == PASSED:
        # What candles prove of their rows does not hold for the others.
        shift = label_timing.check_label_shift(classes, edges=edges)
    columns = dict(zip(raw.feature_names, raw.features.T, strict=True))
    yield split_checks.check_scaled_file(raw)
    yield label_copies.check_copies(raw)
    yield learned_columns.check_learned(raw)
    yield learned_columns.check_price_fits(raw)
    yield learned_columns.check_interpolated(columns)
    others = {name: x for name, x in columns.items() if name not in left_out}
    if others:
        yield from leading.check_leading(*_with_bars(others, data, bars))
    yield shift
    yield label_timing.check_column_shift(classes, edges=edges)
    yield _audit_skill(classes, shift)


def _with_bars(
    columns: Mapping[str, np.ndarray], data: TrainingData, bars: pd.DataFrame | None
) -> tuple[Mapping[str, np.ndarray], pd.DataFrame | None]:
    """Returns columns and bars of the rows that have one; None where none is known."""
    if bars is None:
        if "close" not in data.outcomes:
            return columns, None
        times = pd.DatetimeIndex(data.timestamps)
        return columns, pd.DataFrame(
            {"timestamp": times, "close": data.outcomes["close"]}
        )
    rows = pd.DatetimeIndex(data.timestamps).tz_localize("UTC")
    at = pd.DatetimeIndex(bars["timestamp"]).get_indexer(rows)
    known = {name: column[at >= 0] for name, column in columns.items()}
    return known, bars.iloc[at[at >= 0]].reset_index(drop=True)


def run_command(
    config: Config,
    *,
    candles: Sequence[str] | None = None,
    feature_file: str | None = None,
    json_file: str | None = None,
    is_strict: bool = False,
) -> None:
    """Prints the audit of a run.

    Args:
        config: The run.
        candles: Candle files, see `run_audit`; `PAIR=FILE` is of a context pair.
        feature_file: Python file that registers feature sets. It is run.
        json_file: Where the findings are written for other programs, too.
        is_strict: Whether what is doubtful or was not done is refused, too.

    Raises:
        DataError: If a leak was found.
        ConfigError: If the feature file ends the interpreter.
    """
    if json_file is not None:
        require_creatable(Path(json_file).parent)
    own, context = split_words(candles, config)
    work = functools.partial(run_audit, config, candles=own, context=context)
    report = work() if feature_file is None else run_with_features(feature_file, work)
    logger.info("%s", report)
    if json_file is not None:
        write_json(Path(json_file), report.to_dict())
    report.require_clean(is_strict=is_strict)


def _subject(data: TrainingData) -> str:
    return (
        f"{data.source['path'] or 'a DataFrame'}: {data.num_rows:,} rows, "
        f"{utils.counted(data.num_features, 'feature', 'features')}"
    )


def _load(config: Config, frame: pd.DataFrame | None) -> TrainingData:
    if frame is not None:
        loader = TrainingDataLoader.from_frame(frame, config=config)
    else:
        loader = TrainingDataLoader(config=config)
    return loader.load_training_data()


def _audit_skill(data: TrainingData, shift: Finding) -> Finding:
    """Scores single columns, unless labels of other rows make them all too good."""
    if shift.outcome == LEAK:
        why = f"labels belong to other rows, see '{SHIFTED_LABEL}'"
        return Finding(check=TOO_GOOD, outcome=NOT_DONE, what=why)
    return column_skill.check_single_features(data)


def _as_classes(
    data: TrainingData, again: Recomputed | None
) -> tuple[TrainingData, np.ndarray | None]:
    """Returns data with classes and the recomputed classes, -1 where there is none.

    The returns of a regression are sorted into thirds: statistics of classes serve.
    """
    known = None if again is None else again.outcomes
    if data.target_scaler is not None:
        returns = data.log_returns(np.arange(data.num_rows))
        edges = np.nanquantile(returns, (1 / 3, 2 / 3))
        thirds = np.searchsorted(edges, returns).clip(max=2).astype(np.int8)
        data = dataclasses.replace(data, labels=thirds, values=None, target_scaler=None)
        if known is not None:
            found = np.searchsorted(edges, known).clip(max=2)
            known = np.where(np.isfinite(known), found, np.nan)
    if known is not None:
        known = np.nan_to_num(known, nan=-1).astype(np.int8)
    return data, known


def _load_raw(config: Config, frame: pd.DataFrame | None) -> TrainingData:
    """Returns the same rows as the file has them: neither scaled nor balanced."""
    plain = {"scaler_type": "none", "clip_limit": _NO_CLIP}
    natural = {"class_balancing_method": "none", "manual_class_weights": None}
    natural |= {"sample_weights": "uniform", "sample_half_life_days": None}
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # all that is to be said was said of the first
    try:
        return _load(config.replace(**plain, **natural), frame)
    finally:
        logging.disable(before)


def _audit_functions(
    raw: TrainingData, found: FileCandles | None, config: Config
) -> Finding:
    """Truncates the file's candles, or others where they are not known."""
    if not _known_columns(raw, config):
        sets = " ".join(config.feature_sets)
        return Finding(
            check=LOOKS_AHEAD,
            outcome=NOT_DONE,
            what=f"the file's columns are not of {sets}: name their sets with "
            "--feature-sets, a set of your own also with --audit-features FILE.py",
        )
    if found is not None:
        return lookahead.check_feature_sets(found.bars, config, others=found.others)
    count = blocks.warm_up_bars(config) + _SYNTHETIC_BARS
    if count > _MAX_SYNTHETIC_BARS:
        return Finding(
            check=LOOKS_AHEAD,
            outcome=NOT_DONE,
            what=f"no candles given, and {count:,} bars are too many to make up: give "
            "them with --audit-candles FILE...",
        )
    made_up = synthetic_market(count, config)
    finding = lookahead.check_feature_sets(made_up.bars, config, others=made_up.others)
    return Finding(
        check=finding.check,
        outcome=finding.outcome,
        what=f"{finding.what} (on a synthetic market, as no candles were given)",
        evidence=finding.evidence,
    )


def _known_columns(raw: TrainingData, config: Config) -> list[str]:
    """Returns the file's columns that the configured feature sets have."""
    names = {*blocks.feature_names(config)}
    return [name for name in raw.feature_names if name in names]


def _audit_columns(
    raw: TrainingData, again: Recomputed | None, functions: Finding, gaps: Finding
) -> list[Finding]:
    """Compares columns with recomputed ones, where that would say anything."""
    if again is None:
        why = "no candles given: --audit-candles FILE..."
    elif functions.outcome == NOT_DONE:
        why = "no function of the file's columns is known"
    elif functions.outcome == LEAK:
        why = f"the functions leak, see '{LOOKS_AHEAD}'"
    elif gaps.outcome == LEAK:
        why = f"the file has other bars than the candles, see '{FUTURE_FILLED}'"
    else:
        return recomputed.check_features(raw, again)
    return [
        Finding(
            check=OTHER_FEATURES,
            outcome=NOT_DONE,
            what=f"cannot be recomputed: {', '.join(raw.feature_names)}: {why}",
            columns=raw.feature_names,
        )
    ]
