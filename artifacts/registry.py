"""The registry: which models there are, in which versions, and which one is in use.

In: registering, aliases, what depends on what, choosing among models. Out: where
entries lie (`entry_store`), what one says (`entries`), moving models between machines
(`exchange`), the command line (`artifacts.__main__`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import utils
from artifacts import entries, run_folder
from artifacts.aliases import require_word
from artifacts.artifact import Artifact, Problem, load_artifact
from artifacts.entries import (
    ACTIVE,
    ARCHIVED,
    HIGHER_IS_BETTER,
    ModelMetadata,
    ModelSummary,
    parse_version,
    sorted_models,
)
from artifacts.entry_store import EntryStore, walk
from artifacts.evaluations import read_evaluations
from artifacts.grades import grade_of, parse_grade
from artifacts.publication import followed
from files.atomic import sha256_file
from utils import ConfigError, MissingInputError

logger = logging.getLogger(__name__)

CHAMPION = "champion"


class Registry(EntryStore):
    """Registered models below one folder of outputs.

    Args:
        outputs_dir: The folder of outputs, whose artifacts are registered.

    Example:
        >>> registry = Registry("outputs")
        >>> entry = registry.register("outputs/models/ETHUSDT/lstm/latest-1m")
        >>> registry.set_alias(entry.model_id, "champion")
        >>> registry.open("lstm/ETHUSDT-1m-signal@champion").path
    """

    def register(
        self,
        artifact: str | os.PathLike[str],
        *,
        alias: str | None = None,
        dependencies: Sequence[str] = (),
        tags: Sequence[str] = (),
        notes: str = "",
    ) -> ModelMetadata:
        """Registers a published artifact under the next version of its group.

        Args:
            artifact: A folder below `outputs_dir`, or a link to one.
            alias: Also points this alias at it.
            dependencies: Ids of the models that it was made from, beside those that
                its metadata name.
            tags: Words to find it by, beside those of its configuration.
            notes: A line for readers.

        Raises:
            MissingInputError: If there is no such artifact, or no such dependency.
            RefusedArtifactError: If a file is not what the manifest says.
            ConfigError: If it lies outside the folder of outputs, or a word is none.
        """
        for word in tags:
            require_word(word)
        if alias is not None:
            require_word(alias, is_alias=True)
        opened = load_artifact(artifact)
        outputs = self.outputs.resolve()
        if not opened.path.is_relative_to(outputs):
            raise ConfigError(
                f"expected an artifact below {outputs}, whose registry this is. "
                f"Received: {opened.path}. Name its --outputs-dir, or import it."
            )
        dependencies = [*dict.fromkeys([*opened.parents, *dependencies])]
        new = entries.describe(
            opened,
            place=opened.path.relative_to(outputs).as_posix(),
            manifest_sha256=sha256_file(opened.path / run_folder.MANIFEST),
            dependencies=dependencies,
            tags=tags,
            notes=notes,
        )
        # Nobody deletes a parent meanwhile.
        with self.lock(self.root) if dependencies else contextlib.nullcontext():
            for name in dependencies:
                self._refuse_unfit_parent(name)
            entry = self.add(new)
        if alias:
            self.set_alias(entry.model_id, alias)
        return entry

    def _refuse_unfit_parent(self, name: str) -> None:
        parent = self.get(name)
        if parent.model_id != name or parent.status != ACTIVE:
            raise ConfigError(
                f"dependencies: expected ids of active models. Received: {name!r}, "
                f"which is {parent.model_id}, {parent.status}"
            )

    def open(self, name: str) -> Artifact:
        """Opens the artifact of a model that is what it was when it was registered.

        Raises:
            RefusedArtifactError: If the artifact was changed since.
        """
        return load_artifact(self.folder_of(self.get(name)))

    def regrade(self, name: str) -> ModelMetadata:
        """Grades a model again, with what it did on later days; see `grades`."""
        entry = self.get(name)
        later = [
            each
            for each in read_evaluations(self.outputs, entry.run_id)
            if each["lineage"].get("manifest_sha256") == entry.manifest_sha256
        ]
        results = self.open(name).read_listed_json(entries.REPORT)
        graded = grade_of(results, evaluations=later)
        return self.change(
            name, performance_grade=str(graded.grade), grade_reason=graded.reason
        )

    def archive(self, name: str) -> ModelMetadata:
        """Takes a model out of use; refused while an alias points at it."""
        return self.change(name, refuse=self._refuse_users, status=ARCHIVED)

    def restore(self, name: str) -> ModelMetadata:
        """Takes an archived model back into use."""
        return self.change(name, status=ACTIVE)

    def delete(self, name: str, *, with_artifact: bool = False) -> ModelMetadata:
        """Removes an entry; its version is never used again.

        Args:
            name: The model.
            with_artifact: Also removes its folder, where no other entry has it.

        Raises:
            ConfigError: If a model depends on it or an alias points at it.
            RefusedArtifactError: If a folder is to go that is not what was registered.
        """
        with self.lock(self.root):  # nobody registers a child meanwhile
            entry = self.get(name)
            folder = self._own_folder(entry) if with_artifact else None
            self.remove(name, refuse=self._refuse_in_use)
        if folder is not None:
            aside = folder.with_name(f".tmp-{secrets.token_hex(6)}-{folder.name}")
            os.rename(folder, aside)  # whole or gone
            shutil.rmtree(aside, ignore_errors=True)
        return entry

    def _own_folder(self, entry: ModelSummary) -> Path | None:
        """Returns the folder of a model, where there is one and no other has it."""
        num_users = [each.artifact for each in self.entries()].count(entry.artifact)
        is_there = (self.outputs / entry.artifact).exists()
        return self.folder_of(entry) if is_there and num_users == 1 else None

    def _refuse_in_use(self, entry: ModelSummary) -> None:
        self._refuse_users(entry, *self.dependants(entry.model_id))

    def _refuse_users(self, entry: ModelSummary, *dependants: ModelSummary) -> None:
        users = [f"alias {each}" for each in self.aliases_of(entry)]
        if users := [*users, *(each.model_id for each in dependants)]:
            raise ConfigError(
                f"{entry.model_id}: expected no alias and no model that depends on it. "
                f"Received: {', '.join(users)}. Move, remove or delete these first."
            )

    def set_alias(self, name: str, alias: str = CHAMPION) -> ModelMetadata:
        """Points an alias of the model's group at it; `rollback` knows the one before.

        Raises:
            ConfigError: If the model is archived, or the alias is no word.
        """
        require_word(alias, is_alias=True)
        group = self.get(name).group
        with self.lock(self.root / group):
            entry = self.get(name)
            if entry.status != ACTIVE:
                raise ConfigError(
                    f"{entry.model_id}: expected an active model for alias {alias!r}. "
                    f"Received: one that is {entry.status}. Restore it first."
                )
            aliases, before = self.aliases(group), []
            if alias in aliases.names():
                now = aliases.read(alias)
                before = [*now["previous"], now["version"]]
            if before[-1:] != [entry.version]:
                aliases.point(alias, entry.version, before)
        return entry

    def remove_alias(self, name: str, alias: str) -> ModelMetadata:
        """Takes an alias from a model; MissingInputError if it does not point at it."""
        entry = self.get(name)
        with self.lock(self.root / entry.group):
            if self.read_alias(entry.group, alias)["version"] != entry.version:
                raise MissingInputError(
                    f"{entry.model_id}: expected one of its aliases, "
                    f"{', '.join(self.aliases_of(entry)) or 'none'}. "
                    f"Received: {alias!r:.100}"
                )
            self.aliases(entry.group).remove(alias)
        return entry

    def rollback(self, group: str, alias: str = CHAMPION) -> ModelMetadata:
        """Points an alias at the newest earlier model that is still active.

        Raises:
            ConfigError: If there is none.
        """
        require_word(alias, is_alias=True)
        self.read_alias(group, alias)  # whether there is one
        with self.lock(self.root / group):
            previous = [*self.read_alias(group, alias)["previous"]]
            while previous:
                version = previous.pop()
                with contextlib.suppress(MissingInputError):
                    entry = self.get(f"{group}@{version}")
                    if entry.status == ACTIVE:
                        self.aliases(group).point(alias, version, previous)
                        return entry
        raise ConfigError(
            f"{group}@{alias}: expected an earlier active model to go back to. "
            "Received: none."
        )

    # Lineage

    def dependants(self, name: str) -> list[ModelSummary]:
        """Returns every model that was made from this one, however indirectly."""
        known = self.entries()
        return walk(
            self.get(name),
            lambda entry: [e for e in known if entry.model_id in e.dependencies],
        )

    def dependencies(self, name: str) -> list[ModelSummary]:
        """Returns every model that this one was made from, however indirectly.

        Raises:
            MissingInputError: If one is gone.
            ConfigError: If a model depends on itself.
        """
        return walk(
            self.get(name), lambda entry: [self.get(n) for n in entry.dependencies]
        )

    def validate(self, name: str) -> list[Problem]:
        """Returns what is wrong with a model's files and those of all its ancestors."""
        problems = []
        for entry in [self.get(name), *self.dependencies(name)]:
            try:
                self.open(entry.model_id)
            except utils.UserError as error:
                problems.append(Problem.of(entry.model_id, error))
        return problems

    def validate_all(self) -> list[Problem]:
        """Returns what is wrong with any entry, its files, its parents, any alias."""
        problems = []
        for name in self._places():
            try:
                name = self._read(self.root / name).model_id
                self.dependencies(name)  # whether all are there
                self.open(name)
            except utils.UserError as error:
                problems.append(Problem.of(name, error))
        for path in sorted(self.root.glob("*/*/aliases/[!.]*.json")):
            name = f"{path.parts[-4]}/{path.parts[-3]}@{path.stem}"
            try:
                self.get(name)
            except utils.UserError as error:
                problems.append(Problem.of(name, error))
        return problems

    # Choosing

    def list(
        self,
        *,
        family: str | None = None,
        pair: str | None = None,
        timeframe: str | None = None,
        target: str | None = None,
        least_grade: str | None = None,
        tags: Iterable[str] = (),
        status: str | None = ACTIVE,
        sort: str = "created_at",
        limit: int | None = None,
    ) -> list[ModelSummary]:
        """Returns the models that have all that is asked for.

        Args:
            family: Model family.
            pair: Trading pair, or one of a pool's.
            timeframe: Length of a bar.
            target: What is predicted.
            least_grade: Grade, or a better one; `ungraded` models have none.
            tags: All of them.
            status: `active`, `archived`, or None for both.
            sort: `created_at` (newest first), `grade`, `skill` (best first), or a
                metric, the better first.
            limit: Most models.

        Raises:
            ConfigError: If a grade, a name to sort by, or the limit is none.
        """
        if limit is not None and limit < 1:
            raise ConfigError(f"limit: expected at least 1. Received: {limit}")
        least = least_grade and parse_grade(least_grade)
        found = [
            entry
            for entry in self.entries(skips_broken=True)
            if family in (None, entry.model_type)
            and (pair in (None, entry.market[0]) or pair in self._pooled_pairs(entry))
            and timeframe in (None, entry.market[1])
            and target in (None, entry.market[2])
            and status in (None, entry.status)
            and (not least or entry.grade.is_at_least(least))
            and set(tags) <= set(entry.tags)
        ]
        return sorted_models(found, sort)[:limit]

    def best(self, metric: str, **filters: Any) -> ModelSummary:
        """Returns the model with the best value of a metric; filters as in `list`.

        Raises:
            ConfigError: If it is not known which direction of the metric is better.
            MissingInputError: If no model has the metric.
        """
        if metric not in HIGHER_IS_BETTER:
            raise ConfigError(
                f"metric: expected one of {', '.join(HIGHER_IS_BETTER)}. "
                f"Received: {metric!r}.{utils.did_you_mean(metric, HIGHER_IS_BETTER)}"
            )
        found = self.list(**filters, sort=metric)
        if not found or found[0].metrics.get(metric) is None:
            raise MissingInputError(f"{self.root}: expected a model with {metric}.")
        return found[0]


def open_model(where: str | os.PathLike[str]) -> Artifact:
    """Opens an artifact by its folder, or by its name in a registry.

    Args:
        where: A folder; or an id, or `family/PAIR-timeframe-target@alias`, of the
            registry in `outputs`, of another one with its folder of outputs in front.

    Raises:
        MissingInputError: If there is neither.
        RefusedArtifactError: If a file is not what it was.
    """
    found = _named(where)
    return load_artifact(where) if found is None else found[0].open(found[1])


def model_folder(where: str | os.PathLike[str]) -> Path:
    """Returns the folder that `open_model` would open now; nothing in it is read."""
    found = _named(where)
    if found is None:
        return followed(Path(where)).resolve()
    registry, name = found
    return registry.folder_of(registry.get(name)).resolve()


def _named(where: str | os.PathLike[str]) -> tuple[Registry, str] | None:
    """Returns the registry and the name that words are; None of a folder."""
    parts = Path(where).parts
    # A word that is no folder is a part of a name, or a slip: those near it are told.
    is_word = len(parts) == 1 and not Path(where).exists()
    if not (names_registered(where) or (is_word and Registry("outputs").root.is_dir())):
        return None
    own = 2 if "@" in parts[-1] else 1
    return Registry(Path(*(parts[:-own] or ["outputs"]))), "/".join(parts[-own:])


def names_registered(where: str | os.PathLike[str]) -> bool:
    """Whether words are no path but the id of a registered model, or have an alias."""
    name = Path(where).name
    is_name = "@" in name or parse_version(name.rpartition("_")[2]) is not None
    return is_name and not Path(where).exists()
