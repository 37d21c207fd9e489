"""Aliases of a group of models: a word -> the version that is in use by it.

In: a folder of small files, each with its version and those before. Out: which models
there are, who may change an alias, and when (`registry`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifacts import manifest
from artifacts.entries import parse_version
from files.atomic import fsync_folder
from files.strict import to_jsonable, write_json
from settings.run_fields import ALIAS, WORD
from utils import ConfigError, RefusedArtifactError

_MAX_HISTORY = 100
_MAX_BYTES = 16 * 2**20
_DIGEST = "entry_sha256"


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


def read_plain_json(folder: Path, name: str) -> Any:
    """Returns what a small plain file below a folder says; refuses a link or a pipe.

    Raises:
        FileNotFoundError: If there is none.
        RefusedArtifactError: If it is not plain, too large, or no strict JSON.
    """
    with manifest.open_plain(folder, name) as stream:
        # The buffer is as large as what is asked for.
        size = os.fstat(stream.fileno()).st_size
        data = stream.read(min(size, _MAX_BYTES) + 1)
    if len(data) > _MAX_BYTES:
        raise RefusedArtifactError(
            f"{folder / name}: expected at most {_MAX_BYTES} bytes."
        )
    return manifest.parse_json(data, folder / name)


def write_vouched(path: Path, content: dict[str, Any]) -> None:
    """Writes what `read_vouched` reads: JSON with the digest of all the rest."""
    plain = to_jsonable(content)
    write_json(path, plain | {_DIGEST: _digest(plain)})


def read_vouched(folder: Path, name: str) -> Any:
    """Returns what `write_vouched` wrote; without a digest, what is there.

    Raises:
        FileNotFoundError: If there is none.
        RefusedArtifactError: If it was changed since, or as `read_plain_json`.
    """
    content = read_plain_json(folder, name)
    if isinstance(content, dict) and _DIGEST in content:
        digest = content.pop(_DIGEST)
        if digest != _digest(content):
            raise RefusedArtifactError(
                f"{folder / name}: expected what the registry wrote, sha256 "
                f"{digest!s:.64}. Received: another content. It was changed by hand: "
                "take that back, or delete its folder and register the artifact again."
            )
    return content


def _digest(plain: dict[str, Any]) -> str:
    # Not `sha256_json`: what was parsed needs no conversion, in thousands of entries.
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
