"""Arrays <-> the bytes of an `.npz`: nothing to trust or to run.

In: trees and linear models, as a zip of `.npy` members, not packed, and `header.json`;
a state that a run goes on from, under a digest of its bytes; how large they may be.
Out: whether the arrays are a model (`array_models`), whether the bytes are the
published ones (`manifest`), what a state is: of a network (`networks.checkpoints`), of
trees (`models.kept_rounds`).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from artifacts.array_models import ArrayModel, Linear, Trees, expect
from artifacts.manifest import parse_json, refuse_broken
from files.atomic import atomic_write
from files.strict import parse_npy, unzip_stored
from utils import RefusedArtifactError

SUFFIX = ".npz"
MAX_MODEL_BYTES = 2**30
HEADER = b"trainer checkpoint 1 "
MAX_CHECKPOINT_BYTES = 8 * 2**30

_HEADER = "header.json"
_FORMAT = 1
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_KINDS: dict[str, type[ArrayModel]] = {"trees": Trees, "linear": Linear}


def dump_arrays(model: ArrayModel) -> bytes:
    """Returns the bytes of a model's file; equal models give equal bytes."""
    kind = next(kind for kind, each in _KINDS.items() if isinstance(model, each))
    facts = {name: getattr(model, name) for name in _facts(kind)}
    header = {"format": _FORMAT, "kind": kind} | facts
    members = {_HEADER: json.dumps(header).encode()}
    for name in model.arrays():
        stream = io.BytesIO()
        np.save(stream, getattr(model, name), allow_pickle=False)
        members[f"{name}.npy"] = stream.getvalue()
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), data)
    return result.getvalue()


def load_arrays(data: bytes, where: object) -> ArrayModel:
    """Returns the model in the bytes of such a file, with every index checked.

    Raises:
        RefusedArtifactError: Naming `where`, and what is not as expected.
    """
    with refuse_broken(f"{where}: expected a model of plain arrays"):
        members = dict(unzip_stored(data))
        header = parse_json(members.pop(_HEADER, b""), where)
        expect(isinstance(header, dict), "a header")
        kind = str(header.pop("kind", None))
        expect(kind in _KINDS, f"one of {', '.join(_KINDS)} in the header")
        expect(header.pop("format", None) == _FORMAT, f"format {_FORMAT}")
        expect(sorted(header) == sorted(_facts(kind)), f"the header of {kind}")
        names = [f"{name}.npy" for name in _KINDS[kind].arrays()]
        expect(sorted(members) == sorted(names), f"the arrays of {kind}")
        for name, content in members.items():
            header[name.removesuffix(".npy")] = parse_npy(content, name)
        return _KINDS[kind](**header)


def _facts(kind: str) -> list[str]:
    """Returns what the header says beside format and kind."""
    model = _KINDS[kind]
    return [each.name for each in fields(model) if each.name not in model.arrays()]


# A state that a run goes on from


def write_checkpoint(path: Path, content: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under a digest of their bytes, whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **content)
    data = buffer.getbuffer()
    digest = hashlib.sha256(data).hexdigest().encode()
    atomic_write(path, HEADER + digest + b"\n" + data)


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_checkpoint` wrote; refuses any other bytes."""
    if path.stat().st_size > MAX_CHECKPOINT_BYTES:
        raise RefusedArtifactError(f"{path}: expected a checkpoint of at most 8 GiB.")
    content = path.read_bytes()
    header, _, data = content.partition(b"\n")
    digest = hashlib.sha256(data).hexdigest().encode()
    if header != HEADER + digest:
        raise RefusedArtifactError(
            f"{path}: expected a whole checkpoint. "
            f"Received: {len(content)} bytes whose digest does not match."
        )
    # A digest is no signature: the rest may be hostile.
    with refuse_broken(f"{path}: expected plain arrays"):
        return {
            name.removesuffix(".npy"): parse_npy(member, name)
            for name, member in unzip_stored(data)
        }
