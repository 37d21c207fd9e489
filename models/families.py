"""The model families by name, each behind the one face of `ModelAdapter`.

In: which class answers for which name; an adapter for a run or for an artifact.
Out: the classes themselves (`keras_adapter`, `sklearn_adapter`, `lightgbm_adapter`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import utils
from config import Config
from models.adapter import ModelAdapter
from models.keras_adapter import KerasAdapter
from models.lightgbm_adapter import LightGBMAdapter
from models.sklearn_adapter import (
    ClassicGradientBoostingAdapter,
    GradientBoostingAdapter,
    LogisticAdapter,
    RandomForestAdapter,
    SklearnAdapter,
)
from models.tabular_adapter import TabularAdapter

if TYPE_CHECKING:
    from artifacts.artifact import Artifact

__all__ = [
    "FAMILIES",
    "ModelAdapter",
    "SklearnAdapter",
    "TabularAdapter",
    "create_adapter",
    "load_adapter",
    "register_family",
]

FAMILIES: dict[str, type[ModelAdapter]] = {
    "lstm": KerasAdapter,
    "gru": KerasAdapter,
    "cnn": KerasAdapter,
    "cnn_lstm": KerasAdapter,
    "attention": KerasAdapter,
    "ensemble": KerasAdapter,
    "random_forest": RandomForestAdapter,
    "gradient_boosting": GradientBoostingAdapter,
    "classic_gradient_boosting": ClassicGradientBoostingAdapter,
    "lightgbm": LightGBMAdapter,
    "logistic": LogisticAdapter,
}
"""Name of a family -> what answers for it."""


def register_family(name: str, adapter: type[ModelAdapter]) -> None:
    """Makes `Config(model=name)` train with an adapter; a known name is replaced."""
    FAMILIES[name] = adapter


def create_adapter(config: Config) -> ModelAdapter:
    """Returns the adapter of the run's family.

    Raises:
        ConfigError: If there is no such family or loss.
        DependencyError: If its library is not installed.
    """
    config.require_losses()
    adapter = _family(config.model)(config)
    adapter.require_library()
    return adapter


def _family(name: str) -> type[ModelAdapter]:
    if name not in FAMILIES:
        raise utils.ConfigError(
            f"model: expected one of {', '.join(FAMILIES)}. Received: {name!r}."
            + utils.did_you_mean(name, FAMILIES)
        )
    return FAMILIES[name]


def load_adapter(artifact: Artifact) -> ModelAdapter:
    """Opens the model of an artifact; the adapter predicts, and nothing else.

    Raises:
        RefusedArtifactError: If its family is unknown, or the model is not its.
    """
    description = artifact.metadata.get("model")
    if not isinstance(description, dict):
        raise utils.RefusedArtifactError(
            f"{artifact.path}: expected a description of the model in its metadata."
        )
    name = description.get("family")
    if not isinstance(name, str) or name not in FAMILIES:
        raise utils.RefusedArtifactError(
            f"{artifact.path}: expected a model of {', '.join(FAMILIES)}. "
            f"Received: {name!r:.99}"
        )
    family = FAMILIES[name]
    model = artifact.load_model(family.suffix)
    adapter = family.load(model, description, artifact.path)
    adapter.predict_only(description, artifact.path)
    return adapter
