"""Trained models that a run builds on, opened: `Parent`.

In: where they are, what they must have in common with the run, what they were fitted
to. Out: opening an artifact (`artifacts.artifact`), which rows are left
(`preprocessing.inheritance`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from artifacts import run_folder
from artifacts.artifact import Artifact
from artifacts.registry import Registry, open_model
from config import Config
from files.atomic import sha256_file
from models.adapter import ModelAdapter
from preprocessing.inheritance import Inherited
from settings.network_fields import HYBRID
from settings.stage_fields import AGENTS, STACK
from utils import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Parent:
    """A published model that another one is made from.

    Attributes:
        role: Field of the configuration that names it.
        name: What that says.
        artifact: Its folder, verified.
        manifest_sha256: Digest of its manifest, and so of every file of it.
        model_id: Its id in the registry of the run's outputs, if it has one.
    """

    role: str
    name: str
    artifact: Artifact
    manifest_sha256: str
    model_id: str | None

    @functools.cached_property
    def config(self) -> Config:
        """The configuration that it was trained with."""
        return self.artifact.config

    @functools.cached_property
    def adapter(self) -> ModelAdapter:
        """Its model, which predicts."""
        from models.families import load_adapter  # some of them have parents

        return load_adapter(self.artifact)

    @property
    def has_network(self) -> bool:
        """Whether it is a Keras network."""
        return str(self.artifact.metadata["files"]["model"]).endswith(".keras")

    @property
    def family(self) -> str:
        """Its model family."""
        return str(self.artifact.metadata["model"]["family"])

    def looked_until(self, part: str) -> np.datetime64:
        """Returns the open of the last bar that a label of a part looks at, UTC."""
        last = pd.Timestamp(self.artifact.metadata["split"][part]["last"])
        last = last.tz_convert(None) if last.tzinfo else last
        bars = self.config.future_window * self.config.bar_seconds
        return (last + pd.Timedelta(bars, "s")).to_datetime64()

    def to_dict(self) -> dict[str, Any]:
        """Returns what the lineage of a run says of it."""
        return {
            "role": self.role,
            "family": self.family,
            "run_id": self.artifact.metadata.get("run_id"),
            "model_id": self.model_id,
            "manifest_sha256": self.manifest_sha256,
        }


def open_parent(
    role: str, name: str | None, config: Config, *, alike: Sequence[str] = ()
) -> Parent:
    """Opens a model that a run builds on.

    Args:
        role: Field of the configuration that names it.
        name: A folder, or a registered model.
        config: The run.
        alike: Fields that both must have in common, beside pair and timeframe.

    Raises:
        ConfigError: If it is not named, or of another market.
        MissingInputError: If there is none.
        RefusedArtifactError: If a file is not what its manifest says.
    """
    if name is None:
        raise ConfigError(
            f"{role}: expected a trained model, which {config.model} builds on. "
            f"Received: none. Name a folder or a registered model: "
            f"--{role.replace('_', '-')}"
        )
    artifact = open_model(name)
    theirs = artifact.config
    wrong = [
        f"{key} {getattr(theirs, key)}, not {getattr(config, key)}"
        for key in ("pair", "timeframe", *alike)
        if getattr(theirs, key) != getattr(config, key)
    ]
    if wrong:
        raise ConfigError(
            f"{role}: expected a model of this run's market and question. Received: "
            f"{name}, of {'; of '.join(wrong)}"
        )
    digest = sha256_file(artifact.path / run_folder.MANIFEST)
    known = [
        entry.model_id
        for entry in Registry(config.outputs_dir).list()
        if entry.manifest_sha256 == digest
    ]
    return Parent(role, name, artifact, digest, known[0] if known else None)


def warm_parents(config: Config) -> tuple[Parent, ...]:
    """Returns the network whose weights a run begins with, where it names one.

    Raises:
        UserError: See `open_parent`.
        ConfigError: If it is of another family.
    """
    if config.init_from is None:
        return ()
    alike = ("model", "target", "sequence_length")
    parent = open_parent("init_from", config.init_from, config, alike=alike)
    return (parent,)


def begin_with(parents: Sequence[Parent], network: Any, names: Sequence[str]) -> None:
    """Gives a new network the weights of the one that `init_from` names, if any does.

    Args:
        parents: Of the run.
        network: A Keras network, not yet trained.
        names: Its features.

    Raises:
        ConfigError: If features or sizes differ.
    """
    for parent in parents:
        if parent.role != "init_from":
            continue
        weights = parent.adapter.network.get_weights()  # type: ignore[attr-defined]
        own = [each.shape for each in network.get_weights()]
        found = parent.artifact.metadata["data"]["feature_names"]
        if list(found) != list(names) or [each.shape for each in weights] != own:
            raise ConfigError(
                "init_from: expected a network of the same features and sizes. "
                f"Received: {parent.name}, of {len(found)} features and "
                f"{sum(each.size for each in weights):,} weights"
            )
        network.set_weights(weights)
        logger.info("weights begin with those of %s", parent.name)


def open_network(config: Config, *, alike: Sequence[str]) -> Parent:
    """Opens `base_model`, whose last hidden layer a run goes on from.

    Raises:
        UserError: See `open_parent`.
        ConfigError: If it is of a family that builds on others itself.
    """
    parent = open_parent("base_model", config.base_model, config, alike=alike)
    if parent.family in (*AGENTS, HYBRID, STACK):
        raise ConfigError(
            "base_model: expected a network that builds on no other model, such as "
            f"cnn_lstm. Received: {parent.name}, of family {parent.family!r}"
        )
    return parent


def inherited_from(
    parents: Sequence[Parent],
    *,
    steps_of: Parent | None = None,
    learns: bool = True,
    fitted_to: Sequence[Parent] = (),
) -> Inherited:
    """Returns what parents leave to a run.

    Args:
        parents: All of them.
        steps_of: The one whose steps before its network the run takes over.
        learns: Whether the run learns from the training part, so from rows behind
            those of its parents.
        fitted_to: Those whose answers it learns from, where these are not all: of the
            others it goes on training the weights, on the rows that these saw.
    """
    if not parents:
        return Inherited()
    behind = [each.looked_until("train") for each in fitted_to]
    return Inherited(
        fitted_until=max(behind, default=None),
        pipeline=None if steps_of is None else steps_of.artifact.preprocessor,
        learns_behind=learns,
        learned_until=max(each.looked_until("train") for each in parents),
        chosen_until=max(each.looked_until("validation") for each in parents),
    )
