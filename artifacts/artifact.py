"""A published run, opened: `load_artifact` verifies every file before one is read.

In: whether files are what their manifest says, which reader opens a model. Out: how a
folder came to be (`artifacts.run_folder`), predicting (`models.families.load_adapter`).
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import utils
from artifacts import (
    array_files,
    keras_files,
    manifest,
    publication,
    resuming,
    run_folder,
)
from config import FIELDS, Config, build_config
from files.atomic import atomic_write, make_folder, sha256_file
from files.strict import sha256_json
from files.tables import Columns, open_table
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.scaling import FeatureScaler
from preprocessing.templates import run_pipeline
from settings.names import find_training_file, member_config, plain_pair
from utils import RefusedArtifactError

logger = logging.getLogger(__name__)

MAX_METADATA_BYTES = 16 * 2**20

_OPENERS: dict[str, tuple[int, Callable[[bytes, object], Any]]] = {
    ".keras": (keras_files.MAX_MODEL_BYTES, keras_files.load_keras_model),
    array_files.SUFFIX: (array_files.MAX_MODEL_BYTES, array_files.load_arrays),
}
"""Suffix of a model file -> its largest size, and what opens its bytes."""
PAIRS = "pairs"
"""Kind of the file with the steps of each pooled pair."""
_SHOWN = ("predictions", "history")
"""Kinds of files that no prediction reads."""
_RETIRED = (".skops", ".txt")
"""Suffixes of libraries' own files, which are not opened."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A published run whose files are what its manifest says.

    Args:
        path: The folder.
        files: Name, size and digest of each file.
        metadata: Content of `metadata_{tag}.json`.
        scaler: What features go through before the model.
    """

    path: Path
    files: Mapping[str, Mapping[str, Any]]
    metadata: Mapping[str, Any]
    scaler: FeatureScaler

    @property
    def config(self) -> Config:
        """The configuration of the run; fields that it did not have, at their defaults.

        Raises:
            RefusedArtifactError: If the metadata have none that can be run.
        """
        values = self.metadata.get("config")
        known = values if isinstance(values, dict) else {}
        try:
            return build_config({k: v for k, v in known.items() if k in FIELDS})
        except utils.ConfigError as error:
            raise RefusedArtifactError(f"{self.path}: {error}") from error

    @property
    def parents(self) -> list[str]:
        """Ids of the registered models that it says it was made from.

        Raises:
            RefusedArtifactError: If it says something else.
        """
        lineage = self.metadata.get("lineage") or {}
        found = lineage.get("dependencies", []) if isinstance(lineage, dict) else None
        if not isinstance(found, list) or not all(isinstance(n, str) for n in found):
            raise RefusedArtifactError(
                f"{self.path}: expected ids of models as lineage.dependencies. "
                f"Received: {lineage!r:.200}"
            )
        return found

    @functools.cached_property
    def preprocessor(self) -> PreprocessingPipeline:
        """The steps before the model; of an artifact without its file those of its run.

        Raises:
            RefusedArtifactError: If its scaler is another one.
        """
        if not self.has("preprocessor"):
            data = self.metadata["data"]
            names = self.scaler.feature_names
            return run_pipeline(self.config, names, data).with_scaler(self.scaler)
        name = self._name("preprocessor", (".json",))
        found = PreprocessingPipeline.from_dict(
            self.read_listed_json(name), self.path / name
        )
        if found.scaler != self.scaler:
            raise RefusedArtifactError(
                f"{self.path / name}: expected the scaler of this artifact. Received: "
                "another one."
            )
        return found

    @functools.cached_property
    def pair_preprocessors(self) -> dict[str, PreprocessingPipeline]:
        """The steps of each pooled pair; none where the run was of one.

        Raises:
            RefusedArtifactError: If they are not steps, or do not fit `preprocessor`.
        """
        if not self.has(PAIRS):
            return {}
        name = self._name(PAIRS, (".json",))
        where, values = self.path / name, self.read_listed_json(name)
        with manifest.refuse_broken(f"{where}: expected the steps of pooled pairs"):
            found = {
                pair: PreprocessingPipeline.from_dict(steps, where)
                for pair, steps in values.items()
            }
            hashes = {each.compatibility_hash for each in found.values()}
            if hashes != {self.preprocessor.compatibility_hash}:
                raise ValueError("steps that do not fit each other")
            return found

    def steps_of(self, pair: str | None) -> tuple[Config, PreprocessingPipeline]:
        """Returns configuration and steps for the candles of one pair.

        Args:
            pair: Of a pooled model, any: one that it never saw gets the scale of all
                its pairs together. None: that of a model of one pair.

        Raises:
            ConfigError: If the model is of another pair, or of several and none is
                named.
        """
        config, steps = self.config, self.preprocessor
        pooled = self.pair_preprocessors
        if pair is None and pooled:
            raise utils.ConfigError(
                "pair: expected one, of a model that several pairs trained together: "
                f"{', '.join(pooled)}, or another. Received: none. Name it, with "
                "predictor.py by --pair; other commands take models of one pair."
            )
        if pair is None:
            return config, steps
        known = {plain_pair(each): each for each in (*pooled, config.pair)}
        asked = config.replace(
            pooled_pairs=(), pair=known.get(plain_pair(pair), pair.upper())
        )
        if not pooled and asked.pair != config.pair:
            raise utils.ConfigError(
                f"pair: expected {config.pair}, of which the model is. Received: {pair}"
            )
        return asked, pooled.get(asked.pair) or steps.for_pair(asked.pair)

    def load_model(self, suffix: str | None = None, *, kind: str = "model") -> Any:
        """Opens the verified model file, without any code from it.

        Args:
            suffix: The only one that is opened; None opens any of a known kind.
            kind: Of the file, such as `extractor`, which an agent brings.

        Returns:
            A Keras network or an `ArrayModel`, by the file's suffix, each with
            `predict`; of another suffix that is named, which its family opens, the
            bytes. `models.families.load_adapter` predicts with any of them.

        Raises:
            RefusedArtifactError: If it is of another suffix, or not as expected.
        """
        self._refuse_retired()
        name = self._name(kind, tuple(_OPENERS) if suffix is None else (suffix,))
        most_bytes, open_model = _OPENERS.get(
            Path(name).suffix, (array_files.MAX_MODEL_BYTES, lambda data, _: data)
        )
        data = _read(self.path, self.files, name, max_bytes=most_bytes)
        return open_model(data, self.path / name)

    def _refuse_retired(self) -> None:
        """Refuses a library's own file, saying what wrote it."""
        files, model = self.metadata.get("files"), self.metadata.get("model")
        name = files.get("model") if isinstance(files, dict) else None
        if isinstance(name, str) and name.endswith(_RETIRED):
            library = model.get("library") if isinstance(model, dict) else None
            versions = self.metadata.get("versions")
            raise RefusedArtifactError(
                f"{self.path}: expected a model as plain arrays, "
                f"{array_files.SUFFIX}. Received: {name:.200}, written by "
                f"{library!s:.99} in an environment of {versions!s:.300}. Train again, "
                "or open it with the version of this program that wrote it."
            )

    def refuse_other_file(self, config: Config) -> None:
        """Refuses a run that read another training file than `config` finds.

        Raises:
            DataError: If there is a file, of another content.
        """
        path, data = find_training_file(config), self.metadata["data"]
        if path is None:
            return
        digest = sha256_file(path)
        if config.pooled_pairs:
            runs = (member_config(config, pair) for pair in sorted(config.pooled_pairs))
            paths = filter(None, map(find_training_file, runs))
            digest = sha256_json([sha256_file(each) for each in paths])
        if data.get("sha256") not in (None, digest):
            raise utils.DataError(
                f"{path}: expected the training file that the finished run {self.path} "
                "was trained on. Received: another one, or the same after a change. "
                "Start without --resume, or bring the file back."
            )

    def has(self, kind: str) -> bool:
        """Whether there is a file of a kind, such as `golden`."""
        listed = self.metadata.get("files")
        return isinstance(listed, dict) and listed.get(kind) in self.files

    def read_json(self, kind: str) -> Any:
        """Returns the content of the JSON file of a kind, such as `calibrator`."""
        return self.read_listed_json(self._name(kind, (".json",)))

    def read_listed_json(self, name: str) -> Any:
        """Returns the content of a JSON file by its name in the manifest.

        Raises:
            RefusedArtifactError: If it is not listed, or not strict JSON.
        """
        if name not in self.files:
            raise RefusedArtifactError(
                f"{self.path}: expected {name} in the manifest. Received: no such file."
            )
        return _read_json(self.path, self.files, name)

    def open_table(self, kind: str) -> Columns:
        """Opens the Parquet file of a kind, such as `predictions`."""
        return open_table(self.path / self._name(kind, (".parquet",)))

    def copy_model(self, folder: Path) -> None:
        """Copies what predicts into a folder, as an artifact of its own.

        What a report shows stays behind. A folder that is there is replaced.

        Raises:
            RefusedArtifactError: If a file was changed since the artifact was opened.
        """
        listed = self.metadata["files"]
        names = {listed[kind] for kind in listed if self.has(kind)}
        names -= {listed.get(kind) for kind in _SHOWN}
        names.add(self.metadata_name)
        names |= {n for n in self.files if re.fullmatch(r"scaler_[^/]*\.json", n)}
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        for name in sorted(names):
            limit = {"max_bytes": self.files[name]["bytes"]}
            data = manifest.read_listed(self.path, name, self.files[name], **limit)
            atomic_write(folder / name, data)
        internal = {"is_internal": run_folder.is_internal}
        manifest.write_manifest(folder, run_folder.MANIFEST, **internal)

    @property
    def metadata_name(self) -> str:
        """Name of the file that `metadata` came from."""
        return next(name for name in self.files if name.startswith("metadata_"))

    def _name(self, kind: str, suffixes: tuple[str, ...]) -> str:
        listed = self.metadata.get("files")
        name = str(listed.get(kind)) if isinstance(listed, dict) else ""
        if name not in self.files or not name.endswith(suffixes):
            raise RefusedArtifactError(
                f"{self.path}: expected a {' or '.join(suffixes)} {kind} in the "
                f"manifest. Received: {name!r:.200}"
            )
        return name


_Files = Mapping[str, Mapping[str, Any]]


def _read(folder: Path, files: _Files, name: str, *, max_bytes: int) -> bytes:
    data = manifest.read_listed(folder, name, files[name], max_bytes=max_bytes)
    if name.endswith(".keras"):
        digest = files[name]["weights_sha256"]
        keras_files.read_members(data, folder / name, weights_sha256=digest)
    return data


def _read_json(folder: Path, files: _Files, name: str) -> Any:
    data = _read(folder, files, name, max_bytes=MAX_METADATA_BYTES)
    return manifest.parse_json(data, folder / name)


class Problem(str):
    """What is wrong with a model, in words that begin with its name.

    Attributes:
        exit_code: Of the error that said so.
    """

    exit_code: int

    @classmethod
    def of(cls, name: str, error: utils.UserError) -> Problem:
        """Returns what an error says of a model."""
        text = str(error)
        problem = cls(text if text.startswith(f"{name}:") else f"{name}: {text}")
        problem.exit_code = error.exit_code
        return problem


def load_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Verifies a published folder against its manifest, then reads it.

    Raises:
        MissingInputError: If there is no folder at `path`.
        RefusedArtifactError: If a file is missing, changed, or outside the folder.
    """
    folder = publication.followed(Path(path)).resolve()
    if not folder.is_dir():
        raise utils.MissingInputError(f"expected an artifact folder. Received: {path}")
    files = manifest.read_manifest(folder, run_folder.MANIFEST)
    manifest.verify_listed(folder, files, is_internal=run_folder.is_internal)
    for name in files:
        if name.endswith(".keras"):
            _read(folder, files, name, max_bytes=keras_files.MAX_MODEL_BYTES)
    names = [name for name in files if name.startswith("metadata_")]
    scalers = [n for n in files if n.startswith("scaler_") and n.endswith(".json")]
    if len(names) != 1 or len(scalers) != 1:
        raise RefusedArtifactError(
            f"{folder}: expected one metadata and one scaler file in the manifest. "
            f"Received: {list(files)[:20]}"
        )
    metadata, values = (
        _read_json(folder, files, name) for name in (names[0], scalers[0])
    )
    if not isinstance(metadata, dict) or not isinstance(values, dict):
        raise RefusedArtifactError(f"{folder}: expected metadata and a scaler.")
    try:
        scaler = FeatureScaler.from_dict(values)
    except utils.DataError as error:
        raise RefusedArtifactError(f"{folder / scalers[0]}: {error}") from error
    artifact = Artifact(path=folder, files=files, metadata=metadata, scaler=scaler)
    if artifact.has("preprocessor"):
        # Refused here, not where they are used.
        _ = artifact.preprocessor, artifact.pair_preprocessors
    return artifact


def find_finished_run(
    config: Config, resume: str | os.PathLike[str] | None
) -> Path | None:
    """Returns the published run that a resume finds done, proved to be whole.

    Raises:
        RefusedArtifactError: If it was changed since.
        DataError: If "newest" finds one that read another training file.
        UserError: See `resuming.finished_run`.
    """
    finished = resuming.finished_run(config, resume)
    if finished is not None:
        artifact = load_artifact(finished)
        if resume == "newest":
            artifact.refuse_other_file(config)
        logger.info("this run is finished: %s", finished)
    return finished
