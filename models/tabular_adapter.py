"""Families that read a window as one row of a table: `TabularAdapter`.

In: windows as rows of numbers, fitting, the best round on validation, probabilities at
the natural class mix, resuming. Out: statistics (`preprocessing.windows`), each library
(`sklearn_adapter`, `lightgbm_adapter`, `rounds_adapter`), plain arrays
(`artifacts.array_files`).
"""

from __future__ import annotations

import abc
import functools
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
from artifacts import array_files
from artifacts.array_models import ArrayModel
from artifacts.manifest import refuse_broken
from artifacts.resuming import run_identity
from config import Config
from files.atomic import atomic_write
from files.progress import track
from files.strict import read_json, write_json
from models.adapter import ModelAdapter, read_sizes
from models.kept_rounds import KeptRounds
from models.window_tables import (
    CHUNK_ROWS,
    ClassMix,
    Table,
    WindowInputs,
    learning_curves,
)
from preprocessing.windows import chunks, evenly_spaced, value_limits
from utils import Made, RefusedArtifactError

if TYPE_CHECKING:
    import os

    from artifacts.run_folder import RunFolder
    from data_loader import TrainingData

logger = logging.getLogger(__name__)

MAX_CELLS = 40_000_000
"""Most numbers of a training table, 160 MB."""


class TabularAdapter(ModelAdapter):
    """A family that is fitted on a table, a row for each target's window.

    A class below it fits one library. Models of trees and linear ones are written as
    plain arrays, for which no library is needed to predict. Another model brings files
    of its own: another `suffix`, `dump_model`, and `open_model`, which `save` and
    `load` use, and whose result has `predict(inputs)`; see `raw_outputs`.

    Attributes:
        model: The library's model until it is fitted, then what its file holds.
        table: What it is fitted on (`prepare`).
        kept: Rounds of a fit that did not end, in the folder of the run.
        mix: From what it says to the natural class mix; None for numbers (`prepare`).
    """

    suffix = array_files.SUFFIX
    package: ClassVar[str]
    """Name of the library's distribution."""
    tolerance: ClassVar[float] = 0.0
    """Most that what is saved may answer apart from what was fitted."""
    table: Made[Table] = Made("prepare")
    _inputs: Made[WindowInputs] = Made("prepare")
    _monitored: Made[Table] = Made("prepare")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.model: Any = None
        self.mix: ClassMix | None = None
        self._names: tuple[str, ...] = ()
        self._content = b""
        self.kept = KeptRounds()
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
    def keep_rounds(self, model: Any, num_rounds: int) -> Any:
        """Returns a fitted model as it was after its first rounds."""

    @abc.abstractmethod
    def library_outputs(self, model: Any, inputs: np.ndarray) -> np.ndarray:
        """Returns what a fitted model says; see `raw_outputs`."""

    # How it is written

    def require_writable(self, model: Any) -> None:
        """Raises ConfigError, before fitting, for a model that cannot be written."""

    @abc.abstractmethod
    def dump_model(self, model: Any) -> bytes:
        """Returns the file of a fitted model."""

    def open_model(self, content: bytes, where: object) -> Any:
        """Returns the model in a file's bytes; RefusedArtifactError if it is none."""
        return array_files.load_arrays(content, where)

    def check_model(self, model: Any, num_inputs: int, num_classes: int | None) -> None:
        """Raises ValueError unless the model is of this family, with these sizes."""
        if type(self).open_model is not TabularAdapter.open_model:
            return
        if not isinstance(model, ArrayModel):
            raise ValueError(f"expected plain arrays, not {type(model).__name__}")
        model.require(self.config.model, num_inputs, num_classes)

    # The steps of a run

    def prepare(self, data: TrainingData) -> Table:
        """Makes the tables of training and monitoring, from evenly spaced targets."""
        part = data.parts["train"]
        self.num_features, self._names = data.num_features, data.feature_names
        self._inputs = WindowInputs(
            kind=self.config.tabular_inputs,
            window_bars=data.window_bars,
            limits=value_limits(part.take(data.features)),
        )
        limit = max(1000, MAX_CELLS // self._inputs.count())
        most = min(self.config.max_tabular_targets or limit, limit)
        self.table = self._inputs.table(
            data, evenly_spaced(data.train_targets, most), is_training=True
        )
        monitored = data.parts["validation"].targets
        rows = evenly_spaced(monitored, self.config.validation_windows)
        self._monitored = self._inputs.table(data, rows)
        self.mix = self.choose(ClassMix.of, lambda *_: None)(data, self.table)
        return self.table

    def build(self, data: TrainingData) -> Any:
        """Makes the model, not yet fitted."""
        train = getattr(self, "table", None) or self.prepare(data)
        self.model = self.create_model(len(train.targets))
        self.require_writable(self.model)
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
        """Takes a folder, with the model or the rounds that were fitted there."""
        self._run, note = run, run.checkpoints / FITTED
        self._fitted = read_json(note) if note.is_file() else None
        if self._fitted is None:
            self.kept = KeptRounds(
                run.checkpoints,
                owner=run_identity(self.config),
                most=self.config.num_trees,
                minutes=self.config.checkpoint_minutes,
            )
        return []

    def fit(self, data: TrainingData) -> dict[str, list[float]]:
        """Fits all rounds, and keeps those of the best one on validation.

        A run that was interrupted goes on from the rounds that it kept; one whose model
        is in the attached folder does not fit again.
        """
        if self.model is None or self._content:
            self.build(data)
        started = time.perf_counter()
        if not self._take_fitted():
            self.learn()
        self._seconds = time.perf_counter() - started
        logger.info(
            "fitted in %.0f s, best of %s: %d",
            self._seconds,
            utils.counted(len(self._history["loss"]), "round", "rounds"),
            self.best_round,
        )
        return self._history

    def learn(self) -> None:
        """Fits the model on the tables, and takes what its file holds."""
        train = self.table
        with utils.one_thread():
            fitted = self.fit_model(self.model, train)
            sampled = train.some(self.config.validation_windows)
            staged = functools.partial(self.staged_outputs, fitted)
            tables = (sampled, self._monitored)
            self._history = learning_curves(
                *tables, staged, mix=self.mix, num_rounds=self.config.num_trees
            )
            fitted = self.keep_rounds(fitted, self.best_round)
            self._content = self.dump_model(fitted)
        # What predicts from here on is what is published.
        self.model = self.open_model(self._content, self.config.model)
        if self._run is not None:
            self.save(self._run.file("model", self.suffix))
        self._compare(fitted)
        if self._run is not None:  # only now: a resume takes a model with this note
            note = {"sha256": self._digest(), "history": self._history}
            write_json(self._run.checkpoints / FITTED, note)

    def _compare(self, fitted: Any) -> None:
        """Refuses a saved model that answers other than what was fitted."""
        tables = (self.table, self._monitored)
        inputs = np.concatenate([table.some(500).inputs for table in tables])
        with utils.one_thread():
            expected = self.library_outputs(fitted, inputs)
            found = self.raw_outputs(inputs)
        self.require_alike(found, expected)

    def require_alike(self, found: np.ndarray, expected: np.ndarray) -> None:
        """Refuses what plain arrays answer other than the library, on some windows."""
        is_alike = found.shape == expected.shape
        apart = float(np.abs(found - expected).max()) if is_alike else np.inf
        if not apart <= self.tolerance:
            raise RefusedArtifactError(
                f"{self.config.model}: expected the saved model to answer {len(found)}"
                f" windows as {self.package} does, at most {self.tolerance:g} apart. "
                f"Received: {apart:g} apart. It is not published."
            )

    def _take_fitted(self) -> bool:
        """Opens the model that an earlier process fitted in the folder, if it did."""
        if self._run is None or self._fitted is None:
            return False
        path = self._run.file("model", self.suffix)
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() != self._fitted.get("sha256"):
            return False
        self.model = self.open_model(content, path)
        self._content, self._history = content, dict(self._fitted["history"])
        return True

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
        # Anything can be missing in a hostile description.
        with refuse_broken(f"{where}: expected a model that fits its description"):
            window_bars, num_features = read_sizes(description, where)
            config = Config(
                model=description["family"],
                target=description["target"],
                sequence_length=window_bars,
                tabular_inputs=description["tabular_inputs"],
            )
            adapter = cls(config)
            adapter.num_features = num_features
            bars = {"window_bars": window_bars}
            adapter._inputs = WindowInputs.from_dict(description, **bars)
            adapter._names = tuple(map(str, description["feature_names"]))
            if len(adapter._names) != num_features:
                raise ValueError("other feature_names than num_features")
            read_mix = adapter.choose(ClassMix.from_dict, lambda _: None)
            adapter.mix = read_mix(description["class_mix"])
            if isinstance(model, bytes):
                model = adapter.open_model(model, where)
            num_classes = len(adapter.mix.classes) if adapter.mix else None
            adapter.check_model(model, adapter._inputs.count(), num_classes)
            adapter.model = model
            shape = (2, window_bars, num_features)
            adapter.predict_windows(np.zeros(shape, np.float32))
        return adapter

    # What it says

    def predict_rows(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns what the model says of target rows, in chunks."""
        self.require_sizes(data)
        pieces = list(chunks(len(rows), CHUNK_ROWS))
        parts = [
            self.answers(self._inputs.of_rows(data.features, rows[s]))
            for s in track(pieces, "piece", len(pieces))
        ]
        return np.concatenate(parts)

    def predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns what the model says of windows: the same bits as of their rows."""
        return self.answers(self._inputs.of_windows(windows))

    def raw_outputs(self, inputs: np.ndarray) -> np.ndarray:
        """Returns (num_rows, num_classes) probabilities, or (num_rows,) numbers."""
        return self.model.predict(inputs)

    def answers(self, inputs: np.ndarray) -> np.ndarray:
        """Returns the same at the natural class mix."""
        outputs = self.raw_outputs(inputs)
        return outputs if self.mix is None else self.mix.natural(outputs)

    # What is known about it

    @property
    def rounds_done(self) -> int:
        """Rounds that an earlier process finished in the attached folder."""
        if self._fitted is None:
            return self.kept.done
        return len(self._fitted["history"]["loss"])

    def feature_importance(self) -> dict[str, float] | None:
        """Returns the library's importance of each feature, over all its inputs."""
        found = getattr(self.model, "importance", None)
        if found is None or not len(found):
            return None
        per_feature = found.reshape(len(self._names), -1).sum(axis=1)
        total = float(per_feature.sum()) or 1.0
        shares = (per_feature / total).tolist()
        return dict(zip(self._names, shares, strict=True))

    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the sections `model`, `training`, `runtime` of the metadata."""
        train, mix = self.table, self.mix
        size = getattr(self.model, "num_parameters", None)
        library = f"{self.package} {self.library_version()}"
        num_inputs = train.inputs.shape[1]
        return {
            "model": {
                "name": self.config.model,
                **self.identity(),
                "library": library,
                "summary": f"{self.config.model} of {library}: {num_inputs} inputs, "
                f"{size} parameters",
                "total_parameters": size,
                "trainable_parameters": size,
                "optimizer": None,
                "loss": "squared_error" if mix is None else "cross_entropy",
                "weights_sha256": self._digest(),
                **self._inputs.to_dict(),
                "num_inputs": num_inputs,
                "feature_names": list(self._names),
                "class_mix": None if mix is None else mix.to_dict(),
                "outputs": "numbers in units of the target's scaler"
                if mix is None
                else "probabilities at the mix of class_mix.odds; divided by them and "
                "normalised, at the natural one",
            },
            "training": self._trained() | {"num_fitted_targets": len(train.targets)},
            "runtime": {"device": "CPU", "num_threads": self.num_threads},
        }

    def environment(self) -> dict[str, Any]:
        """Returns the versions that decide a model's bits; threads do not."""
        return {
            "python": platform.python_version(),
            "numpy": version("numpy"),
            self.package: self.library_version(),
            "machine": platform.machine(),
        }

    def library_version(self) -> str:
        """Returns the version of the library that fits."""
        return version(self.package)

    @property
    def num_threads(self) -> int:
        """Threads that fitting may use, where they change no bit."""
        return self.config.num_threads or utils.available_cores()


FITTED = "fitted.json"
"""Says, in a run's checkpoints, which model file is whole."""
