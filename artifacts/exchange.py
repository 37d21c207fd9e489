"""Models between machines: exported whole, verified before they are taken in.

In: a bundle of artifacts and their entries, as a folder or a tar; a run of MLflow. Out:
the registry that they come from and go to (`registry`).

A bundle has `bundle.json` and `artifacts/{number}/` for each model, parents first.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import os
import re
import secrets
import shutil
import sys
import tarfile
import time
from collections.abc import Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from artifacts import manifest, run_folder
from artifacts.artifact import Artifact, load_artifact
from artifacts.entries import ModelMetadata, ModelSummary, describe, is_inside
from artifacts.registry import Registry
from files.atomic import (
    atomic_path,
    fsync_folder,
    fsync_tree,
    make_folder,
    sha256_file,
)
from files.strict import write_json
from utils import (
    ConfigError,
    DependencyError,
    MissingInputError,
    RefusedArtifactError,
    StorageError,
)

_BUNDLE = "bundle.json"
_MAX_BUNDLE_BYTES = 64 * 2**30
_MAX_MEMBERS = 100_000
_ASIDE, _OLD_SECONDS = ".tmp-import-", 86_400.0
_MAX_HISTORY_BYTES = 64 * 2**20

_MLFLOW_PARAM_LENGTH, _MLFLOW_PARAMS, _MLFLOW_METRICS = 6000, 100, 1000
"""Most letters of a parameter, parameters and metrics of one call."""


def export_model(
    registry: Registry, name: str, destination: str | os.PathLike[str]
) -> Path:
    """Copies a model and all that it was made from; each is verified first.

    Args:
        registry: Where it is registered.
        name: Its id or alias.
        destination: A new folder, or a file that ends in `.tar`.

    Raises:
        ConfigError: If the destination is there.
        RefusedArtifactError: If an artifact was changed since its registration.
    """
    target = Path(destination)
    if os.path.lexists(target):
        raise ConfigError(f"export: expected a new name. Received: {target}")
    models = _parents_first([registry.get(name), *registry.dependencies(name)])
    aside = target.with_name(f".tmp-{secrets.token_hex(6)}-{target.name}")
    try:
        make_folder(aside)
        for number, each in enumerate(models):
            artifact = registry.open(each.model_id)
            for file in (*artifact.files, run_folder.MANIFEST):
                copy = aside / "artifacts" / str(number) / file
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(artifact.path / file, copy)
        entries = [registry.get(each.model_id).to_dict() for each in models]
        write_json(aside / _BUNDLE, {"format": 1, "models": entries})
        if target.suffix == ".tar":
            with atomic_path(target) as temporary, tarfile.open(temporary, "w") as tar:
                tar.add(aside, arcname=".")
        else:
            fsync_tree(aside)
            os.rename(aside, target)
            fsync_folder(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _parents_first(models: Sequence[ModelSummary]) -> list[ModelSummary]:
    """Returns models so that each comes behind all that it was made from."""
    by_id = {each.model_id: each for each in models}
    graph = {name: each.dependencies for name, each in by_id.items()}
    return [by_id[name] for name in TopologicalSorter(graph).static_order()]


def import_models(
    registry: Registry, source: str | os.PathLike[str]
) -> list[ModelMetadata]:
    """Takes in a bundle: every file is verified before anything is renamed in.

    What an entry says of grade and numbers is not taken from it but from the artifact.
    A model keeps its version where that was never used here.

    Raises:
        MissingInputError: If there is no such bundle, or what a model was made from is
            neither in it, before the model, nor here.
        RefusedArtifactError: If a file is not what its manifest says, or would lie
            elsewhere.
        ConfigError: If another artifact lies where one would go.
    """
    bundle = Path(source)
    if not bundle.exists():
        raise MissingInputError(f"expected an exported model. Received: {bundle}")
    for left in registry.outputs.glob(f"{_ASIDE}*"):  # by a process that died
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _OLD_SECONDS:
                run_folder.removed_path(left)
    aside = registry.outputs / f"{_ASIDE}{secrets.token_hex(6)}"
    try:
        _unpack(bundle, aside)
        models = _models_of(aside)
        known: set[str] = set()
        for number, entry in enumerate(models):
            _verify(registry, entry, aside / "artifacts" / str(number))
            for parent in set(entry.dependencies) - known:
                registry.get(parent)  # whoever is not in the bundle is here already
            known.add(entry.model_id)
        renamed: dict[str, str] = {}
        added = []
        for number, entry in enumerate(models):
            folder = aside / "artifacts" / str(number)
            added.append(_take_in(registry, entry, folder, renamed))
            renamed[entry.model_id] = added[-1].model_id
        return added
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack(bundle: Path, aside: Path) -> None:
    """Copies a bundle's plain files, so that nobody changes them once verified."""
    make_folder(aside)
    if bundle.is_dir():
        for path in bundle.rglob("*"):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise RefusedArtifactError(
                    f"{bundle}: expected plain files. Received: {path.name!r:.200}"
                )
        shutil.copytree(bundle, aside, symlinks=True, dirs_exist_ok=True)
        return
    try:
        with tarfile.open(bundle, "r:") as tar:
            size = 0
            for number, member in enumerate(tar):
                size += member.size
                if size > _MAX_BUNDLE_BYTES or number > _MAX_MEMBERS:
                    raise RefusedArtifactError(f"{bundle}: expected fewer, or less.")
                if not (member.isfile() or member.isdir()) or not is_inside(
                    member.name
                ):
                    raise RefusedArtifactError(
                        f"{bundle}: expected plain files. "
                        f"Received: {member.name!r:.200}"
                    )
                target = aside / member.name
                if (content := tar.extractfile(member)) is None:
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with content, target.open("xb") as stream:
                    shutil.copyfileobj(content, stream)
    except (tarfile.TarError, EOFError, FileExistsError, ValueError) as error:
        raise RefusedArtifactError(
            f"{bundle}: expected a folder or a .tar of `export`. Received: {error}"
        ) from error


def _models_of(folder: Path) -> list[ModelMetadata]:
    try:
        content = manifest.read_plain_json(folder, _BUNDLE)
    except FileNotFoundError as error:
        raise RefusedArtifactError(
            f"expected {_BUNDLE} in an exported model. Received: none."
        ) from error
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, list) or not models or content.get("format") != 1:
        raise RefusedArtifactError(f"{_BUNDLE}: expected models, in format 1.")
    return [ModelMetadata.from_dict(each, _BUNDLE) for each in models]


def _verify(registry: Registry, entry: ModelMetadata, folder: Path) -> None:
    listed = folder / run_folder.MANIFEST
    if not listed.is_file() or sha256_file(listed) != entry.manifest_sha256:
        raise RefusedArtifactError(
            f"{entry.model_id}: expected the manifest that its entry names. Received: "
            "none, or another one."
        )
    load_artifact(folder)
    parts = Path(entry.artifact).parts
    if parts[0] != "models" or len(parts) != 4:
        raise RefusedArtifactError(
            f"{entry.model_id}: expected a place like models/PAIR/family/run. "
            f"Received: {entry.artifact!r:.200}"
        )
    there = registry.outputs / entry.artifact / run_folder.MANIFEST
    if there.parent.exists() and (
        not there.is_file() or sha256_file(there) != entry.manifest_sha256
    ):
        raise ConfigError(
            f"{entry.model_id}: expected nothing else at {there.parent}. Received: "
            "another artifact. Import into another --outputs-dir."
        )


def _take_in(
    registry: Registry, entry: ModelMetadata, folder: Path, renamed: dict[str, str]
) -> ModelMetadata:
    place = registry.outputs / entry.artifact
    if not place.exists():
        make_folder(place.parent)
        fsync_tree(folder)
        os.rename(folder, place)
        fsync_folder(place.parent)
    new = describe(
        load_artifact(place),
        place=entry.artifact,
        manifest_sha256=entry.manifest_sha256,
        dependencies=[renamed.get(name, name) for name in entry.dependencies],
        tags=entry.tags,
        notes=entry.notes,
    )
    return registry.add(new, version=entry.version)


class MlflowStore:
    """A store of MLflow, which models are logged to as runs.

    Args:
        uri: A database such as `sqlite:///mlflow.db`, or a server.

    Raises:
        DependencyError: If the full package is not installed.
        ConfigError: If MLflow does not take the address; it refuses folders.
    """

    def __init__(self, uri: str) -> None:
        # A server that is not there is told at once, not in four minutes; and nobody
        # but the store hears of a run.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
            importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
        except ImportError as error:
            raise DependencyError(
                "--mlflow needs MLflow with its databases. Install it, best in an "
                "environment of its own: pip install -r requirements-mlflow.txt"
            ) from error
        try:
            # Nothing would be whatever the environment, or a folder here, says.
            if not uri:
                raise ValueError("no address")
            self._client: Any = self._mlflow.MlflowClient(tracking_uri=uri)
            self._client.search_experiments(max_results=1)
        except Exception as error:
            shown = re.sub("(?<=//)[^/@]+@", "***@", uri)  # without a password
            raise ConfigError(
                "--mlflow: expected a database or a server that MLflow takes, such as "
                f"sqlite:///mlflow.db. Received: {shown!r}. "
                f"MLflow says: {str(error).replace(uri or shown, shown):.300}"
            ) from error

    def log(self, entry: ModelMetadata, artifact: Artifact) -> str:
        """Logs parameters, metrics and files of a registered model; returns the run.

        The experiment is the model's own, or its group. Metrics are those of the test
        part, by the registry's names, and `epoch_loss` and others of each epoch.

        Raises:
            StorageError: If MLflow does not take all of it.
        """
        told = ("model_id", "performance_grade", "grade_reason", "manifest_sha256")
        tags = {name: str(getattr(entry, name)) for name in told}
        tags |= {"dependencies": " ".join(entry.dependencies)}
        tags |= {"tags": " ".join(entry.tags), "notes": entry.notes}
        tags |= {"mlflow.source.git.commit": entry.git_commit or ""}
        try:
            # MLflow prints addresses, which are no answer of ours.
            with contextlib.redirect_stdout(sys.stderr):
                place = self._experiment_id(entry.experiment_name or entry.group)
                run = self._client.create_run(place, run_name=entry.model_id, tags=tags)
                run_id, status = str(run.info.run_id), "FAILED"
                try:
                    self._log_numbers(run_id, entry, artifact)
                    self._client.log_artifacts(run_id, str(artifact.path))
                    status = "FINISHED"
                finally:
                    self._client.set_terminated(run_id, status)
        except Exception as error:
            raise StorageError(
                f"{entry.model_id} is registered, but not logged. MLflow says: "
                f"{error!s:.300}"
            ) from error
        return run_id

    def _experiment_id(self, name: str) -> str:
        with contextlib.suppress(self._mlflow.exceptions.MlflowException):
            return str(self._client.create_experiment(name))  # refused where it is
        return str(self._client.get_experiment_by_name(name).experiment_id)

    def _log_numbers(
        self, run_id: str, entry: ModelMetadata, artifact: Artifact
    ) -> None:
        kinds, now = self._mlflow.entities, int(time.time() * 1000)
        numbers = [(n, v, 0) for n, v in entry.metrics.items() if v is not None]
        metrics = [
            kinds.Metric(name, value, now, step)
            for name, value, step in (*numbers, *_epochs_of(artifact))
        ]
        params = [
            kinds.Param(name, str(value)[:_MLFLOW_PARAM_LENGTH])
            for name, value in entry.training_config.items()
        ]
        for first in range(0, len(metrics), _MLFLOW_METRICS):
            some = metrics[first : first + _MLFLOW_METRICS]
            self._client.log_batch(run_id, metrics=some)
        for first in range(0, len(params), _MLFLOW_PARAMS):
            some = params[first : first + _MLFLOW_PARAMS]
            self._client.log_batch(run_id, params=some)


def _epochs_of(artifact: Artifact) -> list[tuple[str, float, int]]:
    """Returns name, value and number of each epoch's metrics."""
    if not artifact.has("history"):
        return []
    name = artifact.metadata["files"]["history"]
    listed, most = artifact.files[name], _MAX_HISTORY_BYTES
    data = manifest.read_listed(artifact.path, name, listed, max_bytes=most)
    return [
        (f"epoch_{name}", float(value), int(row["epoch"]))
        for row in csv.DictReader(io.StringIO(data.decode()))
        for name, value in row.items()
        if name != "epoch" and value
    ]
