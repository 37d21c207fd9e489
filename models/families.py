"""The model families by name, each behind the one face of `ModelAdapter`.

In: which class answers for which name; an adapter for a run or for an artifact.
Out: the classes themselves (`keras_adapter`, `sklearn_adapter`, `lightgbm_adapter`,
`xgboost_adapter`, `catboost_adapter`, `stack_adapter`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import utils
from config import Config
from models import sklearn_adapter, stack_adapter
from models.adapter import ModelAdapter
from models.catboost_adapter import CatBoostAdapter
from models.device import import_quietly, import_tensorflow
from models.hybrid_adapter import HybridAdapter
from models.keras_adapter import KerasAdapter
from models.lightgbm_adapter import LightGBMAdapter
from models.xgboost_adapter import XGBoostAdapter
from settings.network_fields import HYBRID, KERAS_MODELS, NETWORKS
from settings.stage_fields import AGENTS, STACK

if TYPE_CHECKING:
    from artifacts.artifact import Artifact
    from artifacts.run_folder import RunFolder
    from data_loader import TrainingData

FAMILIES: dict[str, type[ModelAdapter]] = {
    **dict.fromkeys(NETWORKS, KerasAdapter),
    HYBRID: HybridAdapter,
    "random_forest": sklearn_adapter.RandomForestAdapter,
    "gradient_boosting": sklearn_adapter.GradientBoostingAdapter,
    "classic_gradient_boosting": sklearn_adapter.ClassicGradientBoostingAdapter,
    "lightgbm": LightGBMAdapter,
    "xgboost": XGBoostAdapter,
    "catboost": CatBoostAdapter,
    "logistic": sklearn_adapter.LogisticAdapter,
    STACK: stack_adapter.StackAdapter,
}
"""Name of a family -> what answers for it."""


def register_family(name: str, adapter: type[ModelAdapter]) -> None:
    """Makes `Config(model=name)` train with an adapter; a known name is replaced."""
    FAMILIES[name] = adapter


def register_network(name: str, builder: Callable[..., Any]) -> None:
    """Makes `Config(model=name)` train a Keras network of one's own.

    Its adapter is `KerasAdapter`, unless `register_family` names one for it.

    Args:
        name: Of no built-in network.
        builder: `builder(config, num_features, *, dtype)` returns a network that is not
            compiled, of Keras's own layers: (batch, sequence_length, num_features) ->
            (batch, 3) probabilities, or (batch, 1) where the target is a number.

    Raises:
        ConfigError: If the name is a built-in one, or the builder takes other
            arguments.
    """
    if name in KERAS_MODELS:
        raise utils.ConfigError(f"name: expected a new one. Received: {name!r}")
    try:
        inspect.signature(builder).bind(None, 1, dtype="float32")
    except TypeError as error:
        raise utils.ConfigError(
            f"{name}: expected builder(config, num_features, *, dtype). "
            f"Received: one with {error}"
        ) from error
    import_tensorflow()
    from networks import families

    families.NETWORKS[name] = builder
    FAMILIES.setdefault(name, KerasAdapter)


def create_adapter(config: Config) -> ModelAdapter:
    """Returns the adapter of the run's family.

    Raises:
        ConfigError: If there is no such family or loss.
        DependencyError: If its library is not installed.
    """
    config.require_losses()
    if config.model not in FAMILIES:
        raise utils.ConfigError(
            f"model: expected one of {', '.join(FAMILIES)}. Received: "
            f"{config.model!r}." + utils.did_you_mean(config.model, FAMILIES)
        )
    adapter = FAMILIES[config.model](config)
    adapter.require_library()
    return adapter


def create_forecaster(config: Config, who: str) -> ModelAdapter:
    """Returns the same, of a family that forecasts: no agent, which holds positions.

    Args:
        config: The run.
        who: Compares what forecasts lose, such as `"a sweep"`.

    Raises:
        ConfigError: If it is an agent, too.
    """
    if config.model in AGENTS:
        raise utils.ConfigError(
            f"model: expected a family that forecasts, because {who} goes by what "
            f"forecasts lose. Received: {config.model!r}, which holds positions and is "
            f"judged beside constant ones: python trainer.py --model {config.model}"
        )
    return create_adapter(config)


def fit_adapter(
    config: Config, data: TrainingData, run: RunFolder, *, callbacks: Sequence[Any] = ()
) -> ModelAdapter:
    """Returns the run's family, fitted: what steps 3 to 6 of a run do.

    Args:
        config: The run.
        data: Arrays and parts.
        run: Its folder, which holds what was done before.
        callbacks: Of Keras, of a network, after those of the run.
    """
    adapter = create_adapter(config)
    adapter.prepare(data)
    adapter.build(data)
    adapter.attach(run)
    adapter.watch(callbacks)
    adapter.fit(data)
    return adapter


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
    if family.suffix == KerasAdapter.suffix:
        import_quietly()  # a file of Keras would bring it in
    model = artifact.load_model(family.suffix)
    adapter = family.load(model, description, artifact.path)
    adapter.open_beside(artifact)
    adapter.predict_only(description, artifact.path)
    return adapter
