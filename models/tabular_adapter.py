"""Families that read a window as one row of a table: `TabularAdapter`.

In: windows as rows of numbers, fitting, the best round on validation, probabilities at
the natural class mix, resuming. Out: statistics (`preprocessing.windows`), each library
(`sklearn_adapter`, `lightgbm_adapter`).
"""

from __future__ import annotations

import abc
import hashlib
import logging
import platform
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

import utils
from config import Config
from files.atomic import atomic_write
from files.strict import read_json, write_json
from metrics import scores as metrics
from models.adapter import ModelAdapter, read_sizes
from models.window_tables import CHUNK_ROWS, ClassMix, Table, WindowInputs
from preprocessing.windows import chunks, evenly_spaced, value_limits
from utils import RefusedArtifactError

if TYPE_CHECKING:
    import os

    from artifacts.run_folder import RunFolder
    from data_loader import TrainingData

logger = logging.getLogger(__name__)

MAX_CELLS = 40_000_000
"""Most numbers of a training table, 160 MB."""


class TabularAdapter(ModelAdapter):
    """A family that is fitted on a table, a row for each target's window.

    A class below it fits one library and says how its models are written.

    Attributes:
        model: The library's model, as it is opened from its file (`fit`).
    """

    package: ClassVar[str]
    """Name of the library's distribution."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model: Any = None
        self._inputs: WindowInputs
        self._mix: ClassMix | None = None
        self._train: Table | None = None
        self._monitored: Table
        self._names: tuple[str, ...] = ()
        self._content = b""
        self._seconds = 0.0
        self._run: RunFolder | None = None
        self._fitted: Mapping[str, Any] | None = None

    # What a library says

    @abc.abstractmethod
    def create_model(self, num_targets: int) -> Any:
        """Returns the library's model or its parameters, not yet fitted."""

    @abc.abstractmethod
    def fit_model(self, model: Any, table: Table) -> Any:
        """Returns the fitted model of all rounds."""

    @abc.abstractmethod
    def staged_outputs(self, model: Any, inputs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields what a fitted model says after each round; see `raw_outputs`."""

    @abc.abstractmethod
    def dump_model(self, model: Any, table: Table, num_rounds: int) -> bytes:
        """Returns the file of a fitted model that keeps its first rounds."""

    @abc.abstractmethod
    def open_model(self, content: bytes, where: object) -> Any:
        """Returns the model in the bytes of such a file."""

    @abc.abstractmethod
    def raw_outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Returns (num_rows, num_classes) probabilities, or (num_rows,) numbers."""

    @abc.abstractmethod
    def check_model(self, model: Any, num_inputs: int, num_classes: int | None) -> None:
        """Raises ValueError unless the model is of this family, with these sizes."""

    @abc.abstractmethod
    def input_importance(self) -> np.ndarray | None:
        """Returns the library's importance of each input (num_inputs,), or None."""

    @abc.abstractmethod
    def count_parameters(self) -> int:
        """Returns the numbers that were learned: leaves, or coefficients."""

    # The steps of a run

    def prepare(self, data: TrainingData) -> Table:
        """Makes the tables of training and monitoring, from evenly spaced targets."""
        part = data.parts["train"]
        self.num_features, self._names = data.num_features, data.feature_names
        self._inputs = WindowInputs(
            kind=self.config.tabular_inputs,
            window_bars=data.window_bars,
            limits=value_limits(data.features[part.start : part.stop]),
        )
        limit = max(1000, MAX_CELLS // self._inputs.count())
        most = min(self.config.max_tabular_targets or limit, limit)
        self._train = self._table(data, evenly_spaced(data.train_targets, most))
        rows = evenly_spaced(
            data.parts["validation"].targets, self.config.validation_windows
        )
        self._monitored = self._table(data, rows, is_training=False)
        if not data.is_regression:
            self._mix = ClassMix.of(data, self._train)
        return self._train

    def _table(
        self, data: TrainingData, rows: np.ndarray, *, is_training: bool = True
    ) -> Table:
        targets = data.supervision(rows)
        weights = data.class_weights if is_training else None
        return Table(
            inputs=self._inputs.of_rows(data.features, rows),
            targets=targets,
            weights=None if weights is None else weights[targets].astype(np.float64),
        )

    def build(self, data: TrainingData) -> Any:
        """Makes the model, not yet fitted."""
        train = self._train or self.prepare(data)
        self.model = self.create_model(len(train.targets))
        logger.info(
            "model: %s, fitted on %s of %s targets, %d inputs (%s)",
            self.config.model,
            f"{len(train.targets):,}",
            f"{len(data.train_targets):,}",
            train.inputs.shape[1],
            self.config.tabular_inputs.replace("_", " "),
        )
        return self.model

    def attach(self, run: RunFolder) -> list[Any]:
        """Takes a folder, with the model in it if one was fitted there to the end."""
        self._run, self._fitted = run, None
        note = run.checkpoints / FITTED
        if note.is_file():
            self._fitted = read_json(note)
        return []

    def fit(self, data: TrainingData) -> dict[str, list[float]]:
        """Fits all rounds, and keeps those of the best one on validation.

        A run that was interrupted fits again; one whose model is in the attached folder
        does not.
        """
        if self.model is None:
            self.build(data)
        started = time.perf_counter()
        if not self._take_fitted():
            self._fit()
            self._note_fitted()
        self._seconds = time.perf_counter() - started
        logger.info(
            "fitted in %.0f s, best of %s: %d",
            self._seconds,
            utils.counted(len(self._history["loss"]), "round", "rounds"),
            self.best_round,
        )
        return self._history

    def _fit(self) -> None:
        train = self.table
        with utils.one_thread():
            model = self.fit_model(self.model, train)
            self._history = self._learning_curves(model, train)
            self._content = self.dump_model(model, train, self.best_round)
        # What predicts from here on is what is published.
        self.model = self.open_model(self._content, self.config.model)

    def _learning_curves(self, model: Any, train: Table) -> dict[str, list[float]]:
        """Returns losses of each round: `loss` as training sees it, `val_loss` not."""
        count = self.config.validation_windows
        some = evenly_spaced(np.arange(len(train.targets)), count)
        weights = None if train.weights is None else train.weights[some]
        curves: dict[str, list[float]] = {}
        sampled = self.staged_outputs(model, train.inputs[some])
        monitored = self.staged_outputs(model, self._monitored.inputs)
        for before, after in zip(sampled, monitored, strict=True):
            if self._mix is not None:
                before, after = self._mix.training(before), self._mix.natural(after)
            scores = _scores(train.targets[some], before, weights) | {
                f"val_{name}": value
                for name, value in _scores(self._monitored.targets, after).items()
            }
            for name, value in scores.items():
                curves.setdefault(name, []).append(value)
        return curves

    def _take_fitted(self) -> bool:
        """Opens the model that an earlier process fitted in the folder, if it did."""
        if self._run is None or self._fitted is None:
            return False
        path = self._run.file("model", self.suffix)
        content = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(content).hexdigest()
        if digest != self._fitted.get("sha256"):
            return False
        self.model = self.open_model(content, path)
        self._content, self._history = content, dict(self._fitted["history"])
        return True

    def _note_fitted(self) -> None:
        """Writes the model, then that it is whole: else a resume fits again."""
        if self._run is None:
            return
        self.save(self._run.file("model", self.suffix))
        write_json(
            self._run.checkpoints / FITTED,
            {"sha256": self._digest(), "history": self._history},
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model, whole or not at all."""
        if not self._content:
            raise ValueError("expected a fitted model. Received: none. Call fit().")
        atomic_write(Path(path), self._content)

    def _digest(self) -> str:
        return hashlib.sha256(self._content).hexdigest()

    @classmethod
    def load(cls, model: Any, description: Mapping[str, Any], where: object) -> Self:
        """Takes a model whose inputs and classes are those of its description."""
        try:
            window_bars, num_features = read_sizes(description, where)
            config = Config(
                model=description["family"],
                target=description["target"],
                sequence_length=window_bars,
                tabular_inputs=description["tabular_inputs"],
            )
            adapter = cls(config)
            adapter._read(description, num_features)
            mix, count = adapter._mix, adapter._inputs.count()
            adapter.check_model(model, count, None if mix is None else len(mix.classes))
            adapter.model = model
            adapter.predict_windows(
                np.zeros((2, window_bars, num_features), np.float32)
            )
        except RefusedArtifactError:
            raise
        except Exception as error:  # anything can be missing in a hostile description
            raise RefusedArtifactError(
                f"{where}: expected a model that fits its description. "
                f"Received: {error!s:.300}"
            ) from error
        return adapter

    def _read(self, description: Mapping[str, Any], num_features: int) -> None:
        """Takes what `describe` wrote.

        Raises:
            ValueError: If it does not fit together.
        """
        limits = np.array(description["input_limits"], np.float64)
        names = tuple(map(str, description["feature_names"]))
        if limits.shape != (num_features,) or len(names) != num_features:
            raise ValueError("other input_limits or feature_names than num_features")
        if not (np.isfinite(limits).all() and (limits > 0).all()):
            raise ValueError("input_limits that are no limits")
        self.num_features, self._names = num_features, names
        self._inputs = WindowInputs(
            kind=self.config.tabular_inputs,
            window_bars=self.window_bars,
            limits=limits,
        )
        if self.is_regression:
            return
        self._mix = ClassMix.from_dict(description["class_mix"])

    # What it says

    def predict_rows(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns what the model says of target rows, in chunks."""
        parts = [
            self._outputs(self._inputs.of_rows(data.features, rows[s]))
            for s in chunks(len(rows), CHUNK_ROWS)
        ]
        return np.concatenate(parts)

    def predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns what the model says of windows: the same bits as of their rows."""
        return self._outputs(self._inputs.of_windows(windows))

    def _outputs(self, inputs: np.ndarray) -> np.ndarray:
        with utils.one_thread():
            outputs = self.raw_outputs(inputs)
        return outputs if self._mix is None else self._mix.natural(outputs)

    # What is known about it

    @property
    def table(self) -> Table:
        """The table that is fitted on.

        Raises:
            ValueError: If `prepare` was not called.
        """
        if self._train is None:
            raise ValueError("expected training data. Received: none. Call prepare().")
        return self._train

    @property
    def rounds_done(self) -> int:
        """Rounds that an earlier process finished in the attached folder."""
        return 0 if self._fitted is None else len(self._fitted["history"]["loss"])

    def feature_importance(self) -> dict[str, float] | None:
        """Returns the library's importance of each feature, over all its inputs."""
        found = self.input_importance()
        if found is None:
            return None
        per_feature = found.reshape(len(self._names), -1).sum(axis=1)
        total = float(per_feature.sum()) or 1.0
        shares = (per_feature / total).tolist()
        return dict(zip(self._names, shares, strict=True))

    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the sections `model`, `training`, `runtime` of the metadata."""
        history, best = self._history, self.best_round
        train, mix = self.table, self._mix
        return {
            "model": {
                "name": self.config.model,
                **self.identity(),
                "library": f"{self.package} {version(self.package)}",
                "total_parameters": self.count_parameters(),
                "optimizer": None,
                "loss": "squared_error" if mix is None else "cross_entropy",
                "weights_sha256": self._digest(),
                "tabular_inputs": self._inputs.kind,
                "num_inputs": train.inputs.shape[1],
                "input_limits": self._inputs.limits.tolist(),
                "feature_names": list(self._names),
                "class_mix": None if mix is None else mix.to_dict(),
                "outputs": "numbers in units of the target's scaler"
                if mix is None
                else "probabilities at the mix of class_mix.odds; divided by them and "
                "normalised, at the natural one",
            },
            "training": {
                "completed_epochs": len(history["loss"]),
                "best_epoch": best,
                "best": {key: values[best - 1] for key, values in history.items()},
                "num_fitted_targets": len(train.targets),
                "seconds": round(self._seconds, 1),
            },
            "runtime": {"device": "CPU", "num_threads": self.num_threads},
        }

    def environment(self) -> dict[str, Any]:
        """Returns the versions that decide a model's bits; threads do not."""
        return {
            "python": platform.python_version(),
            "numpy": version("numpy"),
            self.package: version(self.package),
            "machine": platform.machine(),
        }

    @property
    def num_threads(self) -> int:
        """Threads that fitting may use, where they change no bit."""
        return self.config.num_threads or utils.available_cores()


FITTED = "fitted.json"
"""Says, in a run's checkpoints, which model file is whole."""


def _scores(
    targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float]:
    """Returns loss and accuracy of probabilities, or the squared error of numbers."""
    if outputs.ndim == 1:
        return {"loss": float(np.square(outputs - targets).mean())}
    losses = metrics.row_log_loss(targets, outputs)
    hits = outputs.argmax(axis=1) == targets
    return {
        "accuracy": float(np.average(hits, weights=weights)),
        "loss": float(np.average(losses, weights=weights)),
    }
