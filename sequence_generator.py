"""Arrays -> windows without copying them: the datasets that feed `fit` and `predict`.

In: the order of an epoch, cutting windows for one batch, tf.data plumbing.
Out: which rows are targets (`data_loader`), what is done with a batch.

Sample of target row `t`: rows `t - window_bars + 1 .. t` and the label of row `t`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from data_loader import TrainingData
from utils import DataError

EVALUATION_BATCH = 512
"""Windows of a prediction step: 2,048 are about a fifth faster, for 0.4 GB more."""


def epoch_positions(
    num_targets: int, per_epoch: int, *, seed: int, epoch: int
) -> np.ndarray:
    """Returns the order of one epoch: a function of the seed and the epoch number.

    Epochs are consecutive slices of seeded permutations, so that every target is seen
    before one repeats, and a run can go on at any epoch.

    Args:
        num_targets: Targets there are.
        per_epoch: Targets of one epoch.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.

    Returns:
        (per_epoch,) int32 positions in the list of targets.
    """
    first = epoch * per_epoch
    last_permutation = (first + per_epoch - 1) // num_targets
    slices = []
    for k in range(first // num_targets, last_permutation + 1):
        order = np.arange(num_targets, dtype=np.int32)
        np.random.Generator(np.random.PCG64([seed, k])).shuffle(order)
        start, stop = first - k * num_targets, first + per_epoch - k * num_targets
        slices.append(order[max(0, start) : stop])
    # A copy, also of a single slice, which would keep its whole permutation alive.
    return np.concatenate(slices)


def evenly_spaced(rows: np.ndarray, count: int | None) -> np.ndarray:
    """Returns at most `count` of `rows`, evenly spread; all of them for None."""
    if count is None or count >= len(rows):
        return rows
    return rows[(np.arange(count, dtype=np.int64) * 2 + 1) * len(rows) // (2 * count)]


def cut_windows(
    features: np.ndarray, rows: np.ndarray, *, window_bars: int
) -> np.ndarray:
    """Returns each row's window: (num_rows, window_bars, num_features)."""
    return features[rows[:, None] + np.arange(1 - window_bars, 1, dtype=np.int32)]


class MemoryEfficientDataLoader:
    """Datasets of windows for training, monitoring and evaluation.

    The feature array stays one NumPy array; a batch's windows are cut when it is due.

    Args:
        data: Arrays and targets.
        batch_size: Windows of one training step.
        seed: Seed of the epoch order.
        windows_per_epoch: Windows of one epoch; None takes every training target once.
        validation_windows: Monitored validation windows; None takes all.

    Example:
        >>> loader = MemoryEfficientDataLoader(data, batch_size=256, seed=42)
        >>> model.fit(
        ...     loader.train_dataset(), steps_per_epoch=loader.steps_per_epoch,
        ...     validation_data=loader.validation_dataset(), shuffle=False,
        ... )
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        batch_size: int,
        seed: int,
        windows_per_epoch: int | None = None,
        validation_windows: int | None = None,
    ) -> None:
        self.data = data
        self.seed = seed
        # Never fewer windows in a step than it can be split into; see `_batches`.
        self.windows_per_epoch = windows_per_epoch or len(data.train_targets)
        self.steps_per_epoch = -(-self.windows_per_epoch // batch_size)
        self.validation_targets = evenly_spaced(
            data.parts["validation"].targets, validation_windows
        )
        self.check()

    def check(self) -> None:
        """Cuts the first and last window of each part and compares it with a slice.

        Raises:
            DataError: If a window is not the rows that end at its target.
        """
        for name, part in self.data.parts.items():
            ends = part.targets[[0, -1]]
            windows = self._windows(ends)
            for row, window in zip(ends, windows, strict=True):
                first = row - self.data.window_bars + 1
                if first < part.start or row >= part.stop:
                    raise DataError(f"{name}: the window of row {row} leaves the part.")
                if not np.array_equal(window, self.data.features[first : row + 1]):
                    raise DataError(f"{name}: the window of row {row} is misaligned.")

    def epoch_targets(self, epoch: int) -> np.ndarray:
        """Returns the (windows_per_epoch,) rows of one training epoch, in order."""
        targets = self.data.train_targets
        return targets[
            epoch_positions(
                len(targets), self.windows_per_epoch, seed=self.seed, epoch=epoch
            )
        ]

    def train_dataset(self, *, first_epoch: int = 0) -> tf.data.Dataset:
        """Returns an endless dataset of training batches that starts at an epoch.

        One epoch is `steps_per_epoch` batches whose sizes differ by at most one.
        """

        def batches() -> Iterator[tuple[np.ndarray, ...]]:
            epoch = first_epoch
            while True:
                order = self.epoch_targets(epoch)
                for rows in np.array_split(order, self.steps_per_epoch):
                    yield self._batch(rows, weighted=True)
                epoch += 1

        return self._dataset(batches, weighted=self.data.class_weights is not None)

    def validation_dataset(self) -> tf.data.Dataset:
        """Returns the monitored validation windows, once, unweighted, in time order."""
        return self.evaluation_dataset(self.validation_targets)

    def watched_windows(self, count: int = 1000) -> tuple[np.ndarray, tf.data.Dataset]:
        """Returns evenly spaced validation rows and their windows, once."""
        rows = evenly_spaced(self.data.parts["validation"].targets, count)
        return rows, self.evaluation_dataset(rows)

    def test_dataset(self) -> tf.data.Dataset:
        """Returns all test windows, once, in time order."""
        return self.evaluation_dataset(self.data.parts["test"].targets)

    def evaluation_dataset(self, rows: np.ndarray) -> tf.data.Dataset:
        """Returns the windows and labels of the given target rows, once, in order."""
        steps = -(-len(rows) // EVALUATION_BATCH)

        def batches() -> Iterator[tuple[np.ndarray, ...]]:
            for part in np.array_split(rows, steps):
                yield self._batch(part, weighted=False)

        # Without a known length, Keras takes the end for a shortage of data.
        known = tf.data.experimental.assert_cardinality(steps)
        return self._dataset(batches, weighted=False).apply(known)

    def _windows(self, rows: np.ndarray) -> np.ndarray:
        return cut_windows(self.data.features, rows, window_bars=self.data.window_bars)

    def _batch(self, rows: np.ndarray, *, weighted: bool) -> tuple[np.ndarray, ...]:
        labels = self.data.labels[rows].astype(np.int32)
        batch = (self._windows(rows), labels)
        if weighted and self.data.class_weights is not None:
            return (*batch, self.data.class_weights[labels])
        return batch

    def _dataset(self, batches: object, *, weighted: bool) -> tf.data.Dataset:
        shape = (None, self.data.window_bars, self.data.num_features)
        signature = [tf.TensorSpec(shape, tf.float32), tf.TensorSpec((None,), tf.int32)]
        if weighted:
            signature.append(tf.TensorSpec((None,), tf.float32))
        options = tf.data.Options()
        # The tuning thread sleeps ever longer, and an epoch's end waits for it.
        options.autotune.enabled = False
        dataset = tf.data.Dataset.from_generator(
            batches, output_signature=tuple(signature)
        )
        return dataset.prefetch(2).with_options(options)
