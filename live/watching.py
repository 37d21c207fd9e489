"""Is the market still the one that a model learned from? `watch` says what it sees.

In: later candles held against what the report and the training rows promised, one
level of all. Out: numbers of a row (`watched`), levels of a day (`levels`), distances
of features (`signals.drift`), judging later rows as the report did (`evaluation`).

Nothing is kept between calls: a level of today follows from the candles and the
artifact alone, however often it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from artifacts.artifact import load_artifact
from candles.sources import CandleSource
from config import AGENTS
from data_loader import TrainingData
from evaluation.evaluate import evaluate, predictions_table, task_of
from evaluation.outlook import held
from evaluation.part_scores import Judged
from experiments.candidates import (
    Candidate,
    common_times,
    not_later,
    open_candidate,
)
from files.strict import to_jsonable
from live.levels import Levels, learn_levels
from live.watched import days_of, watched_numbers
from metrics.significance import adjust_p_values
from predictor import Predictor
from preprocessing.later_rows import by_name, later_data
from signals.drift import daily_drift, stability_index, unit_days
from utils import ConfigError, DataError

Level = Literal["ok", "warning", "alarm"]
RANK: tuple[Level, ...] = ("ok", "warning", "alarm")
EXIT_CODES: dict[Level, int] = {"ok": 0, "warning": 10, "alarm": 11}
MAX_P_VALUE = 0.05
_DRIFT = "drift"


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What later candles show of a model.

    Args:
        level: The worst of `numbers`, and `warning` where a feature lies apart.
        model_id: The run.
        about: Rows, first and last, age in days, bars that are missing or clipped,
            mixes of predictions and labels.
        numbers: Each watched number: `level`, `sum`, `warning`, `alarm` (levels of the
            sum), `usual` and `now` (means of a day), `since` (day from which on it has
            been at its level), `days`, `means` and `sums` for a picture.
        features: Each feature: `distance`, `usual` (the 95 % level of as many training
            days), `p_value` (Holm), over the last `days`.
        promised: Ranges of the report and what came; see `results.Promised`.
        notes: What could not be said, and why.
    """

    level: Level
    model_id: str
    about: Mapping[str, Any]
    numbers: Mapping[str, Mapping[str, Any]]
    features: Mapping[str, Any]
    promised: Mapping[str, Any]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON values."""
        found: dict[str, Any] = to_jsonable(vars(self))
        return found


def watch(
    model: str | os.PathLike[str] | Predictor,
    candles: CandleSource,
    *,
    since: str | None = None,
    feature_file: str | None = None,
) -> Watch:
    """Holds later candles against what a finished model promised.

    Args:
        model: A published artifact, a name of the registry, or an opened one.
        candles: Files or a table of its pair and timeframe, with its look-back.
        since: First moment that is watched, UTC; None begins behind the rows of the
            model's own report.
        feature_file: Python file that registers feature sets of one's own.

    Raises:
        ConfigError: If the model is an agent.
        DataError: If there is no later row whose outcome is known.
        RefusedArtifactError: If the model was changed since it was published.
    """
    if not isinstance(model, Predictor):
        model = Predictor(model, feature_file=feature_file)
    if model.family in AGENTS:
        raise ConfigError(
            "expected a model that forecasts: an agent is watched by `python -m "
            f"experiments evaluate`. Received: {model.model_id}"
        )
    each = open_candidate(model, candles, {"baseline_model": False, "report": "light"})
    first = str(each.first_later(("train", "validation", "test")))
    times = common_times([each], _start(each, since) or first, None)
    table, promised = _judge(each, times)
    usual = _predictions(model)
    notes = [*model.notes, *not_later(each.count(times))]
    unit = unit_days(each.config.bar_seconds)
    numbers = _numbers(each, usual, table, unit)
    rows = each.rows.timestamps >= times[0]
    values = by_name(each.rows, model.feature_names)[rows]
    scaled = model.pipeline.scaled(values)
    later = _Later(times=each.rows.timestamps[rows], scaled=scaled)
    features = _features(model, later, numbers, notes)
    shown = _leveled(numbers, unit, notes)
    apart = features.get("features", {}).values()
    rank = max((RANK.index(number["level"]) for number in shown.values()), default=0)
    return Watch(
        level=RANK[max(rank, int(any(x["p_value"] < MAX_P_VALUE for x in apart)))],
        model_id=model.model_id,
        about=_about(model, later, table, usual),
        numbers=shown,
        features=features,
        promised=promised,
        notes=notes,
    )


def _start(each: Candidate, since: str | None) -> str | None:
    """Returns a given moment, behind all that the model learned and chose on."""
    if since is None:
        return None
    try:
        given = pd.Timestamp(since)
    except ValueError as error:
        raise ConfigError(
            f"--since: expected a moment such as 2025-07-01. Received: {since!r:.50}"
        ) from error
    given = given.tz_convert(None) if given.tzinfo else given
    first = pd.Timestamp(each.first_later(("train", "validation")))
    if not given >= first:
        raise DataError(
            f"--since: expected a moment from {first} on, behind what the model "
            f"learned and chose on. Received: {since}"
        )
    return since


def _predictions(model: Predictor) -> pd.DataFrame:
    """Returns what the model's own report said of validation and test."""
    table = load_artifact(model.path).open_table("predictions")
    return pd.DataFrame({k: table.read(k).to_pandas() for k in table.names})


def _judge(
    each: Candidate, times: np.ndarray
) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Returns what the model says of the rows of the given times, and of its ranges."""
    data, table = _answers(each, times)
    policy = each.predictor.policy
    choice = {
        k: each.results[k] for k in ("calibration", "thresholds") if k in each.results
    }
    model = Judged(table=table, policy=policy, choice=choice)
    results: Any = evaluate(model, data, each.config)
    ranges = each.results.get("outlook", {})
    return table, held(ranges, results, task_of(data.target))


def judged_rows(each: Candidate, times: np.ndarray) -> pd.DataFrame:
    """Returns what a model says of the rows of the given times, with its signals."""
    return _answers(each, times)[1]


def _answers(each: Candidate, times: np.ndarray) -> tuple[TrainingData, pd.DataFrame]:
    predictor, at = each.predictor, np.searchsorted(each.rows.timestamps, times)
    data = later_data(each.rows, each.learned, each.config, at.astype(np.int32))
    said = predictor.adapter.predict_rows(data, data.parts["test"].targets)
    table = predictions_table(data, {"test": said})
    return data, predictor.policy.add_signals(table)


def _numbers(
    each: Candidate, usual: pd.DataFrame, table: pd.DataFrame, unit: int
) -> dict[str, dict[str, Any]]:
    """Returns days before and after of each number, by name."""
    prior, found = each.learned.class_prior, {}
    before = watched_numbers(usual, each.config, prior)
    after = watched_numbers(table, each.config, prior)
    for name in before.keys() & after.keys():
        _, past = days_of(_times(usual), before[name].values, unit)
        days, means = days_of(_times(table), after[name].values, unit)
        found[name] = {
            "words": after[name].words,
            "sides": after[name].sides,
            "past": past,
            "days": days,
            "means": means,
        }
    return {name: found[name] for name in after if name in found}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Later:
    """Rows that are watched: times (num_rows,), scaled (num_rows, num_features)."""

    times: np.ndarray
    scaled: np.ndarray


def _features(
    model: Predictor,
    later: _Later,
    numbers: dict[str, dict[str, Any]],
    notes: list[str],
) -> dict[str, Any]:
    """Returns distances of features, and adds their days to the numbers."""
    reference, times, scaled = model.reference, later.times, later.scaled
    if reference is None or reference.drift is None:
        notes.append("distances of features: not known, the run kept none of its own")
        return {}
    names, drift = model.feature_names, reference.drift
    quantiles = reference.scaled_quantiles(model.scaler)
    days, means = daily_drift(scaled, times, quantiles, drift.unit_days)
    if len(means):
        numbers[_DRIFT] = {
            "words": "mean log distance of the features",
            "sides": 1,
            "past": drift.daily,
            "days": days,
            "means": means,
        }
    span = (times[-1] - times[0]) / np.timedelta64(1, "D") + 1
    fitting = [length for length in drift.blocks if length <= span]
    if not fitting:
        notes.append(
            f"distances of features: not known of {span:.1f} days, the training part "
            f"has blocks of {', '.join(map(str, drift.blocks)) or 'no'} days"
        )
        return {}
    length = max(fitting)
    recent = times > times[-1] - np.timedelta64(length, "D")
    found = stability_index(scaled[recent], quantiles)
    p_values = adjust_p_values(drift.p_values(found, length).tolist())
    usual = np.quantile(drift.blocks[length], 0.95, axis=0)
    return {
        "days": length,
        "features": {
            name: {"distance": distance, "usual": limit, "p_value": p_value}
            for name, distance, limit, p_value in zip(
                names, found, usual, p_values, strict=True
            )
        },
    }


def _leveled(
    numbers: Mapping[str, Mapping[str, Any]], unit: int, notes: list[str]
) -> dict[str, dict[str, Any]]:
    """Returns the numbers with the level of their last day."""
    found = {}
    for name, each in numbers.items():
        levels = learn_levels(
            each["past"],
            sides=each["sides"],
            share=1 / len(numbers),
            unit_days=unit,
        )
        if levels is None:
            notes.append(
                f"{each['words']}: not watched, {len(each['past'])} days of the report "
                "show nothing of what is usual"
            )
            continue
        found[name] = _level_of(each, levels)
    return found


def _level_of(each: Mapping[str, Any], levels: Levels) -> dict[str, Any]:
    sums = levels.sums(each["means"])
    rank = (sums > levels.warning).astype(int) + (sums > levels.alarm)
    changed = np.flatnonzero(np.diff(rank, prepend=-1))
    days = each["days"].astype(str).tolist()
    is_known = len(days) > 0
    return {
        "words": each["words"],
        "level": RANK[int(rank[-1])] if is_known else "ok",
        "since": days[int(changed[-1])] if is_known else None,
        "sum": float(sums[-1]) if is_known else 0.0,
        "warning": levels.warning,
        "alarm": levels.alarm,
        "usual": levels.center,
        "spread": levels.spread,
        "now": float(each["means"].mean()) if is_known else None,
        "days": days,
        "means": each["means"].tolist(),
        "sums": sums.tolist(),
    }


def _about(
    model: Predictor, later: _Later, table: pd.DataFrame, usual: pd.DataFrame
) -> dict[str, Any]:
    """Returns what the rows are, and how they were answered."""
    times, limit = later.times, model.scaler.clip_limit
    bar = np.timedelta64(model.config.bar_seconds, "s")
    expected = int((times[-1] - times[0]) / bar) + 1
    until = model.trained_until.tz_localize(None)
    return {
        "pair": model.pair,
        "timeframe": model.timeframe,
        "first": f"{times[0].astype('datetime64[s]')}Z",
        "last": f"{times[-1].astype('datetime64[s]')}Z",
        "rows": len(times),
        "judged_rows": len(table),
        "missing_share": 1 - len(times) / expected,
        "clip_share": float((np.abs(later.scaled) >= limit).mean()),
        "age_days": float((pd.Timestamp(times[-1]) - until) / pd.Timedelta(1, "D")),
        "signals": _mix(table, "signal"),
        "signals_usual": _mix(usual, "signal"),
        "labels": _mix(table, "label"),
        "labels_usual": _mix(usual, "label"),
    }


def _mix(table: pd.DataFrame, column: str) -> list[float] | None:
    """Returns the shares of SHORT, HOLD and LONG (3,)."""
    if column not in table:
        return None
    counts = np.bincount(table[column].to_numpy(), minlength=3)
    return [float(count) for count in counts / max(1, counts.sum())]


def _times(table: pd.DataFrame) -> np.ndarray:
    times: np.ndarray = table["timestamp"].dt.tz_localize(None).to_numpy()
    return times
