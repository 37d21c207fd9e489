"""Windows as arrays -> a trained network: loaders, optimizers, `Trainer`.

In: windows (num_windows, window_bars, num_features) with one target each, in order of
time, and any Keras model. Out: training files, folders of runs, reports (`trainer`).
A window is training or validation, never both, and the two share no bar.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from config import Config
from files.atomic import atomic_path
from networks.callbacks import StopOnNonFinite, stopping_callbacks
from networks.losses import CombinedLoss
from networks.position_losses import PositionLoss
from preprocessing.scaling import FeatureScaler
from preprocessing.splits import WalkForwardSplit
from sequence_generator import epoch_positions
from utils import ConfigError, DataError

logger = logging.getLogger(__name__)


class ArrayLoader(keras.utils.PyDataset):
    """Batches of windows and targets, in order of time or shuffled anew each epoch.

    Args:
        x: Windows (num_windows, window_bars, num_features).
        y: Targets (num_windows,), or (num_windows, num_outputs).
        batch_size: Windows of a batch; the last one may have fewer.
        shuffle: Whether to shuffle them.
        seed: Seed of the order.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 42,
    ) -> None:
        super().__init__()
        if len(x) != len(y) or not len(x) or batch_size < 1:
            raise DataError(
                "expected one target for each window, at least one, and a batch_size "
                f"of at least 1. Received: {len(x)} windows, {len(y)} targets, "
                f"batch_size={batch_size}"
            )
        self.x, self.y = x, y
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self._epoch, self._order = 0, self._order_of(0)

    def __len__(self) -> int:
        """Returns the number of batches."""
        return -(-len(self.x) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the windows and targets of a batch."""
        first = index * self.batch_size
        rows = self._order[first : first + self.batch_size]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self) -> None:
        """Takes the order of the next epoch."""
        self._epoch += 1
        self._order = self._order_of(self._epoch)

    def _order_of(self, epoch: int) -> np.ndarray:
        count = len(self.x)
        if not self.shuffle:
            return np.arange(count)
        return epoch_positions(count, count, seed=self.seed, epoch=epoch)


def create_data_loaders(
    X: Any,
    y: Any,
    batch_size: int = 32,
    validation_split: float = 0.2,
    *,
    shuffle_train: bool = True,
    normalize: bool = True,
    future_window: int = 1,
) -> tuple[ArrayLoader, ArrayLoader]:
    """Returns training batches, and validation batches of the newest windows.

    Args:
        X: Windows (num_windows, window_bars, num_features), each one bar after another.
        y: Targets (num_windows,).
        batch_size: Windows of a batch.
        validation_split: Share of the windows that validate.
        shuffle_train: Whether training batches are shuffled.
        normalize: Whether features are standardised by the training windows.
        future_window: Bars that a target looks ahead; window and target of training and
            validation share none, so that some windows between them are left out.

    Raises:
        DataError: If too few windows are left to train on.
    """
    ((train, validation),) = create_walk_forward_loaders(
        X,
        y,
        batch_size,
        validation_split,
        num_steps=1,
        shuffle_train=shuffle_train,
        normalize=normalize,
        future_window=future_window,
    )
    return train, validation


def create_walk_forward_loaders(
    X: Any,
    y: Any,
    batch_size: int = 32,
    validation_fraction: float = 0.2,
    num_steps: int = 5,
    **options: Any,
) -> list[tuple[ArrayLoader, ArrayLoader]]:
    """Returns training and validation batches of each step of a walk forward.

    The newest windows validate, in `num_steps` blocks one after another; each is
    trained on all that lies before it.

    Args:
        X: As in `create_data_loaders`.
        y: As in `create_data_loaders`.
        batch_size: Windows of a batch.
        validation_fraction: Share of the windows that validate, over all steps.
        num_steps: Steps.
        **options: `shuffle_train`, `normalize`, `future_window` of
            `create_data_loaders`.

    Raises:
        DataError: If a step would have nothing to train on, or to validate.
    """
    x = np.asarray(X, np.float32)
    targets = np.asarray(y, np.float32).reshape(len(y), -1)
    if x.ndim != 3 or len(x) != len(targets):
        raise DataError(
            "expected windows (num_windows, window_bars, num_features) and a target "
            f"for each. Received: shapes {x.shape} and {np.shape(y)}"
        )
    if not 0 < validation_fraction < 1:
        raise ConfigError(
            "expected a share to validate between 0 and 1. "
            f"Received: {validation_fraction}"
        )
    known = {"shuffle_train": True, "normalize": True, "future_window": 1}
    if unknown := sorted(options.keys() - known.keys()):
        raise ConfigError(f"expected options {', '.join(known)}. Received: {unknown}")
    shuffle, normalize, future = (known | options).values()
    bars = {"window_bars": x.shape[1], "future_window": future}
    left_out = WalkForwardSplit(**bars).purge_bars
    first_train = len(x) - round(validation_fraction * len(x)) - left_out
    splitter = WalkForwardSplit(
        n_splits=num_steps, min_train_size=max(1, first_train), **bars
    )
    loaders = []
    for train, validation in splitter.split(x):
        scaled = _standardised(x, train) if normalize else x
        made = [
            ArrayLoader(scaled[r], targets[r], batch_size=batch_size, shuffle=mixed)
            for r, mixed in ((train, shuffle), (validation, False))
        ]
        loaders.append((made[0], made[1]))
    return loaders


def _standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Returns windows in units of the training windows' mean and deviation."""
    num_features = x.shape[2]
    names = [str(k) for k in range(num_features)]
    rows = x[train].reshape(-1, num_features)
    scaler = FeatureScaler.fit(rows, names, kind="standard", clip_limit=math.inf)
    return scaler.transform(x.reshape(-1, num_features)).reshape(x.shape)


class Trainer:
    """Trains a Keras model on batches of arrays, and leaves it with its best weights.

    Args:
        model: A built model, not yet compiled.
        train_dataloader: Training batches.
        val_dataloader: Validation batches.
        loss_fn: From `networks.losses`, or any Keras loss.
        optimizer: From `create_optimizer`, or any Keras optimizer.
        device: `cpu`, or `gpu` (also `cuda`) where there is one.
        scheduler: From `create_scheduler`; None keeps the learning rate.
        max_grad_norm: Norm to which gradients are clipped together; None does not clip.

    Example:
        >>> train, validation = create_data_loaders(X, y, batch_size=32)
        >>> optimizer = create_optimizer(model, "adam", lr=0.001)
        >>> trainer = Trainer(model, train, validation, MSELoss(), optimizer)
        >>> trainer.fit(epochs=100)["best_val_loss"]
    """

    def __init__(
        self,
        model: keras.Model,
        train_dataloader: ArrayLoader,
        val_dataloader: ArrayLoader,
        loss_fn: keras.losses.Loss,
        optimizer: keras.optimizers.Optimizer,
        device: str = "cpu",
        scheduler: keras.callbacks.Callback | None = None,
        max_grad_norm: float | None = 1.0,
    ) -> None:
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.train_dataloader, self.val_dataloader = train_dataloader, val_dataloader
        self.device, self.scheduler = _device(device), scheduler
        self.optimizer.global_clipnorm = max_grad_norm
        self._patience, self._min_delta = 15, 1e-4
        self._best_file: Path | None = None
        _refuse_unfit_batches(loss_fn, train_dataloader, val_dataloader)

    def set_early_stopping(self, patience: int = 15, min_delta: float = 1e-4) -> None:
        """Ends training after `patience` epochs without a gain above `min_delta`."""
        self._patience, self._min_delta = patience, min_delta

    def set_checkpoint(self, dirpath: str, filename: str = "best_model.keras") -> None:
        """Keeps the best model of a training in a file, written whole."""
        self._best_file = (Path(dirpath) / filename).with_suffix(".keras")

    def fit(
        self,
        epochs: int = 100,
        early_stopping_patience: int | None = None,
        log_interval: int = 1,
    ) -> dict[str, Any]:
        """Trains, and restores the weights of the best epoch by validation loss.

        Args:
            epochs: Most epochs.
            early_stopping_patience: As in `set_early_stopping`; None keeps it.
            log_interval: Epochs from one line of the log to the next.

        Returns:
            `final_epoch`, `best_val_loss`, and `history`: `train_loss`, `val_loss` and
            `learning_rate` of each epoch.

        Raises:
            NonFiniteLossError: If a loss or a weight becomes NaN or infinite.
        """
        config = Config(
            epochs=epochs,
            early_stopping_patience=early_stopping_patience or self._patience,
            early_stopping_min_delta=self._min_delta,
        )
        watch = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: self._note(epoch, logs, log_interval)
        )
        callbacks = [StopOnNonFinite(), watch, *stopping_callbacks(config)]
        if self.scheduler is not None:
            callbacks.append(self.scheduler)
        self._best, self._rates = math.inf, list[float]()
        is_sum = isinstance(self.loss_fn, CombinedLoss)
        with keras.device(self.device):
            self.model.compile(
                self.optimizer,
                self.loss_fn,
                metrics=self.loss_fn.part_metrics() if is_sum else None,
            )
            found = self.model.fit(
                self.train_dataloader,
                validation_data=self.val_dataloader,
                epochs=epochs,
                callbacks=callbacks,
                verbose=0,
            ).history
        return {
            "final_epoch": len(found["loss"]),
            "best_val_loss": min(found["val_loss"]),
            "history": {
                "train_loss": found["loss"],
                "val_loss": found["val_loss"],
                "learning_rate": self._rates,
            },
        }

    def _note(self, epoch: int, logs: Mapping[str, float], log_interval: int) -> None:
        self._rates.append(float(self.optimizer.learning_rate))
        if epoch % log_interval == 0:
            numbers = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
            logger.info("epoch %d: %s", epoch + 1, numbers)
        if logs["val_loss"] < self._best:
            self._best = logs["val_loss"]
            if self._best_file is not None:
                with atomic_path(self._best_file) as temporary:
                    self.model.save(temporary)


def _device(name: str) -> str:
    kind = "gpu" if name.split(":")[0] in ("cuda", "gpu") else name
    if kind == "gpu" and not keras.distribution.list_devices("gpu"):
        logger.warning("device: there is no GPU here, so training is on the CPU")
        return "cpu"
    return kind


def _refuse_unfit_batches(loss: keras.losses.Loss, *loaders: ArrayLoader) -> None:
    """Refuses batches in which a loss of positions has no deviation, or no order."""
    parts = loss.losses if isinstance(loss, CombinedLoss) else (loss,)
    if not any(isinstance(part, PositionLoss) for part in parts):
        return
    for loader in loaders:
        smallest = len(loader.x) % loader.batch_size or loader.batch_size
        if smallest < 2 or loader.shuffle:
            raise ConfigError(
                f"{loss.name}: expected batches of at least 2 consecutive bars. "
                f"Received: one of {smallest}, shuffle={loader.shuffle}. Use "
                "shuffle_train=False and another batch_size."
            )
