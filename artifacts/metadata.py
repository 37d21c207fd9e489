"""What is kept of a trained model: `metadata_{tag}.json`, and the files it names.

In: writing model, scaler and history; describing data, split, alignment, model, where
they come from. Out: where they lie (`run_folder`), code and machine (`provenance`), the
numbers of the report (`evaluation.evaluate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import utils
from artifacts import provenance, resuming
from artifacts.artifact import PAIRS
from config import CLASS_NAMES, Config
from data_loader import TrainingData
from files.atomic import atomic_write
from files.strict import write_json
from preprocessing.sample_weights import effective_targets
from preprocessing.training_data import Part

if TYPE_CHECKING:
    from artifacts.run_folder import RunFolder
    from models.adapter import ModelAdapter

ALIGNMENT = {
    "label_offset": 0,
    "window": "rows t - sequence_length + 1 .. t",
    "entry": "close of row t",
    "label": "bars t + 1 .. t + future_window",
    "class_names": list(CLASS_NAMES),
}
"""Which bars belong together; stored with every model."""

FORMAT = 1
"""Of the metadata: a reader of an older one takes what it knows."""

_FILES = dict.fromkeys(("scaler", "preprocessor", "calibrator"), ".json")
_FILES |= dict.fromkeys(("golden", "reference"), ".json")
_FILES |= {"predictions": ".parquet", "history": ".csv"}


def save_run(
    run: RunFolder, data: TrainingData, adapter: ModelAdapter
) -> dict[str, Any]:
    """Writes model, scaler, history and metadata; returns the metadata."""
    config = run.config
    adapter.save(run.file(adapter.file_kind, adapter.suffix))
    write_json(run.file("scaler", ".json"), data.scaler.to_dict())
    write_json(run.file("preprocessor", ".json"), data.pipeline.to_dict())
    if data.pairs:
        steps = {pair.name: pair.pipeline.to_dict() for pair in data.pairs}
        write_json(run.file(PAIRS, ".json"), steps)
    if config.save_scaler_pickle:
        content = data.scaler.export(
            pair=config.pair,
            future_window=config.future_window,
            stop_loss=config.long_sl_pct,
            take_profit=config.long_tp_pct,
        )
        atomic_write(run.file("scaler", ".pkl"), content)
    table = pd.DataFrame(adapter.training_history())
    table.insert(0, "epoch", range(1, len(table) + 1))
    atomic_write(run.file("history", ".csv"), table.to_csv(index=False))
    described = describe_run(run, data, adapter)
    write_json(run.file("metadata", ".json"), described)
    # The same weights are in the model file now.
    (run.path / "best_model_checkpoint.keras").unlink(missing_ok=True)
    return described


def identity_of(
    config: Config, data: TrainingData, adapter: ModelAdapter
) -> dict[str, Any]:
    """Returns what must be equal for an exact resume."""
    digests = {each.name: each.manifest_sha256 for each in adapter.parents}
    return {
        "configuration": resuming.run_identity(config),
        "data": data.digest(),
        "environment": adapter.environment(),
        **({"parents": digests} if digests else {}),
    }


def describe_run(
    run: RunFolder, data: TrainingData, adapter: ModelAdapter
) -> dict[str, Any]:
    """Returns every section but the results."""
    described, peak = adapter.describe(), utils.peak_resident_bytes()
    training, num_gpus = described["training"], described["runtime"].get("num_gpus", 0)
    training |= {"resumes": run.resumes(), "peak_memory_bytes": peak}
    training["recoveries"] = run.recoveries()
    training |= _by_spoken_names(training["final"])
    names = {"model": run.file(adapter.file_kind, adapter.suffix).name} | {
        kind: run.file(kind, suffix).name
        for kind, suffix in (adapter.files_beside | _FILES).items()
    }
    if data.pairs:
        names[PAIRS] = run.file(PAIRS, ".json").name
    now, versions = datetime.now(UTC).isoformat(), provenance.describe_versions()
    digests = data.source.get("digests") or {}
    return {
        "format": FORMAT,
        "run_id": run.run_id,
        "created_at": now,
        "experiment_name": run.config.experiment_name,
        "tags": list(run.config.tags),
        "config": run.config.to_dict(),
        "data": describe_data(data),
        "features": describe_features(data, run.config),
        "split": describe_split(data),
        "alignment": ALIGNMENT,
        **described,
        "training_duration_seconds": training["seconds"],
        "metrics": training["best"],
        "versions": versions,
        "code": provenance.describe_code(),
        "hardware": provenance.describe_hardware(num_gpus=num_gpus),
        "system": {
            "timestamp": now,
            "python_version": versions["python"],
            "tensorflow_version": versions["tensorflow"],
            "gpu_available": num_gpus > 0,
        },
        "lineage": {
            "training_file_sha256": data.source.get("sha256"),
            "candles_digest": digests.get("candles"),
            "dependencies": [p.model_id for p in adapter.parents if p.model_id],
            "parents": [parent.to_dict() for parent in adapter.parents],
        },
        "files": names,
    }


def _by_spoken_names(final: Mapping[str, float]) -> dict[str, float | None]:
    """Returns loss and accuracy of the last round by the names of other trainers."""
    return {
        f"final_{part}_{metric}": final.get(prefix + metric)
        for part, prefix in (("training", ""), ("validation", "val_"))
        for metric in ("loss", "accuracy")
    }


def format_data(data: TrainingData, config: Config) -> str:
    """Returns where the rows came from, and each part's targets, as text."""
    lines = [f"data: {data.source['path'] or 'a DataFrame'}"]
    lines += [f"  doubtful: {doubt}" for doubt in data.source.get("doubts", ())]
    for name, part in data.parts.items():
        mix = _format_targets(data, part.targets)
        lines.append(f"  {name:<10} {len(part.targets):>9,} targets  {mix}")
    shared = data.shared_bars("train", "validation")
    shared += data.shared_bars("validation", "test")
    balancing = config.class_balancing.replace("_", " ")
    is_whole = len(data.train_targets) == len(data.parts["train"].targets)
    if is_whole and config.class_balancing == "systematic_undersampling":
        balancing = "all: no class was large enough to thin"
    lines.append(
        f"  trained on {len(data.train_targets):,} targets ({balancing}); "
        f"bars shared between parts: {shared}"
    )
    return "\n".join(lines)


def _format_targets(data: TrainingData, targets: np.ndarray) -> str:
    """Returns the class mix of target rows, or mean and deviation of their returns."""
    described = data.describe_targets(targets)
    if "log_return" in described:
        moments = described["log_return"]
        return (
            f"log return {moments['mean_bps']:+.2f} bps, deviation "
            f"{moments['std_bps']:.1f} bps"
        )
    shares = zip(CLASS_NAMES, described["label_shares"], strict=True)
    return ", ".join(f"{name} {share:.1%}" for name, share in shares)


def describe_data(data: TrainingData) -> dict[str, Any]:
    """Returns where the rows came from, the features, the class mix of training.

    Of a number instead of classes: its unit, and the scale that training learned.
    """
    learned: dict[str, Any]
    if data.target_scaler is None:
        learned = {
            "train_prior": data.class_prior,
            "class_odds": data.class_odds,
            "class_weights": data.class_weights,
        }
    else:
        learned = {
            "target_unit": "log return over the horizon",
            "target_scaler": data.target_scaler.to_dict(),
        }
    if data.row_weights is not None:
        weights = data.row_weights[data.train_targets]
        learned["effective_targets"] = effective_targets(weights)
    return {
        **data.source,
        **({"pooled_targets": _targets_of_pairs(data)} if data.pairs else {}),
        "target": data.target,
        "feature_names": data.feature_names,
        "num_features": data.num_features,
        **learned,
        "num_trained_targets": len(data.train_targets),
    }


def _targets_of_pairs(data: TrainingData) -> dict[str, dict[str, int]]:
    """Returns how many targets of each part each pooled pair has."""
    return {
        pair: {name: len(part.targets) for name, part in own.parts.items()}
        for pair, _, own in data.each_pair()
    }


def describe_features(data: TrainingData, config: Config) -> dict[str, Any]:
    """Returns how the features are made of candles.

    None each of a DataFrame and of a file made elsewhere, which do not say.
    """
    stated = data.source if data.source.get("built_by_us") else None
    return {
        "sets": stated and list(config.feature_sets),
        "raw_prices": stated and config.raw_prices,
        "higher_timeframes": stated and list(config.higher_timeframes),
        "warm_up_bars": stated and stated.get("warm_up_bars"),
        "source_digests": stated and stated.get("feature_digests"),
    }


def describe_split(data: TrainingData) -> dict[str, Any]:
    """Returns what `describe_part` says of each part."""
    return {name: describe_part(data, part) for name, part in data.parts.items()}


def describe_part(data: TrainingData, part: Part) -> dict[str, Any]:
    """Returns rows, targets, times and class shares of a part."""
    times = data.timeline.at(part.targets)  # of pooled pairs one after another
    return {
        "first_row": part.start,
        "rows": part.num_rows,
        "targets": len(part.targets),
        "first": f"{times.min()}Z",
        "last": f"{times.max()}Z",
        **data.describe_targets(part.targets),
    }
