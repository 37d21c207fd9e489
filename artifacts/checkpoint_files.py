"""Arrays under a digest of their bytes: the file of a state that a run goes on from.

In: a line with the SHA-256 of what follows, and an npz without pickles. Out: what the
arrays are: a network's state (`networks.checkpoints`), trees (`models.kept_rounds`).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from artifacts.manifest import refuse_broken
from files.atomic import atomic_write
from files.strict import parse_npy, unzip_stored
from utils import RefusedArtifactError

HEADER = b"trainer checkpoint 1 "
MAX_CHECKPOINT_BYTES = 8 * 2**30


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
