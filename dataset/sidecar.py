"""The description beside a training file: its parameters, and the digest of its bytes.

In: what `<file>.json` says. Out: the columns (`dataset.training_file`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.atomic import sha256_file
from files.strict import read_json, write_json
from utils import DataError

SIDECAR_FORMAT = 1


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Returns where the parameters and the digest of a training file are kept."""
    return Path(f"{os.fspath(path)}.json")


def write_sidecar(path: str | os.PathLike[str], description: Mapping[str, Any]) -> None:
    """Writes the description of the training file that lies at `path`."""
    write_json(sidecar_path(path), describe_file(path, description))


def describe_file(
    path: str | os.PathLike[str], description: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the content of a sidecar: the description, and the digest of a file."""
    content = {"format": SIDECAR_FORMAT, "sha256": sha256_file(path)}
    return content | dict(description)


def read_sidecar(
    path: str | os.PathLike[str], *, digest: str | None = None
) -> dict[str, Any] | None:
    """Returns the sidecar of a training file, its digest verified; None without one.

    Args:
        path: The training file.
        digest: SHA-256 of the bytes that are read (`tables.Columns.digest`); None reads
            the file for it.

    Raises:
        DataError: If the sidecar is damaged or names another content.
    """
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return None
    content = read_json(sidecar)
    if not isinstance(content, dict) or content.get("format") != SIDECAR_FORMAT:
        raise DataError(
            f"{sidecar}: expected the description of a training file, format "
            f"{SIDECAR_FORMAT}. Build the file again, or delete the description."
        )
    digest = digest or sha256_file(path)
    if content.get("sha256") != digest:
        raise DataError(
            f"{path}: expected sha256 {content.get('sha256')!s:.64} (from "
            f"{sidecar.name}). "
            f"Received: {digest}. The file was damaged or changed after it was built: "
            "build it again, or delete the .json to use it as it is."
        )
    parameters = content.setdefault("parameters", {})
    if not isinstance(parameters, dict):
        raise DataError(
            f"{sidecar}: expected parameters by name. Received: {parameters!r:.100}"
        )
    # JSON has no tuples, a configuration has no lists.
    content["parameters"] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    return content
