"""A stack: trained models with their own steps before them, and their weights.

In: each member's answer, all of them as one, the file that says so and which members
lie beside it. Out: learning the weights (`stacking`), a run of a stack
(`stack_adapter`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from artifacts.artifact import Artifact, load_artifact
from artifacts.manifest import open_plain, parse_json
from artifacts.run_folder import MANIFEST
from config import CLASS_TARGETS
from files.atomic import atomic_write, sha256_file
from metrics.quantiles import middle_of
from models.adapter import ModelAdapter
from models.stacking import SHARPNESS, Pool
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import TargetScaler
from preprocessing.windows import chunks, cut_windows
from settings.stage_fields import AGENTS, STACK
from utils import DataError

if TYPE_CHECKING:
    from data_loader import TrainingData

FOLDER = "members"
"""Of the members' artifacts, numbered from 1, inside that of the stack."""
MAX_MEMBERS = 50

_CHUNK_WINDOWS = 2048
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A trained model inside a stack, with the steps before it.

    Args:
        adapter: The model, which predicts.
        pipeline: What its rows go through.
        columns: Its features among those of the stack.
        units: Of its numbers; None of classes.
    """

    adapter: ModelAdapter
    pipeline: PreprocessingPipeline
    columns: list[int]
    units: TargetScaler | None

    @classmethod
    def of(cls, artifact: Artifact, feature_names: Sequence[str]) -> Self:
        """Opens the model of an artifact, which reads some of the features.

        Raises:
            DataError: If one is missing.
            RefusedArtifactError: If a file is not what it should be.
        """
        from models.families import load_adapter  # the stack is one of them

        pipeline = artifact.preprocessor
        missing = [n for n in pipeline.feature_names if n not in feature_names]
        if missing:
            raise DataError(
                f"{artifact.path}: expected a member that reads features of the "
                f"stack's training file, {', '.join(feature_names)}. Received: one of "
                f"{', '.join(missing)}, too. Train all members on files of the same "
                "features."
            )
        scale = artifact.metadata["data"].get("target_scaler")
        return cls(
            adapter=load_adapter(artifact),
            pipeline=pipeline,
            columns=[feature_names.index(name) for name in pipeline.feature_names],
            units=None if scale is None else TargetScaler.from_dict(scale),
        )

    def of_rows(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns what it says of target rows of data that are not scaled.

        An agent, which has an account where rows follow each other, says what it would
        do without a position, as it does of windows: a stack has no account.
        """
        own = dataclasses.replace(
            data,
            features=self.pipeline.scaled(self._taken(data.features)),
            pipeline=self.pipeline,
            window_bars=self.adapter.window_bars,
        )
        if self.adapter.config.model not in AGENTS:
            return self._alone(self.adapter.predict_rows(own, rows))
        bars, said = self.adapter.window_bars, self.adapter.predict_windows
        return np.concatenate(
            [
                said(cut_windows(own.features, rows[s], window_bars=bars))
                for s in chunks(len(rows), _CHUNK_WINDOWS)
            ]
        )

    def of_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns what it says of (num_windows, window_bars, num_features)."""
        taken = self._taken(windows[:, -self.adapter.window_bars :])
        rows = self.pipeline.scaled(taken.reshape(-1, taken.shape[2]))
        return self._alone(self.adapter.predict_windows(rows.reshape(taken.shape)))

    def _alone(self, said: np.ndarray) -> np.ndarray:
        """Returns the forecast of a member that says several quantiles."""
        return said if self.adapter.has_classes else middle_of(said)

    def _taken(self, features: np.ndarray) -> np.ndarray:
        """Returns its own columns of features (..., num_features)."""
        if self.columns == list(range(features.shape[-1])):
            return features
        return features[..., self.columns]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Members and their weights: what answers.

    Args:
        members: Models; None where the weight is 0, which nobody asks.
        pool: How much each counts.
        rule: How they were learned.
        units: Of the numbers that it says; None of classes.
    """

    members: Sequence[Member | None]
    pool: Pool
    rule: str
    units: TargetScaler | None

    def say(self, ask: Callable[[Member], np.ndarray]) -> np.ndarray:
        """Returns the weighted answer, float64."""
        pairs = zip(self.members, self.pool.weights, strict=True)
        return self.pool.answer(
            [
                self.in_own_units(each, ask(each)) if each and weight > 0 else None
                for each, weight in pairs
            ]
        )

    def in_own_units(self, member: Member, said: np.ndarray) -> np.ndarray:
        """Returns numbers of a member in units of the stack; classes as they are."""
        if self.units is None or member.units is None or self.units == member.units:
            return said
        return self.units.transform(member.units.inverse(said))

    def write(self, path: Path, artifacts: Sequence[Artifact]) -> bytes:
        """Writes its file, and its members as artifacts of their own beside it.

        Returns:
            The bytes of the file.
        """
        digests = []
        for k, artifact in enumerate(artifacts, 1):
            folder = path.parent / FOLDER / str(k)
            artifact.copy_model(folder)
            digests.append(sha256_file(folder / MANIFEST))
        values = {
            "format": _FORMAT,
            "rule": self.rule,
            "weights": self.pool.weights.tolist(),
            "sharpness": self.pool.sharpness,
            "units": None if self.units is None else self.units.to_dict(),
            "manifests_sha256": digests,
        }
        content = json.dumps(values, indent=1).encode()
        atomic_write(path, content)
        return content

    @classmethod
    def read(cls, content: bytes, folder: Path, description: Mapping[str, Any]) -> Self:
        """Opens a file and the members beside it.

        Args:
            content: Bytes of the file.
            folder: That it lies in.
            description: `feature_names`, `target` and `window_bars` of the stack.

        Raises:
            Exception: Of any kind, where a value or a member is not as it should be.
        """
        values = parse_json(content, folder)
        weights = np.array(values["weights"], np.float64)
        if weights.ndim != 1 or not 1 <= len(weights) <= MAX_MEMBERS:
            raise ValueError(f"expected 1 to {MAX_MEMBERS} weights")
        if not ((weights >= 0).all() and abs(weights.sum() - 1) < 1e-9):
            raise ValueError("weights that do not sum to 1")
        power = float(values["sharpness"])
        if not SHARPNESS[0] <= power <= SHARPNESS[1]:
            raise ValueError(f"expected a sharpness of {SHARPNESS}")
        units = values["units"]
        has_units = description["target"] not in CLASS_TARGETS
        if values["format"] != _FORMAT or has_units != isinstance(units, dict):
            raise ValueError("another format, or units of another target")
        digests = zip(weights, values["manifests_sha256"], strict=True)
        return cls(
            members=[
                _open_member(folder, k, digest, description) if weight > 0 else None
                for k, (weight, digest) in enumerate(digests, 1)
            ],
            pool=Pool(weights=weights, sharpness=power),
            rule=str(values["rule"]),
            units=TargetScaler.from_dict(units) if has_units else None,
        )


def _open_member(
    folder: Path, number: int, digest: str, description: Mapping[str, Any]
) -> Member:
    """Opens a member by its number, whose manifest has the given digest."""
    place = f"{FOLDER}/{number}"
    with open_plain(folder, f"{place}/{MANIFEST}") as stream:  # follows no link
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    artifact = load_artifact(folder / place)
    described = artifact.metadata["model"]
    if found != digest or described["family"] == STACK:
        raise ValueError(f"{place}: another member, or a stack")
    member = Member.of(artifact, description["feature_names"])
    bars, target = member.adapter.window_bars, described["target"]
    if bars > description["window_bars"] or target != description["target"]:
        raise ValueError(f"{place}: windows of {bars} bars, target {target!r:.50}")
    return member
