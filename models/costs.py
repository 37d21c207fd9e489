"""What a training will take, told before it starts: steps, memory, a rough time.

In: the training file of a run, read and checked as the run does it, and how fast the
last run of the family was. Out: the formulas of memory (`settings.sizes`), words
(`settings.dry_run`). Trains nothing and imports no library of a model.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import utils
from artifacts.metadata import format_data
from config import Config, build_config
from data_loader import TrainingData, TrainingDataLoader
from dataset.barriers import barrier_notes, usual_move_pct
from dataset.columns import shape_of
from dataset.lengths import too_short_note
from dataset.training_file import open_training_file
from files.atomic import require_creatable
from files.strict import read_json
from metrics.intervals import Length
from models.families import create_adapter
from preprocessing.parts import Ranges, spans_of
from preprocessing.stretches import cut_stretches, next_bar_returns, whole_stretches
from settings.dry_run import Plan
from settings.loss_fields import BOTH
from settings.names import find_training_file
from settings.network_fields import KERAS_MODELS, NETWORKS
from settings.sizes import count_parameters, estimate_memory, memory_problem
from settings.stage_fields import AGENT_CHECKPOINTS, AGENTS, STACK

logger = logging.getLogger(__name__)

_STATED_WINDOWS_PER_SECOND = 650
"""Of the default network with 8 features on two cores, the slower of the machines in
docs/speed.md."""
_FETCHED = 130
"""Work of a number of a window that `mlp` reads, in that of a parameter and bar: the
network of that rate takes 1.76 CPU ms a window, `mlp` of default sizes 0.017."""
_STATED_TARGETS_PER_SECOND = 200_000 / 7
"""Targets of the default gradient boosting; see `utils.one_thread`."""
_STATED_BARS_PER_SECOND = {"ppo": 30_000.0, "sac": 6_000.0, "td3": 8_000.0}
"""Bars that a default agent acts on and learns from; measured 33,000, 6,400 and 8,500 a
CPU second, 2026-11-29."""


def plan_run(config: Config) -> Plan:
    """Reads the training file of a run, and says what training on it will take.

    Raises:
        MissingInputError: If there is no training file.
        DataError: If the run would refuse it, or its folds.
        StorageError: If nothing can be written below `outputs_dir`.
        ConfigError: If more memory is needed than is free.
    """
    for folder in (config.runs_dir, config.model_dir):
        require_creatable(folder, has_runs=True)
    adapter = create_adapter(config)
    # A scale refuses nothing, and learning one imports scikit-learn.
    loader = TrainingDataLoader(
        config=config, inherited=adapter.inherited, scaler_type="none"
    )
    data, folds, _ = loader.load_with_folds()
    logger.info("%s", format_data(data, config))
    tested = np.unique(data.timeline.at(data.parts["test"].targets))
    length = Length.of(
        len(tested), horizon_bars=data.future_window, bar_seconds=config.bar_seconds
    )
    close = data.outcomes.get("close")
    move = None if close is None else usual_move_pct(close, data.future_window)
    notes = barrier_notes(config, move)
    if length.is_too_short:
        notes.append(too_short_note(length))
    windows, steps = _epoch_of(data, config)
    speed, source = speed_of(config)
    work = _work(adapter.sized, windows, data.num_features)
    if problem := memory_problem(adapter.sized, data.num_features):
        raise utils.ConfigError(problem)
    return Plan(
        part_rows={name: part.num_rows for name, part in data.parts.items()},
        num_features=data.num_features,
        first=f"{data.first_time(data.parts['train'])}"[:16],
        last=f"{data.timestamps.max()}"[:16],
        test_days=length.days,
        test_horizons=length.horizons,
        num_folds=len(folds),
        windows=windows,
        steps=steps,
        memory=estimate_memory(adapter.sized, data.num_features, data.num_rows),
        free_bytes=utils.available_memory_bytes(),
        seconds=None if speed is None else work / speed,
        fold_share=_fold_share(folds, data),
        source=source,
        notes=tuple(notes),
    )


def _epoch_of(data: TrainingData, config: Config) -> tuple[int, int]:
    """Returns the windows and the steps of an epoch; of others, all work and none.

    A stack learns on validation.
    """
    if config.model == STACK:
        return len(data.parts["validation"].targets), 0
    if config.model in AGENTS:
        judged = AGENT_CHECKPOINTS * len(data.parts["validation"].targets)
        return config.agent_seeds * (config.agent_steps + judged), 0
    if config.model not in KERAS_MODELS:
        most = config.max_tabular_targets or len(data.train_targets)
        return min(most, len(data.train_targets)), 0
    traits, size = config.loss_traits, config.batch_size
    reads_returns = traits.y_true in ("return", BOTH)
    returns = next_bar_returns(data) if reads_returns else None
    if traits.is_sequential:
        monitored = data.parts["validation"].targets
        cut_stretches("validation", monitored, size, returns=returns)
        stretches = cut_stretches("train", data.train_targets, size, returns=returns)
        return whole_stretches(stretches, config.windows_per_epoch)
    windows = config.windows_per_epoch or len(data.train_targets)
    return windows, -(-windows // size)


def _fold_share(folds: list[Ranges], data: TrainingData) -> float:
    """Returns the rows that all folds train on, in those that the run trains on."""
    spans = [span for fold in folds for span in spans_of(fold["train"])]
    own = data.parts["train"].spans
    return sum(b - a for a, b in spans) / sum(b - a for a, b in own)


def _work(config: Config, windows: int, num_features: int) -> float:
    """Returns the work of an epoch: a window costs its bars times the parameters.

    Validation included; of other families than networks it is the targets. A network
    of trained ones, whose sizes are not its own, is taken for the default one.
    """
    if config.model not in KERAS_MODELS:
        return float(windows)
    known = config if config.model in NETWORKS else Config()
    parameters = count_parameters(known, num_features)
    return float(windows * _window_work(config, parameters, num_features))


def _window_work(config: Config, parameters: int, num_features: int) -> int:
    """Returns the work of one window; `mlp` reads it once, and mostly fetches it."""
    if config.model == "mlp":
        return parameters + _FETCHED * config.sequence_length * num_features
    return config.sequence_length * parameters


def speed_of(config: Config) -> tuple[float | None, str]:
    """Returns the work that a family does in a second, and how known; see `_work`."""
    name, last = _last_training(config)
    if last is not None:
        return last["work"] / last["seconds"], f"as fast as {name}"
    if config.model in KERAS_MODELS:
        stated = _work(Config(), _STATED_WINDOWS_PER_SECOND, 8)
        source = f"{_STATED_WINDOWS_PER_SECOND} windows/s of the default network"
        return stated, source
    if config.model in AGENTS:
        rate = _STATED_BARS_PER_SECOND[config.model]
        return rate, f"{rate:,.0f} bars/s"
    if config.model == "gradient_boosting":
        rate = _STATED_TARGETS_PER_SECOND
        return rate, f"{rate:,.0f} targets/s"
    return None, "no run of this family in the outputs folder yet"


def longest_first(runs: Sequence[tuple[Config, int, int]]) -> list[int]:
    """Returns the places of runs, about the longest first, so that none is left over.

    Every epoch counts, and every fold as half a run; a family of unknown speed is as
    fast as gradient boosting.

    Args:
        runs: Each with the rows and the features of its training file.
    """
    speeds: dict[str, float | None] = {}

    def seconds(place: int) -> float:
        config, num_rows, num_features = runs[place]
        if config.model not in speeds:
            speeds[config.model] = speed_of(config)[0]
        windows = round(num_rows * (1 - config.validation_split - config.test_split))
        times = 1 + (config.n_splits or 0) / 2
        if config.model in KERAS_MODELS:
            windows, times = config.windows_per_epoch or windows, times * config.epochs
        else:
            windows = min(windows, config.max_tabular_targets or windows)
        work = _work(config, windows, num_features)
        return times * work / (speeds[config.model] or _STATED_TARGETS_PER_SECOND)

    return sorted(range(len(runs)), key=seconds, reverse=True)


def rough_memory(config: Config, num_rows: int, num_features: int) -> int:
    """Returns about what a run takes above the imports, in bytes; see `settings.sizes`.

    Of trees that is the array of all rows, and three that are made of it.
    """
    parts = estimate_memory(config, num_features, num_rows)
    return parts.get("total", 4 * parts["feature_array"])


def run_memory(config: Config) -> int:
    """Returns `rough_memory` of a run on its training file.

    Where there is no good one it is 0: the run itself will say what is wrong.
    """
    path = find_training_file(config)
    with contextlib.suppress(*_UNREADABLE):
        if path is not None:
            return rough_memory(config, *shape_of(open_training_file(path)))
    return 0


_UNREADABLE = (
    *(utils.UserError, OSError, LookupError),
    *(TypeError, ValueError, ArithmeticError, AttributeError),
)
"""What metadata of another origin may end in; then nothing is known."""


def _last_training(config: Config) -> tuple[str, dict[str, float] | None]:
    """Returns the newest run of this family in the outputs: its name, work, seconds.

    Resumed ones do not say how long all of their training took.
    """
    models = Path(config.outputs_dir, "models")
    found = models.glob(f"*/{config.model}/*/metadata_*.json")
    for path in sorted(found, key=lambda path: path.parent.name, reverse=True)[:5]:
        if path.parent.is_symlink():
            continue
        with contextlib.suppress(*_UNREADABLE):
            if work := _work_of(read_json(path)):
                return path.parent.name, work
    return "", None


def _work_of(metadata: Mapping[str, Any]) -> dict[str, float] | None:
    training, data = metadata["training"], metadata["data"]
    seconds = float(training["seconds"])
    if "windows_per_epoch" in training:
        config = build_config(metadata["config"])
        windows = training["windows_per_epoch"] * training["completed_epochs"]
        if config.model in NETWORKS:
            parameters = count_parameters(config, data["num_features"])
        else:
            parameters = metadata["model"]["total_parameters"]
        work = float(windows * _window_work(config, parameters, data["num_features"]))
    else:
        work = float(training.get("num_bars") or training["num_fitted_targets"])
    is_known = seconds > 0 and work > 0 and not training["resumes"]
    return {"work": work, "seconds": seconds} if is_known else None
