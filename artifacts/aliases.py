"""Aliases of a group of models: a word -> the version that is in use by it.

In: a folder of small files, each with its version and those before. Out: which models
there are, who may change an alias, and when (`registry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifacts.entries import parse_version
from artifacts.manifest import read_plain_json
from files.atomic import fsync_folder
from files.strict import write_json
from settings.run_fields import ALIAS, WORD
from utils import ConfigError, RefusedArtifactError

_MAX_HISTORY = 100


@dataclass(frozen=True)
class Aliases:
    """The aliases of one group; whoever changes them has the group's lock.

    Args:
        folder: `{group}/aliases`.
    """

    folder: Path

    def read(self, alias: str) -> dict[str, Any]:
        """Returns the `version` that an alias points at, and the `previous` ones.

        Raises:
            FileNotFoundError: If there is no such alias.
            RefusedArtifactError: If its file is none of the registry's.
        """
        if not WORD.fullmatch(alias):
            raise FileNotFoundError(alias)
        content = read_plain_json(self.folder, f"{alias}.json")
        content = content if isinstance(content, dict) else {}
        version, previous = content.get("version"), content.get("previous")
        if not isinstance(previous, list) or not parse_version(str(version)):
            raise RefusedArtifactError(
                f"{self.folder / alias}.json: expected an alias of the registry. "
                "Received: something else."
            )
        return content

    def names(self) -> list[str]:
        """Returns every alias there is; none that is being written."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.json"))

    def point(self, alias: str, version: str, previous: Sequence[str]) -> None:
        """Makes an alias name a version, and know what it named before."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = list(previous)[-_MAX_HISTORY:]
        content = {"version": version, "previous": kept, "changed_at": now}
        write_json(self.folder / f"{alias}.json", content)

    def remove(self, alias: str) -> None:
        """Removes an alias that is there."""
        (self.folder / f"{alias}.json").unlink()
        fsync_folder(self.folder)


def require_word(word: str, *, is_alias: bool = False) -> None:
    """Refuses what is no tag, or no alias."""
    if not (ALIAS if is_alias else WORD).fullmatch(word):
        raise ConfigError(
            "expected a tag or an alias of up to 64 letters, digits, '.', '_' and '-', "
            "the first a letter or a digit; an alias that is no version. "
            f"Received: {word!r:.100}"
        )
