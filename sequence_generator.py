"""Arrays -> windows without copying them: the datasets that feed `fit` and `predict`.

In: the order of an epoch, cutting windows for one batch, tf.data plumbing.
Out: which rows are targets (`data_loader`), what is done with a batch.

Sample of target row `t`: rows `t - window_bars + 1 .. t` and the label of row `t`, or
its value where the target is a number, or the return of the bar after it where the loss
is one of positions, or label and return of a network that has a head for each.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data_loader import TrainingData
from preprocessing.stretches import cut_stretches, next_bar_returns, whole_stretches
from preprocessing.windows import cut_windows, evenly_spaced
from settings.loss_fields import BOTH, LossTraits
from utils import DataError

EVALUATION_BATCH = 512
"""Windows of a prediction step: 2,048 are about a fifth faster, for 0.4 GB more."""


def epoch_positions(
    num_targets: int, per_epoch: int, *, seed: int, epoch: int
) -> np.ndarray:
    """Returns the order of one epoch: a function of the seed and the epoch number.

    Epochs, from 0, are consecutive slices of seeded permutations, so that every target
    is seen before one repeats, and a run can go on at any epoch.

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


class MemoryEfficientDataLoader:
    """Datasets of windows for training, monitoring and evaluation.

    The feature array stays one NumPy array; a batch's windows are cut when it is due.

    Args:
        data: Arrays and targets.
        batch_size: Windows of one training step.
        seed: Seed of the epoch order.
        windows_per_epoch: Windows of one epoch; None takes every training target once.
        validation_windows: Monitored validation windows; None takes all.
        loss_traits: What the loss asks for; None stands for labels in any order. Where
            batches must be consecutive bars, training and monitoring take such
            stretches of `batch_size` at most, and the order of stretches is shuffled.

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
        loss_traits: LossTraits | None = None,
    ) -> None:
        self.data = data
        self.seed = seed
        kind = None if loss_traits is None else loss_traits.y_true
        self._reads_both = kind == BOTH
        reads_returns = kind in ("return", BOTH)
        self._returns = next_bar_returns(data) if reads_returns else None
        self._stretches: list[np.ndarray] | None = None
        monitored = data.parts["validation"].targets
        if loss_traits is not None and loss_traits.is_sequential:
            self._stretches = cut_stretches(
                "train", data.train_targets, batch_size, returns=self._returns
            )
            self.windows_per_epoch, self.steps_per_epoch = whole_stretches(
                self._stretches, windows_per_epoch
            )
            stretches = cut_stretches(
                "validation", monitored, batch_size, returns=self._returns
            )
            _, count = whole_stretches(stretches, validation_windows)
            chosen = evenly_spaced(np.arange(len(stretches)), count)
            self._validation = [stretches[k] for k in chosen]
        else:
            # Never fewer windows in a step than it can be split into; see `_batches`.
            self.windows_per_epoch = windows_per_epoch or len(data.train_targets)
            self.steps_per_epoch = -(-self.windows_per_epoch // batch_size)
            rows = evenly_spaced(monitored, validation_windows)
            self._validation = _evaluation_batches(rows)
        self.validation_targets = np.concatenate(self._validation)
        self.check()

    def check(self) -> None:
        """Raises DataError unless each part's first and last window are its rows."""
        for name, part in self.data.parts.items():
            ends = part.targets[[0, -1]]
            windows = self._windows(ends)
            for row, window in zip(ends, windows, strict=True):
                first = row - self.data.window_bars + 1
                if not any(a <= first and row < b for a, b in part.spans):
                    raise DataError(f"{name}: the window of row {row} leaves the part.")
                if not np.array_equal(window, self.data.features[first : row + 1]):
                    raise DataError(f"{name}: the window of row {row} is misaligned.")

    def epoch_batches(self, epoch: int) -> list[np.ndarray]:
        """Returns the rows of each batch of one training epoch, in order."""
        targets, stretches = self.data.train_targets, self._stretches
        sizes = (len(targets), self.windows_per_epoch)
        if stretches is not None:
            sizes = (len(stretches), self.steps_per_epoch)
        order = epoch_positions(*sizes, seed=self.seed, epoch=epoch)
        if stretches is not None:
            return [stretches[k] for k in order]
        return np.array_split(targets[order], self.steps_per_epoch)

    def epoch_targets(self, epoch: int) -> np.ndarray:
        """Returns the (windows_per_epoch,) rows of one training epoch, in order."""
        return np.concatenate(self.epoch_batches(epoch))

    def train_dataset(
        self, *, first_epoch: int = 0, first_step: int = 0
    ) -> tf.data.Dataset:
        """Returns an endless dataset of training batches from a step of an epoch on.

        One epoch is `steps_per_epoch` batches whose sizes differ by at most one, or
        stretches of bars.
        """

        def batches() -> Iterator[tuple[np.ndarray, ...]]:
            first = first_step
            for epoch in itertools.count(first_epoch):
                for rows in self.epoch_batches(epoch)[first:]:
                    yield self._batch(rows, weighted=True)
                first = 0

        return self._dataset(batches, weighted=self.data.is_weighted)

    def validation_dataset(self) -> tf.data.Dataset:
        """Returns the monitored validation windows, once, unweighted, in time order."""
        return self._once(self._validation)

    def test_dataset(self) -> tf.data.Dataset:
        """Returns all test windows, once, in time order."""
        return self.evaluation_dataset(self.data.parts["test"].targets)

    def evaluation_dataset(self, rows: np.ndarray) -> tf.data.Dataset:
        """Returns the windows and labels of the given target rows, once, in order."""
        return self._once(_evaluation_batches(rows))

    def _once(self, parts: list[np.ndarray]) -> tf.data.Dataset:
        def batches() -> Iterator[tuple[np.ndarray, ...]]:
            for part in parts:
                yield self._batch(part, weighted=False)

        # Without a known length, Keras takes the end for a shortage of data.
        known = tf.data.experimental.assert_cardinality(len(parts))
        return self._dataset(batches, weighted=False).apply(known)

    def _windows(self, rows: np.ndarray) -> np.ndarray:
        return cut_windows(self.data.features, rows, window_bars=self.data.window_bars)

    def _batch(self, rows: np.ndarray, *, weighted: bool) -> tuple[np.ndarray, ...]:
        batch = (self._windows(rows), self._supervision(rows))
        if weighted and self.data.is_weighted:
            return (*batch, self.data.loss_weights(rows))
        return batch

    def _supervision(self, rows: np.ndarray) -> np.ndarray:
        if self._returns is None:
            return self.data.supervision(rows)
        returns = self._returns[rows]
        if not self._reads_both:
            return returns
        return np.stack([self.data.labels[rows].astype(np.float32), returns], axis=1)

    def _dataset(self, batches: object, *, weighted: bool) -> tf.data.Dataset:
        shape = (None, self.data.window_bars, self.data.num_features)
        none = self._supervision(np.empty(0, np.int64))
        truth = tf.TensorSpec((None, *none.shape[1:]), tf.as_dtype(none.dtype))
        signature = [tf.TensorSpec(shape, tf.float32), truth]
        if weighted:
            signature.append(tf.TensorSpec((None,), tf.float32))
        options = tf.data.Options()
        # The tuning thread sleeps ever longer, and an epoch's end waits for it.
        options.autotune.enabled = False
        count = len(_functions())
        dataset = tf.data.Dataset.from_generator(
            batches, output_signature=tuple(signature)
        )
        # TensorFlow keeps its functions until the process ends, and all rows with them.
        functions = _functions()
        weakref.finalize(dataset, _forget, functions, functions[count:])
        return dataset.prefetch(2).with_options(options)


def _functions() -> list[Any]:
    """Returns the functions that this thread's datasets call."""
    graph = tf.compat.v1.get_default_graph()
    return getattr(graph, "_py_funcs_used_in_graph", [])


def _forget(functions: list[Any], ended: list[Any]) -> None:
    for function in ended:
        functions.remove(function)


def _evaluation_batches(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, -(-len(rows) // EVALUATION_BATCH))
