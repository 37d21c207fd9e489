"""Finished models on later data: the report of one part, with everything frozen.

In: judging rows as the model's run judged its test part, several models on the same
rows. Out: which rows (`candidates`), the folder (`artifacts.evaluations`), scores
(`evaluation`), pages (`reports`).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from artifacts import evaluations, metadata, run_folder
from artifacts.evaluations import Evaluation, RowCounts
from artifacts.grades import grade_of
from artifacts.registry import Registry
from candles.sources import CandleSource
from config import AGENTS
from data_loader import TrainingData
from evaluation.baselines import keeping_forecasts
from evaluation.evaluate import evaluate, predictions_table, task_of
from evaluation.numbers import target_over_time
from evaluation.outlook import held, is_confirmed
from evaluation.part_scores import Judged
from evaluation.results import HEADLINES, Results, Trials
from evaluation.trials import count_trials, planned_trials
from evaluation.verdict import heed_audit, withdraw_claims
from experiments import comparison as compare
from experiments.candidates import (
    IN_SAMPLE,
    Candidate,
    common_times,
    not_later,
    open_candidate,
    refuse_overlap,
    require_one_question,
)
from experiments.finished import FinishedRun, by_name
from experiments.series import new_folder
from files import tables
from files.atomic import sha256_file
from files.strict import to_jsonable, write_json
from metrics.intervals import Length
from positions import claims
from positions.report import report_later
from predictor import Predictor
from preprocessing.later_rows import later_data
from reports import comparison as comparison_report
from reports import report
from utils import ConfigError

logger = logging.getLogger(__name__)

_LATENCY_CALLS = 50
COSTS = ("fee_bps", "slippage_bps", "funding_bps_per_day")
OWN_FIELDS = (
    *COSTS,
    *("baseline_model", "report", "outputs_dir", "timezone", "verbose_logging"),
)
"""Fields of `Config` that an evaluation takes from the command line; the others are
those of the model's run."""


def evaluate_models(
    models: Sequence[str | os.PathLike[str]],
    source: CandleSource,
    *,
    start: str | None = None,
    end: str | None = None,
    allow_overlap: bool = False,
    feature_file: str | None = None,
    **fields: Any,
) -> list[Path]:
    """Judges finished models on the same rows; returns their published evaluations.

    Several models are compared, too: `comparison.json`, `.csv` and `.png` in
    `{outputs_dir}/comparisons/{PAIR}/`.

    Args:
        models: Published artifacts, or names of registered ones.
        source: Candles as `DatasetBuilder.build_dataset` takes them, or the path of a
            training file. Bars before `start` serve as look-back.
        start: First moment whose bar is judged, such as 2024-07-27 or 2024-07-27T05:59,
            UTC; None begins with the first row.
        end: Last such moment; a day counts whole.
        allow_overlap: Judge rows that share bars with training or validation, too:
            `IN SAMPLE`, and nothing is claimed.
        feature_file: Python file that registers feature sets of one's own.
        **fields: Fields of `Config` out of `OWN_FIELDS`; the others are those of the
            models' runs.

    Raises:
        DataError: If the data are not what a model reads, or rows overlap.
        MissingInputError: If there is no model, or no such file.
        RefusedArtifactError: If a model was changed since it was published.
        ConfigError: If several models do not answer the same question.
    """
    if not models:
        raise ConfigError("expected at least one model. Received: none.")
    opened = [Predictor(each, feature_file=feature_file) for each in models]
    if len(opened) > 1 and any(each.family in AGENTS for each in opened):
        raise ConfigError(
            "expected one agent alone, or models that forecast: positions are not "
            f"compared. Received: {', '.join(map(str, models))}"
        )
    require_one_question([(each.model_id, each.config) for each in opened])
    found = [open_candidate(each, source, fields) for each in opened]
    times = common_times(found, start, end)
    is_seen = refuse_overlap(found, times, allow_overlap=allow_overlap)
    prefix = f"{IN_SAMPLE} " if is_seen else ""
    with ExitStack() as series:
        if len(found) > 1:
            series.enter_context(keeping_forecasts())
            series.enter_context(planned_trials([each.config for each in opened]))
        finished = [_judge(each, times, prefix) for each in found]
    if len(found) > 1:
        _compare(found, finished, prefix)
    return [each.folder for each in finished]


# Judging


def _judge(each: Candidate, times: np.ndarray, prefix: str) -> FinishedRun:
    """Judges one model on the rows of the given times, publishes and prints that."""
    predictor, config = each.predictor, each.config
    at = np.searchsorted(each.rows.timestamps, times).astype(np.int32)
    data = later_data(each.rows, each.learned, config, at)
    counts = each.count(times)
    judge = _judge_positions if config.model in AGENTS else _judge_forecasts
    table, model, results = judge(each, data, counts)
    about = _about(each, data, results, counts)
    about["results"] = {
        key: results[key] for key in ("verdict", "claims", "warnings", "promised")
    } | {"test": {k: results["test"][k] for k in HEADLINES if k in results["test"]}}
    _tell(report.format_evaluation(results, about), prefix)

    def write(folder: Path) -> None:
        tables.write_parquet(folder / about["files"]["predictions"], table)
        report.write_evaluation(
            folder, data, results, model=model, config=config, about=about
        )
        write_json(folder / evaluations.ABOUT, about)

    parent = evaluations.folder_of(config.outputs_dir, predictor.model_id)
    folder = evaluations.publish(parent, write)
    _tell(f"evaluation: {folder}", prefix)
    registry = Registry(config.outputs_dir)
    for entry in registry.entries(skips_broken=True):
        if entry.run_id == predictor.model_id:
            again = registry.regrade(entry.model_id)
            grade = f"{again.performance_grade}, {again.grade_reason}"
            _tell(f"{entry.model_id}: grade {grade}", prefix)
    said = predictor.metadata
    return FinishedRun(
        folder=folder,
        config=predictor.config,
        metadata={**said, "files": about["files"]},
        results=results,
        model_bytes=(predictor.path / said["files"]["model"]).stat().st_size,
    )


def _tell(text: str, prefix: str) -> None:
    logger.info("%s", "\n".join(f"{prefix}{line}" for line in text.splitlines()))


def _judge_forecasts(
    each: Candidate, data: TrainingData, counts: RowCounts
) -> tuple[pd.DataFrame, Judged | None, Any]:
    """Returns what a model said of the rows, and its results."""
    predictor, task = each.predictor, task_of(data.target)
    said = predictor.adapter.predict_rows(data, data.parts["test"].targets)
    model = Judged(
        table=predictor.policy.add_signals(
            predictions_table(data, {"test": said}, quantiles=each.config.quantiles)
        ),
        policy=predictor.policy,
        choice={
            key: each.results[key]
            for key in ("calibration", "thresholds")
            if key in each.results
        },
    )
    trials = _looks_at(each, data)
    results: Any = evaluate(model, data, each.config, trials=trials)
    if "target_over_time" in results:  # no stretch between training and these rows
        own_part = {"test": data.parts["test"]}
        results["target_over_time"] = target_over_time(data, own_part)
    withdraw = partial(withdraw_claims, results, task)
    _restrict(each, results, counts, partial(heed_audit, results, task), withdraw)
    results["promised"] = held(
        each.results.get("outlook", {}),
        results,
        task,
        has_own_costs=_has_own_costs(each),
    )
    return model.table, model, _told(each, results, counts)


def _judge_positions(
    each: Candidate, data: TrainingData, counts: RowCounts
) -> tuple[pd.DataFrame, Judged | None, Any]:
    """Returns what an agent held in the rows, and its results."""
    promised = each.results.get("outlook", {}) if _has_own_costs(each) else {}
    trials = _looks_at(each, data)
    agent: Any = each.predictor.adapter
    table, results = report_later(
        agent, data, each.config, trials=trials, promised=promised
    )
    withdraw = partial(claims.withdraw, results)
    _restrict(each, results, counts, partial(claims.heed_audit, results), withdraw)
    return table, None, _told(each, results, counts)


def _looks_at(each: Candidate, data: TrainingData) -> Trials:
    return count_trials(
        data,
        each.predictor.config.replace(outputs_dir=each.config.outputs_dir),
        file_digest=each.predictor.metadata["data"].get("sha256"),
    )


def _has_own_costs(each: Candidate) -> bool:
    own = each.predictor.config
    return all(getattr(own, name) == getattr(each.config, name) for name in COSTS)


def _restrict(
    each: Candidate,
    results: Any,
    counts: RowCounts,
    heed: Callable[[], None],
    withdraw: Callable[[str], None],
) -> None:
    """Claims nothing of a model whose data leak, or of rows that it has seen."""
    if (each.results.get("audit") or {}).get("leaks"):  # no stretch is later for it
        results["audit"] = each.results["audit"]
        heed()
    if counts["in_sample"]:
        withdraw(
            f"In sample: nothing is claimed, {counts['in_sample']:,} of "
            f"{counts['evaluated']:,} rows share bars with what the model was trained "
            "or chosen on"
        )


def _told(each: Candidate, results: Any, counts: RowCounts) -> Any:
    """Returns the results with what a reader has to know of the rows, for JSON."""
    days = results["test"]["length"]["days"]
    tested = each.results.get("test", {}).get("length", {}).get("days", 0.0)
    if results["promised"] and days < tested:
        results["warnings"].append(
            f"{days:.1f} days are fewer than the {tested:.1f} of the model's test, for "
            "which its ranges are: these rows may leave them by luck alone"
        )
    results["warnings"] = [*not_later(counts), *results["warnings"]]
    return to_jsonable(results)


def _about(
    each: Candidate, data: TrainingData, results: Results[Any], counts: RowCounts
) -> Evaluation:
    """Returns what `evaluation.json` says, but for the headlines."""
    predictor, config = each.predictor, each.config
    said = predictor.metadata
    length = Length(**results["test"]["length"])
    is_shown = evaluations.is_later(counts) and not length.is_too_short
    is_shown &= not results.get("audit") and is_confirmed(results["promised"])
    described = metadata.describe_data(data)
    del described["num_trained_targets"]  # none here
    evaluated = metadata.describe_part(data, data.parts["test"])
    return Evaluation(
        format=evaluations.FORMAT,
        model_id=predictor.model_id,
        created_at=datetime.now(UTC).isoformat(),
        lineage={
            "artifact": str(predictor.path),
            "manifest_sha256": sha256_file(predictor.path / run_folder.MANIFEST),
            "training_file_sha256": said["data"].get("sha256"),
        },
        config=predictor.config.to_dict(),
        costs={name: getattr(config, name) for name in COSTS},
        data=to_jsonable(described),
        split=to_jsonable({**said["split"], "evaluated": evaluated}),
        rows=counts,
        days=length.days,
        in_sample=counts["in_sample"] > 0,
        is_confirmed=is_shown,
        results={},
        files={"predictions": f"predictions_{config.tag}.parquet"},
    )


# Several models


def _compare(
    found: Sequence[Candidate], finished: Sequence[FinishedRun], prefix: str
) -> None:
    """Writes and prints the comparison of models that were judged on the same rows."""
    named = by_name(finished, [each.predictor.model_id for each in found])
    compared = compare.compare_finished(named)
    compared["in_sample"] = bool(prefix)
    candidate_of = dict(zip(named, found, strict=True))
    for entry in compared["models"]:
        each = candidate_of[entry["model"]]
        graded = grade_of(
            each.results,
            evaluations=evaluations.read_evaluations(
                each.config.outputs_dir, each.predictor.model_id
            ),
        )
        entry["grade"] = str(graded.grade)
        entry["latency_ms"] = _latency_ms(each.predictor)
    config = found[0].config
    folder = new_folder(config, "comparisons")
    comparison_report.write_comparison(folder, compared)
    _tell("\n" + comparison_report.format_comparison(compared), prefix)
    _tell(f"comparison: {folder}", prefix)


def _latency_ms(predictor: Predictor) -> float:
    """Returns the median milliseconds of an answer to one window of features."""
    window = np.zeros((predictor.window_bars, predictor.num_features), np.float32)
    seconds = []
    for _ in range(_LATENCY_CALLS):
        started = time.perf_counter()
        predictor.predict_window(window)
        seconds.append(time.perf_counter() - started)
    return 1e3 * float(np.median(seconds))
