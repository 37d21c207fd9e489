"""A run's folder, published whole: manifest, digests, safe loading.

In: where files of a run lie and whether they are what they were.
Out: what is in them (`trainer`, `report`), model formats beyond opening one safely.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import utils
from config import Config
from scaling import FeatureScaler
from utils import RefusedArtifactError

logger = logging.getLogger(__name__)

MANIFEST = "MANIFEST.json"
WEIGHTS_MEMBER = "model.weights.h5"


class RunFolder:
    """The folder of one run while it lasts: `outputs/runs/{run_id}`.

    Args:
        config: The run.
        run_id: UTC time, timeframe and a short digest of the configuration.
    """

    def __init__(self, config: Config, run_id: str) -> None:
        self.config = config
        self.run_id = run_id
        self.path = config.runs_dir / run_id

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """Makes a new folder with the resolved configuration in it.

        Raises:
            StorageError: If the outputs folder does not take it.
        """
        stem = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{config.timeframe}"
        run_id = f"{stem}-{config.digest()[:8]}"
        while (config.runs_dir / run_id).exists() or (
            config.model_dir / run_id
        ).exists():
            run_id = f"{stem}-{config.digest()[:8]}-{secrets.token_hex(2)}"
        run = cls(config, run_id)
        utils.atomic_write(run.path / "config.yaml", config.to_yaml())
        return run

    def file(self, kind: str, suffix: str) -> Path:
        """Returns the path of a tagged file, such as `model_{tag}.keras`."""
        return self.path / f"{kind}_{self.config.tag}{suffix}"

    def publish(self) -> Path:
        """Writes the manifest, renames the folder into place, then switches `latest`.

        Returns:
            `outputs/models/{PAIR}/{model}/{run_id}`.
        """
        destination = self.config.model_dir / self.run_id
        try:
            write_manifest(self.path)
            for folder, _, _ in os.walk(self.path):
                utils.fsync_path(folder)
            destination.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.path, destination)
            utils.fsync_path(destination.parent)
            utils.fsync_path(self.config.runs_dir)
            _switch_link(
                destination.parent / f"latest-{self.config.timeframe}", self.run_id
            )
        except utils.UserError:
            raise
        except OSError as error:
            raise utils.StorageError(
                f"cannot publish {self.path} as {destination}: "
                f"{error.strerror or error}. The run is kept where it is."
            ) from error
        with contextlib.suppress(OSError):
            self.config.runs_dir.rmdir()  # only when no other run is in it
        return destination

    def discard(self) -> None:
        """Removes the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _switch_link(link: Path, target: str) -> None:
    temporary = link.with_name(f".tmp-{secrets.token_hex(6)}-{link.name}")
    temporary.symlink_to(target, target_is_directory=True)
    os.replace(temporary, link)
    utils.fsync_path(link.parent)


def write_manifest(folder: Path) -> None:
    """Writes size and SHA-256 of every file below `folder` into its manifest.

    The zip of a `.keras` file carries a date, so its weights have a digest of their own
    that two equal runs share.
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST:
            continue
        entry = {"bytes": path.stat().st_size, "sha256": utils.sha256_file(path)}
        if path.suffix == ".keras":
            entry["weights_sha256"] = _member_digest(path)
        files[name] = entry
        utils.fsync_path(path)
    utils.write_json(folder / MANIFEST, {"format": 1, "files": files})


def _member_digest(path: Path) -> str:
    with zipfile.ZipFile(path) as archive, archive.open(WEIGHTS_MEMBER) as member:
        digest = hashlib.sha256()
        while block := member.read(2**20):
            digest.update(block)
        return digest.hexdigest()


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

    def load_model(self) -> Any:
        """Opens the verified `.keras` file, without any code from it."""
        import keras

        name = self.metadata["files"]["model"]
        if name not in self.files or not name.endswith(".keras"):
            raise RefusedArtifactError(
                f"{self.path}: expected a .keras model in the manifest. "
                f"Received: {name!r}"
            )
        return keras.saving.load_model(self.path / name, compile=False, safe_mode=True)


def load_artifact(path: str | os.PathLike[str]) -> Artifact:
    """Verifies a published folder against its manifest, then reads it.

    Raises:
        MissingInputError: If there is no folder at `path`.
        RefusedArtifactError: If a file is missing, changed, or outside the folder.
    """
    folder = Path(path).resolve()
    if not folder.is_dir():
        raise utils.MissingInputError(f"expected an artifact folder. Received: {path}")
    files = _read_manifest(folder)
    for name, entry in files.items():
        _verify(folder, name, entry)
    names = [name for name in files if name.startswith("metadata_")]
    scalers = [n for n in files if n.startswith("scaler_") and n.endswith(".json")]
    if len(names) != 1 or len(scalers) != 1:
        raise RefusedArtifactError(
            f"{folder}: expected one metadata and one scaler file in the manifest. "
            f"Received: {sorted(files)}"
        )
    try:
        metadata = utils.read_json(folder / names[0])
        scaler = FeatureScaler.from_dict(utils.read_json(folder / scalers[0]))
    except utils.DataError as error:
        raise RefusedArtifactError(f"{folder}: {error}") from error
    return Artifact(path=folder, files=files, metadata=metadata, scaler=scaler)


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = utils.read_json(folder / MANIFEST)
    except FileNotFoundError as error:
        raise RefusedArtifactError(
            f"{folder}: expected {MANIFEST}. A folder without it was not published."
        ) from error
    except utils.DataError as error:
        raise RefusedArtifactError(str(error)) from error
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or manifest.get("format") != 1:
        raise RefusedArtifactError(f"{folder}: expected a manifest of format 1.")
    return files


def _verify(folder: Path, name: str, entry: Any) -> None:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not isinstance(entry, dict):
        raise RefusedArtifactError(
            f"{folder}: expected names inside the folder. Received: {name!r}"
        )
    file = folder / pure
    if not file.is_file() or file.is_symlink() or file.resolve() != file:
        raise RefusedArtifactError(f"{folder}: expected the plain file {name}.")
    if file.stat().st_size != entry.get("bytes"):
        raise RefusedArtifactError(
            f"{file}: expected {entry.get('bytes')} bytes. "
            f"Received: {file.stat().st_size}. The file was changed after publication."
        )
    if utils.sha256_file(file) != entry.get("sha256"):
        raise RefusedArtifactError(
            f"{file}: its sha256 is not the manifest's. "
            "The file was changed after publication."
        )
