"""Folders of entries: read whole, made aside, renamed in, each version used once.

In: finding an entry by its name, adding one, changing one, under a lock of its group.
Out: what may be done to a model and why (`registry`), what an entry says (`entries`).

Below `{outputs_dir}/registry`:

    {family}/{PAIR}-{timeframe}-{target}/v1.0.0/entry.json
    {family}/{PAIR}-{timeframe}-{target}/aliases/champion.json
    {family}/{PAIR}-{timeframe}-{target}/deleted.json      versions that are gone
    index.json                                             a cache of entries, no more
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import utils
from artifacts.aliases import Aliases
from artifacts.entries import (
    ACTIVE,
    FORMAT,
    GROUP,
    ModelMetadata,
    ModelSummary,
    Version,
    next_version,
    parse_version,
)
from artifacts.manifest import read_plain_json, read_vouched, write_vouched
from artifacts.run_folder import MANIFEST, removed_path
from files.atomic import atomic_write, fsync_folder, make_folder, sha256_file
from files.locks import FileLock
from files.strict import write_json
from utils import ConfigError, MissingInputError, RefusedArtifactError

logger = logging.getLogger(__name__)

_ENTRY, _DELETED = "entry.json", "deleted.json"
_LOCK_SECONDS = 60.0
_SUMMARY = [item.name for item in dataclasses.fields(ModelSummary)]


class EntryStore:
    """The entries below one folder of outputs.

    Args:
        outputs_dir: The folder of outputs.
    """

    def __init__(self, outputs_dir: str | os.PathLike[str] = "outputs") -> None:
        self.outputs = Path(outputs_dir)
        self.root = self.outputs / "registry"

    def entries(self, *, skips_broken: bool = False) -> list[ModelSummary]:
        """Returns a summary of every entry, the newest first.

        Args:
            skips_broken: Tell of entries that cannot be read in a warning, and go on.

        Raises:
            RefusedArtifactError: If one cannot be read; nobody knows its parents then.
        """
        cached, is_stale = self._read_index(), False
        found: dict[str, tuple[list[int], ModelSummary]] = {}
        for place in self._places():
            try:
                status = os.stat(f"{self.root}/{place}/{_ENTRY}")
            except OSError:
                continue  # deleted a moment ago
            stamp = [status.st_mtime_ns, status.st_size, status.st_ino]
            entry = _cached(cached.get(place), stamp, place)
            if entry is None:
                is_stale = True
                try:
                    full = self._read(self.root / place)
                    entry = ModelSummary(**{k: getattr(full, k) for k in _SUMMARY})
                except MissingInputError:
                    continue  # deleted this very moment
                except RefusedArtifactError as error:
                    if not skips_broken:
                        raise
                    logger.warning("not counted: %s", error)
                    continue
            found[place] = stamp, entry
        if is_stale or len(found) != len(cached):
            self._write_index(found)
        read = [entry for _, entry in found.values()]
        return sorted(read, key=lambda entry: entry.created_at, reverse=True)

    def _read_index(self) -> dict[str, Any]:
        """Returns the cache; an unreadable one is none, and loses nothing."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            # Not strict: each of its entries is checked, and may be any JSON.
            content = json.loads((self.root / "index.json").read_bytes())
            if isinstance(content, dict) and isinstance(content.get("entries"), dict):
                return dict(content["entries"])
        return {}

    def _write_index(self, found: Mapping[str, tuple[list[int], ModelSummary]]) -> None:
        kept = {
            place: [stamp, {key: getattr(entry, key) for key in _SUMMARY}]
            for place, (stamp, entry) in found.items()
        }
        text = json.dumps({"entries": kept}, separators=(",", ":"))
        with contextlib.suppress(utils.StorageError):  # a reader's folder may be closed
            atomic_write(self.root / "index.json", text)

    def _places(self) -> list[str]:
        """Returns `family/group/version` of the folders of entries, in order."""
        return [
            f"{family}/{name}/{version}"
            for family in _folders(self.root)
            for name in _folders(self.root / family)
            for version in _folders(self.root / family / name)
            if parse_version(version)
        ]

    def _pooled_pairs(self, entry: ModelSummary) -> Sequence[str]:
        known = self.get(entry.model_id) if "/POOL-" in entry.group else entry
        return getattr(known, "training_config", {}).get("pooled_pairs") or ()

    def _read(self, folder: Path) -> ModelMetadata:
        try:
            entry = ModelMetadata.from_dict(read_vouched(folder, _ENTRY), folder)
        except FileNotFoundError as error:
            raise MissingInputError(f"{folder}: no such model any more.") from error
        place = folder.relative_to(self.root).as_posix()
        if place != f"{entry.group}/{entry.version}":
            raise RefusedArtifactError(
                f"{folder}: expected the entry of this folder. Received: that of "
                f"{entry.model_id}"
            )
        return entry

    def get(self, name: str) -> ModelMetadata:
        """Returns a model by its id, or by `family/PAIR-timeframe-target@alias`.

        Raises:
            MissingInputError: If there is none; names that are near are told.
        """
        group, _, word = name.partition("@")
        if word:
            version = (
                word if parse_version(word) else self.read_alias(group, word)["version"]
            )
            folder = self.root / group / str(version)
        else:
            stem, _, version = name.rpartition("_")
            groups = self.root.glob("*/*") if parse_version(version) else ()
            matching = [
                group / version
                for group in groups
                if f"{group.parent.name}_{group.name}" == stem
                and (group / version / _ENTRY).is_file()
            ]
            if len(matching) > 1:
                told = [f"{p.parts[-3]}/{p.parts[-2]}@{version}" for p in matching]
                raise ConfigError(
                    f"expected one model. Received: {name!r}, which may be "
                    f"{' or '.join(sorted(told))}"
                )
            folder = matching[0] if matching else self.root / "-"
        if not _is_below(folder, self.root) or not (folder / _ENTRY).is_file():
            at = f"{group}@{version}"
            raise self._unknown(at if word and at != name else name)
        return self._read(folder)

    def _unknown(self, name: str) -> MissingInputError:
        known = [each.model_id for each in self.entries(skips_broken=True)]
        files = self.root.glob("*/*/aliases/[!.]*.json") if "@" in name else ()
        aliases = [f"{p.parts[-4]}/{p.parts[-3]}@{p.stem}" for p in files]
        near = difflib.get_close_matches(name, [*known, *aliases], n=3, cutoff=0.5)
        told = f" Near: {', '.join(near)}." if near else ""
        return MissingInputError(
            f"expected a model of {self.root}: an id, or "
            f"family/PAIR-timeframe-target@alias. Received: {name!r:.200}.{told} "
            f"It has {utils.counted(len(known), 'model', 'models')}."
        )

    def find(self, words: str) -> list[ModelSummary]:
        """Returns what a few words may mean: one by its full name, or all that match.

        Args:
            words: An id, an alias, or parts of an id such as `ETHUSDT-1m`.

        Raises:
            MissingInputError: If nothing matches.
        """
        with contextlib.suppress(MissingInputError):
            return [self.get(words)]
        wanted = words.replace("/", "_").lower()
        matching = [
            entry
            for entry in self.entries(skips_broken=True)
            if entry.status == ACTIVE and wanted in entry.model_id.lower()
        ]
        if not matching:
            raise self._unknown(words)
        return matching

    def aliases(self, group: str) -> Aliases:
        """Returns the aliases of a group; MissingInputError of what is none."""
        if not GROUP.fullmatch(group):
            raise self._unknown(group)
        return Aliases(self.root / group / "aliases")

    def read_alias(self, group: str, alias: str) -> dict[str, Any]:
        """Returns the `version` that an alias points at, and the `previous` ones."""
        try:
            return self.aliases(group).read(alias)
        except FileNotFoundError:
            raise self._unknown(f"{group}@{alias}") from None

    def aliases_of(self, entry: ModelSummary) -> list[str]:
        """Returns the aliases that point at a model."""
        aliases, found = self.aliases(entry.group), []
        for name in aliases.names():
            with contextlib.suppress(FileNotFoundError):  # removed a moment ago
                if aliases.read(name)["version"] == entry.version:
                    found.append(name)
        return found

    def folder_of(self, entry: ModelSummary) -> Path:
        """Returns the folder of a model's artifact, the one that was registered.

        Raises:
            MissingInputError: If there is none.
            RefusedArtifactError: If its manifest is another one.
        """
        folder = self.outputs / entry.artifact
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise MissingInputError(
                f"{entry.model_id}: expected its artifact at {folder}. Received: "
                "nothing. Bring the folder back, or delete the entry."
            )
        if sha256_file(manifest) != entry.manifest_sha256:
            raise RefusedArtifactError(
                f"{entry.model_id}: expected the manifest that was registered in "
                f"{folder}. Received: another one. The artifact was changed since."
            )
        return folder

    def add(self, new: ModelMetadata, *, version: str | None = None) -> ModelMetadata:
        """Adds an entry under its group's next version, or the given one, if unused."""
        group = self.root / new.group
        with self.lock(group):
            there = versions_of(group)
            newest = self._read(there[max(there)]) if there else None
            used = {*there, *self._deleted(new.group)}
            if version is None or parse_version(version) in used:
                version = next_version(new, newest, used)
            entry = dataclasses.replace(new, version=version)
            with new_version(group / version) as aside:
                write_vouched(aside / _ENTRY, entry.to_dict())
        return entry

    def _deleted(self, group: str) -> list[Version]:
        content: Any = {"versions": []}
        with contextlib.suppress(FileNotFoundError):
            content = read_plain_json(self.root / group, _DELETED)
        words = content.get("versions") if isinstance(content, dict) else None
        if not isinstance(words, list):
            raise RefusedArtifactError(
                f"{self.root / group / _DELETED}: expected versions that are not used "
                "again. Received: something else."
            )
        return [v for v in (parse_version(str(word)) for word in words) if v]

    @contextlib.contextmanager
    def lock(self, folder: Path) -> Iterator[None]:
        """Waits for the folder; what a dead writer left in it is swept."""
        make_folder(folder)
        lock = FileLock(folder / ".lock")
        if not lock.acquire(patience_seconds=_LOCK_SECONDS):
            raise utils.InUseError(f"{folder}: {lock.owner()} is writing. Try again.")
        try:
            for pattern in (".tmp-*", "aliases/.tmp-*", "v*/.tmp-*"):
                for leftover in folder.glob(pattern):
                    removed_path(leftover)
            yield
        finally:
            lock.release()

    def change(
        self,
        name: str,
        *,
        refuse: Callable[[ModelMetadata], None] = lambda _: None,
        **changes: Any,
    ) -> ModelMetadata:
        """Replaces fields of an entry; returns what it is now.

        Args:
            name: The model.
            refuse: Raises where the entry may not change; nobody moves an alias of the
                group meanwhile.
            **changes: The fields.
        """
        entry = self.get(name)
        with self.lock(self.root / entry.group):
            entry = self.get(entry.model_id)
            refuse(entry)
            changed = dataclasses.replace(entry, **changes)
            path = self.root / entry.group / entry.version / _ENTRY
            write_vouched(path, changed.to_dict())
        return changed

    def remove(
        self, name: str, *, refuse: Callable[[ModelMetadata], None]
    ) -> ModelMetadata:
        """Removes an entry, whose version is never used again; as `change`."""
        entry = self.get(name)
        group = self.root / entry.group
        with self.lock(group):
            refuse(entry)
            gone = {*self._deleted(entry.group), parse_version(entry.version)}
            words = ["v{}.{}.{}".format(*each) for each in sorted(filter(None, gone))]
            # First: a death in between must not free the number.
            write_json(group / _DELETED, {"versions": words})
            aside = group / f".tmp-{secrets.token_hex(6)}"
            os.rename(group / entry.version, aside)
            fsync_folder(group)
            shutil.rmtree(aside, ignore_errors=True)
        return entry


@contextlib.contextmanager
def new_version(folder: Path) -> Iterator[Path]:
    """Gives a folder to fill, which then takes the name of a version, whole or not."""
    aside = folder.with_name(f".tmp-{secrets.token_hex(6)}")
    try:
        aside.mkdir()
        yield aside
        os.rename(aside, folder)
        fsync_folder(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def versions_of(group: Path) -> dict[Version, Path]:
    """Returns the folder of each version in a group."""
    found = {parse_version(name): group / name for name in _folders(group)}
    return {version: folder for version, folder in found.items() if version}


def _cached(known: Any, stamp: list[int], place: str) -> ModelSummary | None:
    """Returns what the cache has of an entry that is as it was; else None."""
    with contextlib.suppress(RefusedArtifactError, TypeError, ValueError):
        was, values = known
        if was == stamp:
            return ModelSummary.from_dict(values | {"format": FORMAT}, place)
    return None


def _is_below(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def _folders(parent: Path) -> list[str]:
    """Returns the names of the folders in one, without links, in order."""
    try:
        with os.scandir(parent) as found:
            return sorted(e.name for e in found if e.is_dir(follow_symlinks=False))
    except OSError:
        return []


def walk(
    entry: ModelSummary, step: Callable[[ModelSummary], Sequence[ModelSummary]]
) -> list[ModelSummary]:
    """Returns what steps lead to, nearest first, each once; refuses a circle."""
    found: dict[str, ModelSummary] = {}
    path, pending = [entry.model_id], [iter(step(entry))]
    while pending:
        other = next(pending[-1], None)
        if other is None:
            pending.pop()
            path.pop()
        elif other.model_id in path:
            circle = [*path[path.index(other.model_id) :], other.model_id]
            raise ConfigError(
                f"expected no model that is made from itself: {' -> '.join(circle)}"
            )
        elif other.model_id not in found:
            found[other.model_id] = other
            path.append(other.model_id)
            pending.append(iter(step(other)))
    return list(found.values())
