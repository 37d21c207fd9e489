"""The complete state of a training, saved at a step and restored bit for bit.

In: weights, optimizer, dropout seeds, callbacks' memory, history, the sums of the
epoch's metrics, epoch and step; one file each. Out: whether a run may be resumed here
(`trainer`), the folder's life (`artifacts.run_folder`), the file's form
(`artifacts.array_files`).
"""

from __future__ import annotations

import json
import logging
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import keras
import numpy as np

from artifacts.array_files import read_checkpoint, write_checkpoint
from artifacts.manifest import refuse_broken
from networks.callbacks import Logs
from utils import RefusedArtifactError

logger = logging.getLogger(__name__)

KEPT = 2

# What each stock callback forgets in `on_train_begin`, and ours knows of its epochs.
_FIELDS = {
    "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best",),
    "TimeLimit": ("used_seconds",),
}


class CompleteState(keras.callbacks.Callback):
    """Saves the complete state after each epoch, and now and then within one.

    Restores one before the first step. Must come after all callbacks but
    `StopOnSignal`: the stock ones reset themselves in `on_train_begin`.

    Args:
        folder: Where checkpoints go: `epoch_00003.ckpt` was written after 3 epochs,
            `epoch_00003_step_0000012.ckpt` after 12 steps more.
        others: The callbacks whose memory belongs to the state.
        state: From `read_newest`, restored when training begins; None for none.
        minutes: Least time between two states; 0 saves after every step.
    """

    def __init__(
        self,
        folder: Path,
        others: Sequence[keras.callbacks.Callback],
        *,
        state: Mapping[str, np.ndarray] | None = None,
        minutes: float,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.others = [item for item in others if type(item).__name__ in _FIELDS]
        self.state = state
        self.minutes = minutes
        self.seconds: list[float] = []
        self._saved_at = 0.0
        self._epoch, self._steps = 0, 0
        self._sums: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs = None) -> None:
        """Puts back weights, optimizer, callbacks' memory and history."""
        self._saved_at = monotonic()
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

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Puts back the metrics' sums of an epoch begun before, and passes its steps.

        Keras sets them to 0 at its begin, and counts steps from there.
        """
        self._epoch, self._steps, state = epoch, 0, self.state
        if state is None or epoch != int(state["epochs_done"]):
            return
        self._steps = steps_done(state)
        if self._steps > self.params["steps"]:
            raise RefusedArtifactError(
                f"expected a checkpoint within {self.params['steps']} steps. "
                f"Received: one after {self._steps}."
            )
        if self._steps:
            _assign(_sums(self.model), _numbered(state, "metric_"))
            _pass_steps(self.model, self._steps)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Counts the step; writes the state when it is time."""
        if batch + 1 > self._steps:
            self._steps = batch + 1
            if self._is_due():
                self.save_within_epoch()

    def on_test_begin(self, logs: Logs = None) -> None:
        """Notes the sums of the epoch, which its validation sets to 0."""
        self._sums = [variable.numpy() for variable in _sums(self.model)]

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Writes the state before the validation when it is time."""
        if self._is_due():
            self.save_within_epoch()

    def on_test_end(self, logs: Logs = None) -> None:
        """Forgets the noted sums."""
        self._sums = None

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes the state."""
        # Keras's own history is written after the callbacks: this epoch is added here.
        history = {k: list(v) for k, v in self.model.history.history.items()}
        for name, value in (logs or {}).items():
            history.setdefault(name, []).append(float(value))
        is_finished = np.asarray(bool(self.model.stop_training))
        self._write(f"epoch_{epoch + 1:05d}", epoch + 1, history, is_finished)

    def save_within_epoch(self) -> None:
        """Writes the state after the last whole step."""
        sums = self._sums or [variable.numpy() for variable in _sums(self.model)]
        more = {f"metric_{index}": value for index, value in enumerate(sums)}
        more["steps_done"] = np.asarray(self._steps)
        name = f"epoch_{self._epoch:05d}_step_{self._steps:07d}"
        history = self.model.history.history
        self._write(name, self._epoch, history, np.asarray(False), more)

    def _is_due(self) -> bool:
        return monotonic() - self._saved_at >= 60 * self.minutes

    def _write(
        self,
        name: str,
        epochs_done: int,
        history: Mapping[str, Sequence[float]],
        is_finished: np.ndarray,
        more: Mapping[str, np.ndarray] = types.MappingProxyType({}),
    ) -> None:
        """Writes one file, then drops all but the newest."""
        started = time.perf_counter()
        content = {
            f"variable_{index}": variable.numpy()
            for index, variable in enumerate(_variables(self.model))
        }
        for index, callback in enumerate(self.others):
            for field in _FIELDS[type(callback).__name__]:
                value = getattr(callback, field)
                if value is not None:
                    content[f"callback_{index}_{field}"] = np.asarray(value)
            for j, weight in enumerate(getattr(callback, "best_weights", None) or ()):
                content[f"callback_{index}_weights_{j}"] = weight
        exact = {key: [v.hex() for v in values] for key, values in history.items()}
        content["history"] = np.asarray(json.dumps(exact))
        content["epochs_done"] = np.asarray(epochs_done)
        content["is_finished"] = is_finished
        write_checkpoint(self.folder / f"{name}.ckpt", {**content, **more})
        for old in list_checkpoints(self.folder)[:-KEPT]:
            old.unlink()
        self.seconds.append(time.perf_counter() - started)
        self._saved_at = monotonic()


def build_metrics(model: keras.Model, targets: np.ndarray) -> None:
    """Makes the metrics' sums, which Keras does in the first step.

    Args:
        model: Compiled.
        targets: Some of its targets, (num_windows,).
    """
    outputs = model.network.output_shape[1:]
    predicted = np.full((len(targets), *outputs), 1 / max(outputs), np.float32)
    model.compute_metrics(None, targets, predicted)


def steps_done(state: Mapping[str, np.ndarray]) -> int:
    """Returns the steps of the epoch that a state was saved within; 0 between two."""
    return int(state.get("steps_done", 0))


def _sums(model: keras.Model) -> list[Any]:
    return [variable for metric in model.metrics for variable in metric.variables]


def _pass_steps(model: keras.Model, count: int) -> None:
    """Lets the first steps of an epoch do nothing: they were done before."""
    train, logs, left = model.train_function, model.get_metrics_result(), count

    def pass_step(_: Any) -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left == 0:
            model.train_function = train
        return logs

    model.train_function = pass_step


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
    _assign(_variables(model), _numbered(state, "variable_"))


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
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
        is_whole &= steps_done(state) >= 0
        if not is_whole or lengths != ({done} if done else set()):
            raise ValueError(f"{done!r:.50} epochs, histories of {lengths}")
