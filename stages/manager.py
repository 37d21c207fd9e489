"""`UnifiedTrainingManager`: stages under the names that system 001 promised.

In: its settings, its ids, what is going on. Out: training a stage (`words`).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import utils
from artifacts.registry import Registry
from stages import words

RUNNING, COMPLETED, FAILED = "running", "completed", "failed"

_SETTINGS: dict[str, Any] = {
    "epochs": 100,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "device": "auto",
    "distributed": False,
    "optimize_hyperparams": False,
    "n_trials": 50,
    "resume_from": None,
    "base_model_path": None,
}
_OURS = ("distributed", "optimize_hyperparams", "n_trials", "resume_from")
"""Those that are no fields of a run."""


class TrainingConfig:
    """What is trained, on what, and where it goes.

    Args:
        model_type: A kind of `words.KINDS`; `cnn_lstm` is `cnn-lstm`.
        data_path: A candle file or a training file.
        output_dir: Folder of the outputs, and of the registry.
        **settings: `epochs` (100), `batch_size` (32), `learning_rate` (0.001), `device`
            (auto, cpu; gpu or cuda), `distributed` (False), `optimize_hyperparams`
            (False) with `n_trials` (50), `resume_from` (a run's folder, or `newest`),
            `base_model_path` (a folder, or the id of a registered model); any field of
            `Config`, such as `rl_model`, `members`, `sequence_length`.

    Attributes:
        training_id: `{model_type}_{time}_{8 hexadecimal digits}`, UTC.
        fields: Fields of `Config`.

    Raises:
        ConfigError: If the kind is unknown, or something is asked for that there is
            not: several machines for one run, features without a source.
    """

    def __init__(
        self,
        model_type: str,
        data_path: str | os.PathLike[str],
        output_dir: str | os.PathLike[str] = "outputs",
        **settings: Any,
    ) -> None:
        words.family_of(model_type)
        words.refuse_without_source([*settings])
        values = _SETTINGS | settings
        if values["distributed"]:
            raise utils.ConfigError(
                "distributed: expected False, since one run is trained on one machine. "
                "Received: True. Many runs on many machines: python -m experiments "
                "sweep --executor ray"
            )
        self.model_type = model_type
        self.data_path, self.output_dir = Path(data_path), Path(output_dir)
        self.optimize_hyperparams = bool(values["optimize_hyperparams"])
        self.n_trials: int = values["n_trials"]
        self.resume_from: str | None = values["resume_from"]
        device = "gpu" if values["device"] == "cuda" else values["device"]
        renamed = {"outputs_dir": str(output_dir), "device": device}
        if (base := values.pop("base_model_path")) is not None:
            renamed["base_model"] = str(base)
        self.fields = {k: v for k, v in values.items() if k not in _OURS} | renamed
        now = f"{datetime.now(UTC):%Y%m%d_%H%M%S}"
        self.training_id = f"{model_type}_{now}_{secrets.token_hex(4)}"


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How a training ended, or that it goes on.

    Attributes:
        training_id: Of its configuration.
        model_type: What is trained.
        status: running, completed or failed.
        model_id: In the registry; `model_path` is its folder.
        model_path: Its folder.
        metrics: Numbers of the test part, by name.
        error: Why it failed; `exit_code` as a command line would end.
        exit_code: 0 where it did not.
        training_time: Seconds.
    """

    training_id: str
    model_type: str
    status: str = RUNNING
    model_id: str | None = None
    model_path: Path | None = None
    metrics: Mapping[str, float | None] | None = None
    error: str | None = None
    exit_code: int = 0
    training_time: float = 0.0

    @property
    def success(self) -> bool:
        """Whether there is a model."""
        return self.status == COMPLETED


class UnifiedTrainingManager:
    """Trains stages, and knows how each ended.

    Example:
        >>> manager = UnifiedTrainingManager()
        >>> config = TrainingConfig("cnn_lstm", "data/ETHUSDT-1h.parquet", epochs=5)
        >>> result = manager.train_model(config)
        >>> manager.get_training_status(config.training_id).status
        'completed'
    """

    def __init__(self) -> None:
        self._results: dict[str, TrainingResult] = {}

    def train_model(self, config: TrainingConfig) -> TrainingResult:
        """Trains and registers a model; a user's error is a result.

        Raises:
            Interrupted: On SIGINT or SIGTERM.
        """
        begun = TrainingResult(
            training_id=config.training_id, model_type=config.model_type
        )
        self._results[config.training_id] = begun
        started, ended = time.perf_counter(), dict[str, Any](status=FAILED)
        try:
            entry = words.train_stage(
                config.model_type,
                [str(config.data_path)],
                config.fields,
                num_trials=config.n_trials if config.optimize_hyperparams else None,
                resume=config.resume_from,
            )
            ended = {
                "status": COMPLETED,
                "model_id": entry.model_id,
                "model_path": Registry(config.output_dir).folder_of(entry),
                "metrics": entry.metrics,
            }
        except utils.UserError as error:
            ended |= {"error": str(error), "exit_code": error.exit_code}
        finally:  # whatever stops it, it does not go on
            took = time.perf_counter() - started
            result = replace(begun, **ended, training_time=took)
            self._results[config.training_id] = result
        return result

    def get_training_status(self, training_id: str) -> TrainingResult:
        """Returns how a training of this manager is.

        Raises:
            MissingInputError: If it has none of this id.
        """
        if training_id not in self._results:
            raise utils.MissingInputError(
                f"expected the id of a training that began here. Received: "
                f"{training_id!r:.100}.{utils.did_you_mean(training_id, self._results)}"
            )
        return self._results[training_id]

    def list_active_trainings(self) -> list[str]:
        """Returns the ids of the trainings that are going on."""
        return [name for name, x in self._results.items() if x.status == RUNNING]
