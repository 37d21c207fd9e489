"""What every model family answers: `ModelAdapter`.

In: the questions a run asks, in the order of its steps. Out: the answers of each kind
of library (`keras_adapter`, `tabular_adapter`), the list of families
(`families`).
"""

from __future__ import annotations

import abc
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

import numpy as np

from config import CLASS_TARGETS, Config
from metrics.quantiles import middle_of
from preprocessing.inheritance import Inherited
from utils import ConfigError, DataError, RefusedArtifactError

if TYPE_CHECKING:
    from artifacts.artifact import Artifact
    from artifacts.run_folder import RunFolder
    from data_loader import TrainingData
    from models.parents import Parent


class ModelAdapter(abc.ABC):
    """One model family, with one face for every kind of library.

    A run calls `prepare`, `build`, `attach`, `fit`, `save` and `predict_*`, in this
    order. Opened from an artifact, an adapter predicts, and nothing else.

    Every family answers for the same target rows, from the same scaled windows, with
    probabilities at the natural class mix, or with a number in units of
    `TrainingData.values` where the target is one.

    Args:
        config: The run.

    Attributes:
        has_classes: Whether the target is a class, not a number.

    Example:
        >>> adapter = create_adapter(Config(model="random_forest"))
        >>> adapter.fit(data)
        >>> adapter.predict_proba(data, data.parts["test"].targets)
    """

    suffix: ClassVar[str]
    """Suffix of its model file; by it `artifacts` opens those of built-in families."""
    file_kind: ClassVar[str] = "model"
    """How the name of its model file begins."""

    model: Any
    """The library's model (`build`); after `fit` the one that is published."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.has_classes = config.target in CLASS_TARGETS
        self.window_bars = config.sequence_length
        self.num_features = 0
        self._history: dict[str, list[float]] = {}
        self._seconds = 0.0

    @functools.cached_property
    def parents(self) -> Sequence[Parent]:
        """The trained models that the run builds on; for most families `init_from`.

        Raises:
            ConfigError: If one is missing, or of another market.
            RefusedArtifactError: If a file of one is not what its manifest says.
        """
        from models.parents import warm_parents  # which opens adapters itself

        return warm_parents(self.config)

    @property
    def inherited(self) -> Inherited:
        """What they leave to the run: rows that none learned from choose and test."""
        from models.parents import inherited_from

        return inherited_from(self.parents, learns=False)

    @property
    def sized(self) -> Config:
        """The configuration by whose sizes memory and time are estimated."""
        return self.config

    def require_library(self) -> None:  # noqa: B027 - most need no other library
        """Raises DependencyError if what it is fitted with is not installed."""

    # The steps of a run

    @abc.abstractmethod
    def prepare(self, data: TrainingData) -> Any:
        """Step 3: makes ready what `fit` reads; returns it for who wants to look."""

    @abc.abstractmethod
    def build(self, data: TrainingData) -> Any:
        """Step 4: makes the model, not yet trained; returns it."""

    @abc.abstractmethod
    def attach(self, run: RunFolder) -> list[Any]:
        """Step 5: takes a run's folder, with what was done in it; returns callbacks."""

    def watch(self, callbacks: Sequence[Any]) -> None:
        """Adds callbacks of one's own behind those that `attach` returned.

        Raises:
            ConfigError: If the family has no epochs after which they could be called.
        """
        own = getattr(self, "callbacks", None)
        if callbacks and own is None:
            raise ConfigError(
                "callbacks: expected a network with them. Received: model "
                f"{self.config.model!r}, which has no epochs."
            )
        if own is not None:
            own.extend(callbacks)

    @abc.abstractmethod
    def fit(self, data: TrainingData) -> dict[str, list[float]]:
        """Step 6: trains on `data.train_targets`; returns the `training_history`."""

    @abc.abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Step 7: writes the model, whole or not at all."""

    @property
    def files_beside(self) -> dict[str, str]:
        """Kinds and suffixes of what `save` writes beside the model; mostly none."""
        return {}

    def open_beside(self, artifact: Artifact) -> None:  # noqa: B027 - mostly nothing
        """Takes what lies beside the model that `load` took; refuses what is not its.

        Raises:
            RefusedArtifactError: If a file is missing, or not what its model needs.
        """

    @classmethod
    @abc.abstractmethod
    def load(cls, model: Any, description: Mapping[str, Any], where: object) -> Self:
        """Returns an adapter that predicts as the saved one did.

        Args:
            model: What `Artifact.load_model` returned; bytes, of a suffix of its own.
            description: What `describe` said of it under `model`.
            where: Its place, for messages.

        Raises:
            RefusedArtifactError: If the model is not what the description says.
        """

    def predict_only(self, description: Mapping[str, Any], where: object) -> None:
        """Lets what an opened model was not saved with say so."""

        def refuse(name: str, *_: object, **__: object) -> NoReturn:
            raise ValueError(
                f"{name}: expected an adapter of create_adapter(config). Received: one "
                f"opened from {where}, which predicts; its metadata say the rest."
            )

        for name in _OF_A_RUN:
            setattr(self, name, functools.partial(refuse, name))
        self.outputs = str(description.get("outputs"))

    # What it says

    @abc.abstractmethod
    def predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns (num_windows, 3) probabilities, or (num_windows,) numbers.

        Args:
            windows: (num_windows, window_bars, num_features) float32, scaled.
        """

    @abc.abstractmethod
    def predict_rows(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns the same for target rows (num_rows,); DataError for other sizes."""

    def predict_proba(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns class probabilities (num_rows, 3) at the natural class mix.

        Raises:
            ValueError: If the target is a number.
        """
        if not self.has_classes:
            raise ValueError(
                "expected a target with classes for probabilities. Received: "
                f"{self.config.target!r}. Use predict()."
            )
        return self.predict_rows(data, rows)

    def predict(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns the most probable class ids (num_rows,), or the predicted numbers."""
        outputs = self.predict_rows(data, rows)
        return outputs.argmax(axis=1) if self.has_classes else middle_of(outputs)

    def said_by_parents(
        self, data: TrainingData, parts: Iterable[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns what the models that it builds on say of parts, by name and part.

        They are judged beside it. None are, of most families.
        """
        return {}

    def more_columns(
        self, data: TrainingData, parts: Iterable[str]
    ) -> dict[str, np.ndarray]:
        """Returns what the table of predictions has beside its answers.

        By name, for the targets of the parts, one part after the other.
        """
        return {}

    def findings(self, data: TrainingData) -> dict[str, Any]:
        """Returns what the family adds to the results of a run, by key."""
        return {}

    # What is known about it

    def training_history(self) -> dict[str, list[float]]:
        """Returns metric name -> one value a round: an epoch, a tree, a fit."""
        return self._history

    def feature_importance(self) -> dict[str, float] | None:
        """Returns the library's own importance of each input, summing to 1.

        Returns None where the library has none. What a model loses without a feature is
        measured for every family alike (`importance`).
        """
        return None

    @abc.abstractmethod
    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the sections `model`, `training`, `runtime` of the metadata."""

    @abc.abstractmethod
    def environment(self) -> dict[str, Any]:
        """Returns everything beside configuration and data that decides its bits."""

    def choose(self, for_classes: Any, for_numbers: Any) -> Any:
        """Returns the first where the target is a class, the second elsewhere."""
        return for_classes if self.has_classes else for_numbers

    def require_sizes(self, data: TrainingData) -> None:
        """Raises DataError if windows of `data` are not such as the model reads."""
        wanted = (self.window_bars, self.num_features)
        if wanted != (data.window_bars, data.num_features):
            raise DataError(
                f"expected windows of {wanted[0]} rows and {wanted[1]} features. "
                f"Received: {data.window_bars} and {data.num_features}"
            )

    @functools.cached_property
    def outputs(self) -> str:
        """What the model's outputs are, in words."""
        if self.config.loss_traits.y_true == "return":
            one = self.choose("shares: LONG minus SHORT", "scores: tanh of one")
            return f"{one} is a position between short and long"
        return self.choose(
            "probabilities at the natural class mix",
            "log return over the horizon in units of data.target_scaler",
        )

    @property
    def best_round(self) -> int:
        """The round, from 1, whose model was kept."""
        values = self.training_history()[self.config.monitor]
        best = max if self.config.monitor_mode == "max" else min
        return values.index(best(values)) + 1

    @property
    def rounds_done(self) -> int:
        """Rounds that an earlier process finished in the attached folder."""
        return 0

    def _trained(self) -> dict[str, Any]:
        """Returns what every family says of its training, for the metadata."""
        history, best = self._history, self.best_round
        return {
            "completed_epochs": len(history["loss"]),
            "best_epoch": best,
            "best": {key: values[best - 1] for key, values in history.items()},
            "final": {key: values[-1] for key, values in history.items()},
            "seconds": round(self._seconds, 1),
        }

    def identity(self) -> dict[str, Any]:
        """Returns what `load` needs to know, for the metadata's section `model`."""
        return {
            "family": self.config.model,
            "target": self.config.target,
            "window_bars": self.window_bars,
            "num_features": self.num_features,
        }


_OF_A_RUN = (
    *("prepare", "build", "attach", "fit", "save"),
    *("training_history", "describe", "environment", "identity"),
)
"""What needs the run that trained it."""


def read_sizes(description: Mapping[str, Any], where: object) -> tuple[int, int]:
    """Returns window bars and features of a description; refuses what is no size."""
    found = [description.get(name) for name in ("window_bars", "num_features")]
    if not all(type(size) is int and 0 < size <= 1_000_000 for size in found):
        raise RefusedArtifactError(
            f"{where}: expected window_bars and num_features. Received: {found!r:.99}"
        )
    return found[0], found[1]  # type: ignore[return-value]
