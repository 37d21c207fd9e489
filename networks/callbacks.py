"""What watches a training: signals, numbers that are none, collapse, memory, progress.

In: Keras callbacks. Out: the learning rate (`optimizers`), the complete state
(`checkpoints`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import utils
from config import CLASS_NAMES
from files.progress import Progress
from settings.training_fields import TrainingFields

logger = logging.getLogger(__name__)


Logs = Mapping[str, Any] | None
"""Of Keras: name of a number -> its value."""


class NonFiniteLossError(utils.UserError):
    """Training met a loss or a weight that is not a number."""


def stopping_callbacks(config: TrainingFields) -> list[keras.callbacks.Callback]:
    """Returns what ends training, and what restores the best epoch, by any margin.

    Keras's stopping would restore the last epoch that was better by `min_delta`.
    """
    limit = config.time_limit_minutes
    ends: list[keras.callbacks.Callback] = [] if limit is None else [TimeLimit(limit)]
    options = {"monitor": config.monitor, "mode": config.monitor_mode}
    patience, delta = config.early_stopping_patience, config.early_stopping_min_delta
    stopping = keras.callbacks.EarlyStopping
    if not delta:
        ends.append(stopping(**options, patience=patience, restore_best_weights=True))
        return ends
    return [
        *ends,
        stopping(**options, patience=patience, min_delta=delta),
        stopping(**options, patience=config.epochs, restore_best_weights=True),
    ]


class TimeLimit(keras.callbacks.Callback):
    """Ends training with the epoch in which its time is over.

    Args:
        minutes: That it may take, its validations included.

    Attributes:
        used_seconds: Of all epochs that ended, those before a resume included.
    """

    def __init__(self, minutes: float) -> None:
        super().__init__()
        self.minutes = minutes
        self.used_seconds = 0.0
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Notes the time."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds the epoch; ends training where the next would begin too late."""
        self.used_seconds += time.monotonic() - self._began
        if self.used_seconds >= 60 * self.minutes:
            self.model.stop_training = True
            logger.info(
                "epoch %d ended %.1f minutes of training: time_limit_minutes is %g",
                epoch + 1,
                self.used_seconds / 60,
                self.minutes,
            )


class StopOnSignal(keras.callbacks.Callback):
    """Ends training by `Interrupted` after a batch in which a deferred signal came.

    Must be the last callback.

    Args:
        signals: What is asked after each batch.
        save: Keeps what was done until then.
    """

    def __init__(self, signals: utils.StopSignals, save: Callable[[], None]) -> None:
        super().__init__()
        self.signals = signals
        self.save = save

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Looks for a signal after a step."""
        if self.signals.received is not None:
            self.save()
            raise utils.Interrupted(self.signals.received)

    on_test_batch_end = on_train_batch_end


class ShowProgress(keras.callbacks.Callback):
    """Tells how far epochs and their steps are, and logs a line after each epoch.

    Args:
        epochs: The epochs, begun.
        num_steps: Training steps of each.
    """

    def __init__(self, epochs: Progress, num_steps: int) -> None:
        super().__init__()
        self.epochs = epochs
        self.steps = Progress("batch", num_steps)
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begins to count steps."""
        self._begun = time.perf_counter()
        self.steps = Progress("batch", self.steps.total)
        self.steps.__enter__()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Counts a step; of an epoch that was interrupted, from where it stopped."""
        loss = float((logs or {}).get("loss", math.nan))
        self.steps.advance(batch + 1 - self.steps.done, {"loss": loss})

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Logs what the epoch came to."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        self.steps.__exit__()
        self.epochs.advance(metrics=numbers)
        logger.info(
            "epoch %d of %d, %.0f s: %s",
            *(epoch + 1, self.epochs.total, time.perf_counter() - self._begun),
            ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()),
        )


class CountPredicted(keras.callbacks.Callback):
    """Tells how many windows were predicted."""

    def __init__(self, windows: Progress) -> None:
        super().__init__()
        self.windows = windows

    def on_predict_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Counts the windows of a batch."""
        self.windows.advance(len((logs or {}).get("outputs", ())))


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends training within the batch whose loss or update is NaN or infinite.

    A loss can stay finite when the weights are not: TensorFlow's relu turns NaN into 0
    on some processors, and not on others. So the weights are looked at, too.

    Raises:
        NonFiniteLossError: Naming the epoch and the batch, counted from 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Prepares the sum over all weights: arguments would cost more than the sum."""
        weights = self.model.trainable_variables

        def sum_of_squares() -> tf.Tensor:
            return tf.add_n([tf.reduce_sum(tf.square(weight)) for weight in weights])

        self._sum_of_squares = tf.function(sum_of_squares, autograph=False)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Checks the running loss, and that the update left finite weights."""
        self._check((logs or {}).get("loss"), f"batch {batch + 1}")
        if not math.isfinite(float(self._sum_of_squares())):
            names = non_finite_weights(self.model)
            raise NonFiniteLossError(
                f"epoch {self._epoch + 1}, batch {batch + 1}: expected finite weights "
                f"after the update. Received: NaN or infinity in {', '.join(names)}. "
                "Lower learning_rate or clip_limit."
            )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Checks the validation loss before another callback takes it for the best."""
        self._check((logs or {}).get("val_loss"), "its validation")

    def _check(self, loss: Any, where: str) -> None:
        if loss is not None and not math.isfinite(float(loss)):
            raise NonFiniteLossError(
                f"epoch {self._epoch + 1}, {where}: expected a finite loss. "
                f"Received: {float(loss)}. Lower learning_rate or clip_limit."
            )


class CollapseMonitor(keras.callbacks.Callback):
    """Warns, once a class, when predictions pile up on a class or forget one.

    Args:
        dataset: Some validation windows, once, with labels.
        true_shares: (num_classes,) class shares of these labels.
    """

    def __init__(self, dataset: tf.data.Dataset, true_shares: np.ndarray) -> None:
        super().__init__()
        self.dataset = dataset
        self.true_shares = true_shares
        self.warned: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Predicts the windows and compares the class shares."""
        said = self.model.predict(self.dataset, verbose=0)
        predicted = said[:, : len(CLASS_NAMES)].argmax(axis=-1)
        shares = np.bincount(predicted, minlength=len(CLASS_NAMES)) / len(predicted)
        rows = zip(CLASS_NAMES, shares, self.true_shares, strict=True)
        for name, share, true in rows:
            piled, forgotten = share > 0.9 > true, share < 0.01 < true
            if (piled or forgotten) and name not in self.warned:
                self.warned.add(name)
                logger.warning(
                    "epoch %d: %.1f %% of the most probable classes are %s, "
                    "of the labels %.1f %%",
                    *(epoch + 1, 100 * share, name, 100 * true),
                )


def non_finite_weights(model: keras.Model) -> list[str]:
    """Returns the paths of the weights that hold NaN or infinity."""
    return [
        variable.path
        for variable in model.trainable_variables
        if not np.isfinite(variable.numpy()).all()
    ]


class TensorBoard(keras.callbacks.TensorBoard):
    """Writes after each epoch.

    Keras's makes the numbers of each batch, too, and has nowhere to write them.
    """

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Does nothing."""


class MemoryMonitor(keras.callbacks.Callback):
    """Keeps the peak resident memory after each epoch, in bytes, in `peaks`."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Notes the peak and says it every ten epochs."""
        self.peaks.append(utils.peak_resident_bytes())
        if epoch % 10 == 0:
            logger.debug("peak memory %s", utils.format_bytes(self.peaks[-1]))
