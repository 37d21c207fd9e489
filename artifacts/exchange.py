"""Models between machines: exported whole, verified before they are taken in.

In: a bundle of artifacts and their entries, as a folder or a tar; what kinds of files
lie in a folder. Out: the registry that they come from and go to (`registry`).

A bundle has `bundle.json` and `artifacts/{number}/` for each model, parents first.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tarfile
from collections.abc import Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from artifacts import manifest, run_folder
from artifacts.artifact import load_artifact
from artifacts.entries import ModelMetadata, ModelSummary, describe, is_inside
from artifacts.registry import Registry
from files.atomic import (
    atomic_path,
    fsync_folder,
    fsync_path,
    make_folder,
    sha256_file,
)
from files.strict import read_json, write_json
from utils import ConfigError, DataError, MissingInputError, RefusedArtifactError

_BUNDLE = "bundle.json"
_MAX_BUNDLE_BYTES = 64 * 2**30
_MAX_MEMBERS = 100_000

PICKLES = ("pickle", "torch zip", "pickle by name")
"""Kinds of files that could run code when they are opened."""

_MAGIC = {
    b"\x89HDF\r\n": "hdf5",
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "zip",
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\x89PNG": "png",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([0x80, protocol]): "pickle" for protocol in range(2, 6)},
}
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".skops", ".dill")
_TORCH_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")


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
    aside = registry.outputs / f".tmp-import-{secrets.token_hex(6)}"
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
        content = read_json(folder / _BUNDLE)
    except FileNotFoundError as error:
        raise RefusedArtifactError(
            f"expected {_BUNDLE} in an exported model. Received: none."
        ) from error
    except DataError as error:
        raise RefusedArtifactError(str(error)) from error
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
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                fsync_path(path)
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


def scan(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns `name`, `kind` and `bytes` of every file below a folder; opens no model.

    A kind is told by the first bytes, where they tell; a pickle of text has none, so
    names that pickles have count, too.

    Raises:
        MissingInputError: If there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise MissingInputError(f"scan: expected a folder. Received: {root}")
    found = []
    for parent, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            status = path.lstat()
            kind = "link" if path.is_symlink() else _kind(path)
            place = path.relative_to(root).as_posix()
            found.append({"name": place, "kind": kind, "bytes": status.st_size})
    return found


def _kind(path: Path) -> str:
    with manifest.open_plain(path.parent, path.name) as stream:
        head = stream.read(16)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
    if kind == "zip" and path.suffix in _TORCH_SUFFIXES:
        return "torch zip"
    if kind not in ("pickle",) and path.suffix in _PICKLE_SUFFIXES:
        return "pickle by name"
    if kind:
        return kind
    is_text = not head.strip(bytes(range(32, 127)) + b"\t\n\r")
    return {b"{": "json", b"[": "json"}.get(head[:1], "text" if is_text else "other")
