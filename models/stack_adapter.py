"""`--model stack`: trained models that answer as one, each as much as validation says.

In: what members must have in common, their own steps before their own models, the
artifact that holds them all. Out: weights and how alike members are (`stacking`), rows
that they leave (`preprocessing.inheritance`), judging (`evaluation`).

A stack's own steps neither scale nor clip: each member scales the rows as its training
did, and reads the last bars of the window that it was trained on. Its weights are
learned on validation, from which no member learned its weights; the test part is behind
all that any member has seen.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from artifacts.manifest import refuse_broken
from config import Config
from files.progress import track
from models import stacking
from models.adapter import ModelAdapter, read_sizes
from models.parents import Parent, inherited_from, open_parent
from models.stack import FOLDER, MAX_MEMBERS, Member, Stack
from models.window_tables import monitored_scores, scores_of
from preprocessing.inheritance import Inherited
from settings.label_fields import LabelFields
from settings.stage_fields import STACK
from utils import ConfigError, DataError, Made

if TYPE_CHECKING:
    from artifacts.run_folder import RunFolder
    from data_loader import TrainingData

logger = logging.getLogger(__name__)


class StackAdapter(ModelAdapter):
    """Trained models, weighed on validation.

    Attributes:
        model: The stack, of equal weights until it is fitted (`build`).
        weighing: What validation taught (`fit`).
    """

    suffix = ".json"
    model: Made[Stack] = Made("build")
    weighing: Made[stacking.Weighing] = Made("fit")
    _members: Made[list[Member]] = Made("prepare")
    _feature_names: Made[tuple[str, ...]] = Made("prepare")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._said: dict[bytes, list[np.ndarray]] = {}
        self._content, self._num_fitted = b"", 0

    # What it builds on

    @functools.cached_property
    def parents(self) -> Sequence[Parent]:
        """Its members; an artifact that is named twice is one of them.

        Raises:
            ConfigError: If there are fewer than two names, or one answers another
                question, or is a stack itself.
        """
        names = self.config.members
        if not 2 <= len(names) <= MAX_MEMBERS:
            raise ConfigError(
                f"members: expected 2 to {MAX_MEMBERS} trained models for a stack. "
                f"Received: {len(names)}. Name folders or registered models: "
                "--members A B"
            )
        labels = {item.name for item in dataclasses.fields(LabelFields)}
        labels &= self.config.dataset_parameters.keys() - {"max_fill_bars"}
        found: dict[str, Parent] = {}
        for name in names:
            each = open_parent("members", name, self.config, alike=sorted(labels))
            first = found.setdefault(each.manifest_sha256, each)
            if first is not each:
                logger.warning("members: %s is %s again: one model", name, first.name)
            self._require_answer(each)
        return list(found.values())

    def _require_answer(self, parent: Parent) -> None:
        """Refuses a member whose answer cannot be weighed with others."""
        if parent.family == STACK:
            raise ConfigError(
                f"members: expected models that are no stacks. Received: {parent.name}."
                " Name its members instead."
            )
        is_position = parent.config.loss_traits.y_true == "return"
        if is_position and not self.has_classes:
            raise ConfigError(
                f"members: expected forecasts of {self.config.target}. Received: "
                f"{parent.name}, whose loss {parent.config.resolved_loss!r} makes "
                "positions of it."
            )

    @property
    def inherited(self) -> Inherited:
        """Rows that no member has seen; members scale them."""
        left = inherited_from(self.parents, learns=False)
        return dataclasses.replace(left, scales=False)

    # The steps of a run

    def prepare(self, data: TrainingData) -> list[Member]:
        """Opens the members, each with what it reads of the rows."""
        longest = max(each.config.sequence_length for each in self.parents)
        if longest > data.window_bars:
            raise ConfigError(
                f"sequence_length: expected at least {longest}, which a member reads. "
                f"Received: {data.window_bars}"
            )
        if any(each.has_network for each in self.parents):
            from model_builder import configure_runtime  # before a network is opened

            configure_runtime(self.config)
        self.num_features = data.num_features
        self._feature_names = data.feature_names
        for each in self.parents:
            _require_same_features(each, data)
        self._members = [
            Member.of(each.artifact, data.feature_names) for each in self.parents
        ]
        return self._members

    def build(self, data: TrainingData) -> Stack:
        """Makes the stack of equal weights."""
        count = len(self._members)
        self.model = Stack(
            members=self._members,
            pool=stacking.Pool(weights=np.full(count, 1 / count)),
            rule=self.config.stack_weights,
            units=data.target_scaler,
        )
        logger.info(
            "model: stack of %s",
            ", ".join(f"{x.name} ({x.family})" for x in self.parents),
        )
        return self.model

    def attach(self, run: RunFolder) -> list[Any]:
        """Takes a run's folder: weights are learned again in seconds."""
        return []

    def fit(self, data: TrainingData) -> dict[str, list[float]]:
        """Learns the weights on validation.

        The history has one row: `loss` and `accuracy` of the rows that taught the
        weights, `val_loss` and the others of each half by the weights of the other.
        """
        started = time.perf_counter()
        rows = data.parts["validation"].targets
        said, truth = self._told(data, rows), data.supervision(rows)
        found = stacking.weigh(
            said,
            truth,
            rows,
            rule=self.config.stack_weights,
            purge_bars=data.window_bars + data.future_window - 1,
        )
        self.weighing, self._num_fitted = found, len(rows)
        self.model = dataclasses.replace(self.model, pool=found.pool)
        taught = found.pool.answer(said)
        crossed = taught if found.crossed is None else found.crossed
        scores = scores_of(truth, taught) | monitored_scores(truth, crossed)
        self._history = {name: [value] for name, value in scores.items()}
        self._seconds = time.perf_counter() - started
        shares = ", ".join(
            f"{parent.name} {weight:.3f}"
            for parent, weight in zip(self.parents, found.pool.weights, strict=True)
        )
        logger.info("weights (%s): %s", self.config.stack_weights, shares)
        return self._history

    def _told(self, data: TrainingData, rows: np.ndarray) -> list[np.ndarray]:
        """Returns what each member says of rows, in units of the stack; kept."""
        key = rows.tobytes()
        if key not in self._said:
            asked = track(self._members, "member", len(self._members))
            self._said[key] = [
                self.model.in_own_units(each, each.of_rows(data, rows))
                for each in asked
            ]
        return self._said[key]

    def said_by_parents(
        self, data: TrainingData, parts: Iterable[str]
    ) -> dict[str, dict[str, np.ndarray]]:
        """Returns what each member says of parts, by `names` and part."""
        told = {part: self._told(data, data.parts[part].targets) for part in parts}
        return {
            name: {part: said[k] for part, said in told.items()}
            for k, name in enumerate(self.names)
        }

    @property
    def names(self) -> list[str]:
        """What members are called in the results: `member_1_lstm`."""
        return [f"member_{k}_{x.family}" for k, x in enumerate(self.parents, 1)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the weights, and the members as artifacts of their own beside them."""
        artifacts = [each.artifact for each in self.parents]
        self._content = self.model.write(Path(path), artifacts)

    @classmethod
    def load(cls, model: Any, description: Mapping[str, Any], where: object) -> Self:
        """Takes weights, and opens the members that have one.

        Raises:
            RefusedArtifactError: If a member is missing, or is another one than the
                description says.
        """
        with refuse_broken(f"{where}: expected a stack that fits its description"):
            window_bars, num_features = read_sizes(description, where)
            target = description["target"]
            own = {"model": STACK, "target": target, "sequence_length": window_bars}
            adapter = cls(Config(**own))
            adapter.num_features = num_features
            if len(description["feature_names"]) != num_features:
                raise ValueError("other feature_names than num_features")
            adapter.model = Stack.read(model, Path(str(where)), description)
            shape = (2, window_bars, num_features)
            adapter.predict_windows(np.zeros(shape, np.float32))
        return adapter

    # What it says

    def predict_rows(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns what the stack says of target rows."""
        self.require_sizes(data)
        if getattr(self, "_members", None):  # in the run, which asks for all of them
            return self.model.pool.answer(self._told(data, rows))
        return self.model.say(lambda member: member.of_rows(data, rows))

    def predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns what the stack says of windows that are not scaled."""
        return self.model.say(lambda member: member.of_windows(windows))

    # What is known about it

    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the sections `model`, `training`, `runtime` of the metadata."""
        described = [each.artifact.metadata["model"] for each in self.parents]
        counts = [each.get("total_parameters") or 0 for each in described]
        runtimes = [each.artifact.metadata.get("runtime", {}) for each in self.parents]
        weights = self.model.pool.weights
        members = [
            {"folder": f"{FOLDER}/{k}", "weight": float(weight)} | parent.to_dict()
            for k, (parent, weight) in enumerate(
                zip(self.parents, weights, strict=True), 1
            )
        ]
        summary = ", ".join(
            f"{each['family']} {each['weight']:.3f}" for each in members
        )
        return {
            "model": {
                "name": STACK,
                **self.identity(),
                "feature_names": list(self._feature_names),
                "summary": f"stack, weights {self.model.rule}: {summary}",
                "members": members,
                "total_parameters": sum(counts),
                "trainable_parameters": len(members) - 1,
                "optimizer": None,
                "loss": self.choose("cross_entropy", "squared_error"),
                "weights_sha256": hashlib.sha256(self._content).hexdigest(),
                "outputs": self.outputs,
            },
            "training": self._trained()
            | {
                "num_fitted_targets": self._num_fitted,
                "shrinkage": self.weighing.shrinkage,
            },
            "runtime": {
                "device": "CPU",
                "mixed_precision": any(x.get("mixed_precision") for x in runtimes),
            },
        }

    def environment(self) -> dict[str, Any]:
        """Returns the versions that decide the weights; members are as they are."""
        return {
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "scipy": version("scipy"),
            "machine": platform.machine(),
        }

    def findings(self, data: TrainingData) -> dict[str, Any]:
        """Returns `stack`: weights, and how alike members err in each part."""
        found: dict[str, Any] = {
            "rule": self.config.stack_weights,
            "sharpness": self.model.pool.sharpness,
            "shrinkage": self.weighing.shrinkage,
            "is_crossed": self.weighing.crossed is not None,
            "loss": self._history["loss"][0],
            "crossed_loss": self._history["val_loss"][0],
            "members": [
                {"name": name, "named": parent.name, "weight": float(weight)}
                for name, parent, weight in zip(
                    self.names, self.parents, self.model.pool.weights, strict=True
                )
            ],
        }
        for part in ("validation", "test"):
            rows = data.parts[part].targets
            said, truth = self._told(data, rows), data.supervision(rows)
            found[part] = stacking.alike(said, truth)
        return {"stack": found}


def _require_same_features(parent: Parent, data: TrainingData) -> None:
    """Refuses a member whose features, of the same names, are made otherwise."""
    pipeline = parent.artifact.preprocessor
    theirs = {}
    if pipeline.takes_candles:
        theirs = (pipeline.step("compute_features").state or {}).get("digests", {})
    ours = data.source.get("feature_digests") or {}
    if others := sorted(k for k in theirs.keys() & ours if theirs[k] != ours[k]):
        raise DataError(
            f"members: expected features that are made as those of the training file. "
            f"Received: {parent.name}, whose {', '.join(others)} were made by another "
            "version of their code. Train it again."
        )
