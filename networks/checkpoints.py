"""The complete state of a training, saved after every epoch and restored bit for bit.

In: weights, optimizer, dropout seeds, callbacks' memory, history, epoch; one file each.
Out: whether a run may be resumed here (`trainer`), the folder's life
(`artifacts.run_folder`).

A checkpoint is a line with the SHA-256 of what follows, and an npz without pickles.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from artifacts.manifest import refuse_broken
from files.atomic import atomic_write
from files.strict import parse_npy, unzip_stored
from networks.callbacks import Logs
from utils import RefusedArtifactError

logger = logging.getLogger(__name__)

HEADER = b"trainer checkpoint 1 "
MAX_CHECKPOINT_BYTES = 8 * 2**30
KEPT = 2

# What each stock callback forgets in `on_train_begin`.
_FIELDS = {
    "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best",),
}


class CompleteState(keras.callbacks.Callback):
    """Saves the complete state after each epoch; restores one before the first.

    Must be the last callback: the stock ones reset themselves in `on_train_begin`.

    Args:
        folder: Where checkpoints go: `epoch_00003.ckpt` was written after 3 epochs.
        others: The callbacks whose memory belongs to the state.
        state: From `read_checkpoint`, restored when training begins; None for none.
    """

    def __init__(
        self,
        folder: Path,
        others: Sequence[keras.callbacks.Callback],
        *,
        state: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.others = [item for item in others if type(item).__name__ in _FIELDS]
        self.state = state
        self.seconds: list[float] = []

    def on_train_begin(self, logs: Logs = None) -> None:
        """Puts back weights, optimizer, callbacks' memory and history."""
        if self.state is None:
            return
        restore_variables(self.model, self.state)
        for index, callback in enumerate(self.others):
            for name in _FIELDS[type(callback).__name__]:
                key = f"callback_{index}_{name}"
                if key in self.state:
                    setattr(callback, name, self.state[key].item())
            weights = _numbered(self.state, f"callback_{index}_weights_")
            if weights:
                callback.best_weights = weights
        self.model.history.history = read_history(self.state)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes the state, then drops all but the newest files."""
        started = time.perf_counter()
        content = {
            f"variable_{index}": variable.numpy()
            for index, variable in enumerate(_variables(self.model))
        }
        for index, callback in enumerate(self.others):
            for name in _FIELDS[type(callback).__name__]:
                value = getattr(callback, name)
                if value is not None:
                    content[f"callback_{index}_{name}"] = np.asarray(value)
            for j, weight in enumerate(getattr(callback, "best_weights", None) or ()):
                content[f"callback_{index}_weights_{j}"] = weight
        # Keras's own history is written after the callbacks: this epoch is added here.
        history = {k: list(v) for k, v in self.model.history.history.items()}
        for name, value in (logs or {}).items():
            history.setdefault(name, []).append(float(value))
        exact = {name: [v.hex() for v in values] for name, values in history.items()}
        content["history"] = np.asarray(json.dumps(exact))
        content["epochs_done"] = np.asarray(epoch + 1)
        content["is_finished"] = np.asarray(bool(self.model.stop_training))
        write_checkpoint(self.folder / f"epoch_{epoch + 1:05d}.ckpt", content)
        for old in list_checkpoints(self.folder)[:-KEPT]:
            old.unlink()
        self.seconds.append(time.perf_counter() - started)


def _variables(model: keras.Model) -> list[Any]:
    """Returns every variable, dropout seeds and the optimizer's included."""
    return [*model.variables, *model.optimizer.variables]


def _numbered(state: Mapping[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    count = sum(key.startswith(prefix) for key in state)
    names = [f"{prefix}{j}" for j in range(count)]
    if any(name not in state for name in names):
        raise RefusedArtifactError(f"expected {count} arrays {prefix}0, 1, ...")
    return [state[name] for name in names]


def restore_variables(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Assigns a checkpoint's variables to a compiled model; refuses others'."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    variables = _variables(model)
    values = _numbered(state, "variable_")
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [value.shape for value in values]:
        raise RefusedArtifactError(
            f"expected a checkpoint of this network, {len(shapes)} variables. "
            f"Received: one of {len(values)} variables or of other shapes."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def restore_best(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Gives the model the weights of its best epoch, as early stopping would."""
    for key in state:
        if key.endswith("_weights_0"):
            model.set_weights(_numbered(state, key.removesuffix("0")))
            return


def read_history(state: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Returns metric name -> one value an epoch, bit for bit."""
    exact = json.loads(str(state["history"]))
    return {k: [float.fromhex(v) for v in values] for k, values in exact.items()}


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints of a folder, oldest first."""
    return sorted(folder.glob("epoch_*.ckpt"))


def read_newest(folder: Path) -> dict[str, np.ndarray] | None:
    """Returns the newest checkpoint that is whole, or None where there is none."""
    for path in reversed(list_checkpoints(folder)):
        try:
            state = read_checkpoint(path)
            _check_state(state, path)
            return state
        except RefusedArtifactError as error:
            logger.warning("%s", error)
    return None


def _check_state(state: Mapping[str, np.ndarray], path: Path) -> None:
    with refuse_broken(f"{path}: expected the state of a training"):
        done, is_finished = state["epochs_done"].item(), state["is_finished"].item()
        lengths = {len(values) for values in read_history(state).values()}
        is_whole = type(done) is int and isinstance(is_finished, bool)
        if not is_whole or lengths != {done}:
            raise ValueError(f"{done!r:.50} epochs, histories of {lengths}")


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
