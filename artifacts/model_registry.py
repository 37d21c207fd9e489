"""The registry under the names that system 001 promised, and its preprocessors.

In: `ModelRegistry` by its method names; `PreprocessorManager`, versions of pipelines.
Out: what is done to models (`registry`), a pipeline (`preprocessing.pipelines`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from artifacts.entries import ModelMetadata, ModelSummary, Version
from artifacts.entry_store import EntryStore, new_version, versions_of
from artifacts.grades import PerformanceGrade
from artifacts.manifest import refuse_broken
from artifacts.registry import Registry
from artifacts.run_folder import MANIFEST
from config import Config
from files.atomic import atomic_write, sha256_file
from files.strict import read_json, to_json, write_json
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.templates import TEMPLATES, pipeline_of
from utils import (
    ConfigError,
    DataError,
    MissingInputError,
    RefusedArtifactError,
    did_you_mean,
)

__all__ = [
    "ModelMetadata",
    "ModelRegistry",
    "PerformanceGrade",
    "PreprocessorManager",
    "PreprocessorMetadata",
]

logger = logging.getLogger(__name__)

_ENTRY, _PREPROCESSOR = "entry.json", "preprocessor.json"


class ModelRegistry:
    """Registered models, by the method names of system 001.

    Args:
        root: The folder of outputs.
    """

    def __init__(self, root: str | os.PathLike[str] = "outputs") -> None:
        self.registry = Registry(root)

    def register_model(
        self, artifact: str | os.PathLike[str], **options: Any
    ) -> ModelMetadata:
        """Registers a published run; see `Registry.register`."""
        return self.registry.register(artifact, **options)

    def get_model(self, model_id: str) -> ModelMetadata:
        """Returns a model by its id or alias."""
        return self.registry.get(model_id)

    def list_models(
        self,
        model_type: str | None = None,
        performance_grade: PerformanceGrade | str | None = None,
        limit: int | None = None,
    ) -> list[ModelSummary]:
        """Returns models of a family and at least a grade, the newest first."""
        grade = None if performance_grade is None else str(performance_grade)
        return self.registry.list(family=model_type, least_grade=grade, limit=limit)

    def get_model_dependencies(self, model_id: str) -> list[ModelSummary]:
        """Returns everything that a model was made from."""
        return self.registry.dependencies(model_id)

    def validate_model_integrity(self, model_id: str) -> bool:
        """Whether every file of a model and of its ancestors is what it was.

        Raises:
            RefusedArtifactError: If one is not; it says which.
        """
        if problems := self.registry.validate(model_id):
            raise RefusedArtifactError("\n".join(problems))
        return True

    def archive_model(self, model_id: str) -> ModelMetadata:
        """Takes a model out of use."""
        return self.registry.archive(model_id)

    def delete_model(self, model_id: str) -> ModelMetadata:
        """Removes a model that nothing depends on."""
        return self.registry.delete(model_id)

    def get_best_model(self, model_type: str, metric: str = "log_loss") -> ModelSummary:
        """Returns the best model of a family by a metric, in its own direction."""
        return self.registry.best(metric, family=model_type)

    def export_model_info(self, model_id: str) -> dict[str, Any]:
        """Returns all that the registry keeps of a model, ready for JSON."""
        return self.registry.get(model_id).to_dict()


@dataclass(frozen=True, kw_only=True)
class PreprocessorMetadata:
    """One version of a pipeline, as its entry says.

    Args:
        preprocessor_id: `cnn_lstm_preprocessor_ETHUSDT-1m_v1.2.0`.
        template: One of `preprocessing.templates.TEMPLATES`.
        version: Major where the columns on either end differ from the version before,
            minor for other steps or parameters, patch for the same fitted again.
        created_at: When it was saved, UTC.
        pipeline_steps: Kinds of its steps.
        input_features: Columns that it takes.
        output_features: Columns that a model reads.
        scaling_method: Of its scaler.
        compatibility_hash: Equal where one may stand for the other.
        checksum: SHA-256 of its file.
    """

    preprocessor_id: str
    template: str
    version: str
    created_at: str
    pipeline_steps: tuple[str, ...]
    input_features: tuple[str, ...]
    output_features: tuple[str, ...]
    scaling_method: str
    compatibility_hash: str
    checksum: str


class PreprocessorManager:
    """Preprocessing pipelines by version, beside the models of a folder of outputs.

    Each lies in `{root}/registry/preprocessors/{template}/{PAIR}-{timeframe}/v1.0.0`.

    Args:
        root: The folder of outputs.

    Example:
        >>> manager = PreprocessorManager("outputs")
        >>> pipeline = manager.create("cnn_lstm", config).fit(training_candles)
        >>> entry = manager.save("cnn_lstm", pipeline)
        >>> rows = manager.load(entry.preprocessor_id).transform(newer_candles)
    """

    def __init__(self, root: str | os.PathLike[str] = "outputs") -> None:
        self._store = EntryStore(root)
        self.root = self._store.root / "preprocessors"

    def create(
        self,
        template: str,
        config: Config,
        *,
        parameters: Mapping[str, Any] | None = None,
    ) -> PreprocessingPipeline:
        """Returns a template's pipeline of candles, not fitted; see `pipeline_of`.

        Raises:
            ConfigError: If there is no such template, or nobody registered a kind.
        """
        return pipeline_of(template, config, parameters=parameters)

    def save(
        self, template: str, pipeline: PreprocessingPipeline
    ) -> PreprocessorMetadata:
        """Keeps a fitted pipeline as the next version; the same one again is not kept.

        Raises:
            ConfigError: If its steps are not those of the template, or not fitted.
        """
        kinds = [step.kind for step in pipeline.steps]
        wanted = [*TEMPLATES.get(template, ())]
        if not kinds or wanted[-len(kinds) :] != kinds:
            raise ConfigError(
                f"expected the steps of a template out of {', '.join(TEMPLATES)}. "
                f"Received, as {template!r}: {', '.join(kinds)}."
            )
        if pipeline.step("final_check").state is None:
            raise ConfigError("expected a fitted pipeline. Call fit(rows) before.")
        content = to_json(pipeline.to_dict())
        checksum = hashlib.sha256(content.encode()).hexdigest()
        pair = "features"
        if pipeline.takes_candles:
            pair = pipeline.config.pair
        group = self.root / template / f"{pair}-{pipeline.timeframe}"
        with self._store.lock(group):
            there = versions_of(group)
            newest = self._entries([there[max(there)]] if there else [])
            if newest and newest[0].checksum == checksum:
                return newest[0]
            version = self._next_version(pipeline, newest, there)
            entry = PreprocessorMetadata(
                preprocessor_id=f"{template}_preprocessor_{group.name}_{version}",
                template=template,
                version=version,
                created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
                pipeline_steps=tuple(kinds),
                input_features=pipeline.input_schema.names,
                output_features=pipeline.output_schema.names,
                scaling_method=pipeline.scaler.kind,
                compatibility_hash=pipeline.compatibility_hash,
                checksum=checksum,
            )
            with new_version(group / version) as aside:
                atomic_write(aside / _PREPROCESSOR, content)
                write_json(aside / _ENTRY, dataclasses.asdict(entry))
        return entry

    def _next_version(
        self,
        pipeline: PreprocessingPipeline,
        newest: Sequence[PreprocessorMetadata],
        used: Iterable[Version],
    ) -> str:
        major, minor, patch = max(used, default=(0, 0, 0))
        hashes = [entry.compatibility_hash for entry in newest]
        if hashes != [pipeline.compatibility_hash]:
            return f"v{major + 1}.0.0"
        with contextlib.suppress(RefusedArtifactError):  # a broken one is another one
            before = self.load(newest[0].preprocessor_id)
            if _parameters(before) == _parameters(pipeline):
                return f"v{major}.{minor}.{patch + 1}"
        return f"v{major}.{minor + 1}.0"

    def load(self, name: str) -> PreprocessingPipeline:
        """Opens a pipeline that is what was saved.

        Raises:
            MissingInputError: If there is none; names that are near are told.
            RefusedArtifactError: If its file was changed, or is none of its kind.
        """
        entry = self._read(folder := self._folder(name))
        path = folder / _PREPROCESSOR
        if not path.is_file() or sha256_file(path) != entry.checksum:
            raise RefusedArtifactError(
                f"{path}: expected what was saved, sha256 {entry.checksum}. Received: "
                "nothing, or another file."
            )
        return PreprocessingPipeline.from_dict(read_json(path), path)

    def info(self, name: str) -> PreprocessorMetadata:
        """Returns the entry of a pipeline."""
        return self._read(self._folder(name))

    def validate(self, name: str, table: pd.DataFrame | None = None) -> list[str]:
        """Returns what is wrong with a pipeline's files, or with a table for it.

        Args:
            name: Its id.
            table: What is to go through it; None looks at the files alone.
        """
        try:
            pipeline = self.load(name)
            if table is not None:
                pipeline.transform(table)
        except (RefusedArtifactError, DataError) as error:
            return [str(error)]
        return []

    def compare(self, one: str, other: str) -> dict[str, Any]:
        """Returns what two pipelines differ in.

        Returns:
            `compatible`: whether one may stand for the other; `differences`: a line for
            each column, parameter and state that is not the same.
        """
        pipelines = self.load(one), self.load(other)
        first, second = (
            {**each.to_dict(), "steps": {s.name: s.to_dict() for s in each.steps}}
            for each in pipelines
        )
        return {
            "compatible": first["compatibility_hash"] == second["compatibility_hash"],
            "differences": _differences("", first, second),
        }

    def _folder(self, name: str) -> Path:
        for folder in self.root.glob("*/*/v*"):
            if name == _id_of(folder):
                return folder
        known = [_id_of(folder) for folder in self.root.glob("*/*/v*")]
        raise MissingInputError(
            f"expected a preprocessor of {self.root}. Received: {name!r:.200}."
            f"{did_you_mean(name, known)}"
        )

    def _read(self, folder: Path) -> PreprocessorMetadata:
        with refuse_broken(f"{folder}: expected the entry of a preprocessor"):
            values = read_json(folder / _ENTRY)
            names = ("pipeline_steps", "input_features", "output_features")
            lists = {name: tuple(values[name]) for name in names}
            entry = PreprocessorMetadata(**values | lists)
            plain = [each for name, each in values.items() if name not in names]
            words = [*plain, *itertools.chain(*lists.values())]
            if entry.preprocessor_id != _id_of(folder) or not all(
                isinstance(word, str) for word in words
            ):
                raise ValueError(f"that of {entry.preprocessor_id!r:.100}")
            return entry

    def _entries(self, folders: Iterable[Path]) -> Sequence[PreprocessorMetadata]:
        """Returns the entries that can be read; a broken one hides no other."""
        found = []
        for folder in folders:
            try:
                found.append(self._read(folder))
            except RefusedArtifactError as error:
                logger.warning("not counted: %s", error)
        return found

    def list(self, template: str | None = None) -> list[PreprocessorMetadata]:
        """Returns the entries, of a template or of all, the newest first."""
        folders = [
            path.parent
            for path in self.root.glob(f"*/*/v*/{_ENTRY}")
            if template in (None, path.parents[2].name)
        ]
        found = self._entries(folders)
        return sorted(found, key=lambda entry: entry.created_at, reverse=True)


def _id_of(folder: Path) -> str:
    template = folder.parents[1].name
    return f"{template}_preprocessor_{folder.parent.name}_{folder.name}"


def _parameters(pipeline: PreprocessingPipeline) -> list[dict[str, Any]]:
    return [{**step.to_dict(), "state": None} for step in pipeline.steps]


def _differences(what: str, one: Any, other: Any) -> list[str]:
    """Returns the lines in which two values of strict JSON differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in {**one, **other}
            for line in _differences(
                f"{what} {key}".strip(), one.get(key), other.get(key)
            )
        ]
    return [] if one == other else [f"{what}: {one!s:.100} and {other!s:.100}"]


def register_run(config: Config, folder: Path, *, alias: str | None) -> ModelMetadata:
    """Registers once what a run of this configuration published; says its name."""
    registry = Registry(config.outputs_dir)
    digest = sha256_file(folder / MANIFEST)
    known = [e.model_id for e in registry.list() if e.manifest_sha256 == digest]
    if known and alias:
        registry.set_alias(known[0], alias)
    entry = registry.get(known[0]) if known else registry.register(folder, alias=alias)
    graded = f"grade {entry.performance_grade} ({entry.grade_reason})"
    logger.info("registered: %s, %s", entry.model_id, graded)
    return entry
