"""A network of classes and a position, made of trained models: `HybridAdapter`.

In: which parents will do, what is taken over from each, the position beside the
classes. Out: the layers (`networks.hybrid`), training and answering
(`keras_adapter`), which rows are left (`preprocessing.inheritance`).

It learns from rows behind those of its classifier: while the layers of that rest, their
numbers are answers, and answers about rows that they were fitted to are too good. The
rows of its agent are learned from again: no answer of the agent is read, its weights go
on being trained.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from config import CLASS_NAMES, Config
from models.keras_adapter import KerasAdapter
from models.parents import Parent, inherited_from, open_network, open_parent
from preprocessing.inheritance import Inherited
from settings.label_fields import LabelFields
from settings.stage_fields import AGENTS
from utils import ConfigError, RefusedArtifactError

if TYPE_CHECKING:
    from data_loader import TrainingData
    from model_builder import HybridBuilder
    from networks.hybrid import Trunk

logger = logging.getLogger(__name__)

_QUESTION = (
    "sequence_length",
    *(each.name for each in dataclasses.fields(LabelFields)),
)
"""What a classifier and a hybrid of it must have in common: windows and labels."""

_NUM_CLASSES = len(CLASS_NAMES)

POSITION = "position"
"""Column of the predictions, key of the results."""


class HybridAdapter(KerasAdapter):
    """See `networks.hybrid`. Its answers are those of the classes."""

    @functools.cached_property
    def parents(self) -> Sequence[Parent]:
        """The classifier, and the agent if there is one.

        Raises:
            ConfigError: If one is missing, or does not suit the run or the other one.
        """
        config = self.config
        base = open_network(config, alike=_QUESTION)
        if not base.has_network:
            raise ConfigError(
                "base_model: expected a network, whose layers a hybrid begins with. "
                f"Received: {base.name}, of family {base.family!r}"
            )
        if config.rl_model is None:
            return (base,)
        agent = open_parent("rl_model", config.rl_model, config)
        below = (agent.artifact.metadata.get("lineage") or {}).get("parents", ())
        seen = [each["manifest_sha256"] for each in below]
        if agent.family not in AGENTS or base.manifest_sha256 not in seen:
            raise ConfigError(
                "rl_model: expected an agent that sees what the last hidden layer of "
                f"base_model gives, {base.name}. Received: {agent.name}, of family "
                f"{agent.family!r}, which does not. Train one with --base-model"
            )
        return (base, agent)

    @property
    def inherited(self) -> Inherited:
        """The classifier's steps, rows behind those that it was fitted to."""
        base = self.parents[0]
        return inherited_from(self.parents, steps_of=base, fitted_to=[base])

    @property
    def sized(self) -> Config:
        """That of the classifier, most of whose layers it has."""
        own = ("batch_size", "allow_swap", "recovery")
        given = {name: getattr(self.config, name) for name in own}
        return self.parents[0].config.replace(**given)

    def create_builder(self, num_features: int) -> HybridBuilder:
        """Returns what makes the network of its parents, and says what that is."""
        from model_builder import HybridBuilder

        base = self.parents[0].adapter.network  # type: ignore[attr-defined]
        return HybridBuilder(
            self.config, num_features, base=base, trunk=self._trunk(base)
        )

    def _trunk(self, base: Any) -> Trunk | None:
        """Returns what the agent does with the classifier's last hidden layer."""
        from networks.families import feature_extractor
        from networks.hybrid import trunk_of

        if len(self.parents) == 1:
            logger.info("hybrid: without rl_model its position begins at none")
            return None
        agent: Any = self.parents[1].adapter
        if agent.trained.chosen is None:
            logger.info("hybrid: its agent stays flat; its position begins at none")
            return None
        num_inputs = feature_extractor(base).output_shape[1]
        units = agent.embedding.center, agent.embedding.spread
        return trunk_of(agent.model, num_inputs, units=units)

    @classmethod
    def load(cls, model: Any, description: Mapping[str, Any], where: object) -> Self:
        """Takes a network of the sizes that its description says, of both heads."""
        if model.output_shape != (None, _NUM_CLASSES + 1):
            raise RefusedArtifactError(
                f"{where}: expected a network of three classes and a position. "
                f"Received: outputs {model.output_shape}"
            )
        return super().load(model, description, where)

    # What it says

    def shaped(self, outputs: np.ndarray) -> np.ndarray:
        """Returns the probabilities (num_windows, 3)."""
        return outputs[:, :_NUM_CLASSES]

    def positions(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns the positions (num_rows,) in [-1, 1] that it takes at target rows."""
        return self.outputs_of(data, rows)[:, _NUM_CLASSES]

    def more_columns(
        self, data: TrainingData, parts: Iterable[str]
    ) -> dict[str, np.ndarray]:
        """Returns the positions."""
        said = [self.positions(data, data.parts[part].targets) for part in parts]
        return {POSITION: np.concatenate(said)}

    def said_by_parents(
        self, data: TrainingData, parts: Iterable[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns what the classifier says of parts, which are scaled as its own."""
        say = self.parents[0].adapter.predict_rows
        return {"base_model": {x: say(data, data.parts[x].targets) for x in parts}}

    @property
    def answering(self) -> Any:
        """The network up to its classes, which is what is exported."""
        from networks.hybrid import class_network

        return class_network(self.network)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the usual sections; of the model, what it began with, too."""
        described = super().describe()
        described["model"]["position"] = "tanh; between all short and all long"
        warm = self.model_builder.warm_layers  # type: ignore[attr-defined]
        described["training"]["warm_layers"] = warm
        return described
