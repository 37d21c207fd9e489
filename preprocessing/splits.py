"""Splitters: index arrays for cross-validation in which no bar is used twice.

In: numbers of samples and bars. Out: anything that fits or scores a model.

A sample is a target row t: its window rows t-window_bars+1 .. t and its label bars
t+1 .. t+future_window. Two samples share a bar unless they are at least
window_bars + future_window rows apart, so window_bars + future_window - 1 samples are
left out ("purged") between training and test. The fixed `future_window` counts, never
the bar at which a label was decided: purging by outcome selects on the outcome.

Samples are in time order, at most one a row. Where rows were skipped, samples are
further apart than their indices, so the guarantee holds all the more.

Interface of scikit-learn's splitters: `split(X, y=None, groups=None)` yields
`(train_indices, test_indices)`. Impossible options raise in the constructor, too few
samples in `split`, before the first fold.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from utils import ConfigError, DataError

Range = tuple[int, int]
"""First sample and one past the last, as in Python's `range`."""


class PurgedSplitter(ABC):
    """What all splitters have in common; a subclass says where the folds lie."""

    n_splits: int

    def __init__(self, *, window_bars: int, future_window: int, embargo_bars: int):
        _require_whole("window_bars", window_bars, 1)
        _require_whole("future_window", future_window, 1)
        _require_whole("embargo_bars", embargo_bars, 0)
        self.window_bars = window_bars
        self.future_window = future_window
        self.embargo_bars = embargo_bars

    @property
    def purge_bars(self) -> int:
        """Samples left out on each side of a border between training and test."""
        return self.window_bars + self.future_window - 1

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Returns the number of folds."""
        return self.n_splits

    @abstractmethod
    def get_ranges(self, num_samples: int) -> list[tuple[list[Range], list[Range]]]:
        """Returns the training ranges and the test ranges of every fold.

        Raises:
            DataError: If a fold would have no training or no test sample.
        """

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields sorted indices (num_train,) and (num_test,) of every fold.

        Args:
            X: Anything with one entry for each sample, in time order.
            y: Not used.
            groups: Not used.

        Raises:
            DataError: If there are too few samples; before the first fold.
        """
        folds = self.get_ranges(len(X))
        return ((_indices(train), _indices(test)) for train, test in folds)

    def _too_few(self, num_samples: int, enough: int) -> DataError:
        return DataError(
            f"{type(self).__name__} expected more samples, {enough} are enough: of its "
            f"{self.n_splits} folds, each leaves out {self.purge_bars} (window_bars="
            f"{self.window_bars} + future_window={self.future_window} - 1) at a border "
            f"between training and test. Received: {num_samples}. "
            "Use fewer folds, a shorter window or more data."
        )


class PurgedTimeSeriesSplit(PurgedSplitter):
    """Equal test blocks at the end of the data, each trained on what came before.

    Args:
        n_splits: Number of folds.
        window_bars: Rows that a sample's window reads.
        future_window: Bars that a sample's label looks ahead.
        max_train_size: Keeps the newest so many training samples; None keeps all.
        test_size: Samples in a test block; None shares the data into n_splits + 1.
        gap: Samples left out before a test block, beyond the purge.
        embargo_bars: Samples left out between one test block and the next.
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        window_bars: int,
        future_window: int,
        max_train_size: int | None = None,
        test_size: int | None = None,
        gap: int = 0,
        embargo_bars: int = 0,
    ):
        super().__init__(
            window_bars=window_bars,
            future_window=future_window,
            embargo_bars=embargo_bars,
        )
        _require_whole("n_splits", n_splits, 2)
        _require_whole("gap", gap, 0)
        if max_train_size is not None:
            _require_whole("max_train_size", max_train_size, 1)
        if test_size is not None:
            _require_whole("test_size", test_size, 1)
        self.n_splits = n_splits
        self.max_train_size = max_train_size
        self.test_size = test_size
        self.gap = gap

    def get_ranges(self, num_samples: int) -> list[tuple[list[Range], list[Range]]]:
        """Returns the training range and the test range of every fold."""
        n, between = self.n_splits, self.embargo_bars * (self.n_splits - 1)
        size = self.test_size or (num_samples - between) // (n + 1)
        first_test = num_samples - n * size - between
        first_train_stop = first_test - self.purge_bars - self.gap
        if size < 1 or first_train_stop < 1:
            left_out = self.purge_bars + self.gap + 1
            shared = self.test_size or left_out
            raise self._too_few(num_samples, n * shared + between + left_out)
        starts = range(first_test, num_samples, size + self.embargo_bars)
        return [
            (
                [_newest(start - self.purge_bars - self.gap, self.max_train_size)],
                [(start, start + size)],
            )
            for start in starts
        ]


class WalkForwardSplit(PurgedSplitter):
    """Walks through all samples after the first training block; none is left unscored.

    The test blocks are consecutive, differ by at most one sample, and end with the
    data. No fold is empty.

    Args:
        n_splits: Number of folds.
        window_bars: Rows that a sample's window reads.
        future_window: Bars that a sample's label looks ahead.
        min_train_size: Training samples of the first fold; None shares the samples
            that are left after the purge into n_splits + 1.
        expanding: Whether training starts at the first sample in every fold; otherwise
            it keeps the size of the first fold and rolls.
        embargo_bars: Samples left out between one test block and the next.
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        window_bars: int,
        future_window: int,
        min_train_size: int | None = None,
        expanding: bool = True,
        embargo_bars: int = 0,
    ):
        super().__init__(
            window_bars=window_bars,
            future_window=future_window,
            embargo_bars=embargo_bars,
        )
        _require_whole("n_splits", n_splits, 1)
        if min_train_size is not None:
            _require_whole("min_train_size", min_train_size, 1)
        self.n_splits = n_splits
        self.min_train_size = min_train_size
        self.expanding = expanding

    def get_ranges(self, num_samples: int) -> list[tuple[list[Range], list[Range]]]:
        """Returns the training range and the test range of every fold."""
        n = self.n_splits
        left_out = self.purge_bars + self.embargo_bars * (n - 1)
        first_train = self.min_train_size or (num_samples - left_out) // (n + 1)
        scored = num_samples - left_out - first_train
        if first_train < 1 or scored < n:
            raise self._too_few(num_samples, left_out + n + (self.min_train_size or 1))
        start, folds = first_train + self.purge_bars, []
        for k in range(n):
            stop = start + scored // n + (k < scored % n)
            size = None if self.expanding else first_train
            folds.append(([_newest(start - self.purge_bars, size)], [(start, stop)]))
            start = stop + self.embargo_bars
        return folds


class BlockingTimeSeriesSplit(PurgedSplitter):
    """Disjoint blocks of time, each with its own training and, later, its own test.

    Args:
        n_splits: Number of blocks.
        window_bars: Rows that a sample's window reads.
        future_window: Bars that a sample's label looks ahead.
        test_share: Part of a block's usable samples that are test.
        embargo_bars: Samples left out between one block's test and the next block.
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        window_bars: int,
        future_window: int,
        test_share: float = 0.2,
        embargo_bars: int = 0,
    ):
        super().__init__(
            window_bars=window_bars,
            future_window=future_window,
            embargo_bars=embargo_bars,
        )
        _require_whole("n_splits", n_splits, 1)
        if not 0 < test_share < 1:
            raise ConfigError(
                "`test_share` must lie between 0 and 1. "
                f"Received: test_share={test_share}"
            )
        self.n_splits = n_splits
        self.test_share = test_share

    def get_ranges(self, num_samples: int) -> list[tuple[list[Range], list[Range]]]:
        """Returns the training range and the test range of every fold."""
        between = self.embargo_bars * (self.n_splits - 1)
        size = (num_samples - between) // self.n_splits
        usable = size - self.purge_bars
        if usable < 2:
            needed = self.n_splits * (self.purge_bars + 2) + between
            raise self._too_few(num_samples, needed)
        num_test = min(max(1, round(usable * self.test_share)), usable - 1)
        # What does not divide evenly is left out at the start: the oldest samples.
        first = num_samples - between - size * self.n_splits
        starts = range(first, num_samples, size + self.embargo_bars)
        return [
            (
                [(start, start + usable - num_test)],
                [(start + size - num_test, start + size)],
            )
            for start in starts
        ]


class CombinatorialPurgedSplit(PurgedSplitter):
    """Every choice of test blocks among equal blocks of time: several paths, not one.

    Training lies before, between and after the test blocks, purged on both sides; the
    embargo is left out after a test block. Features of a training sample may look back
    across a test block: `count_lookback_rows` says how many do.

    Source: Lopez de Prado (2018), "Advances in Financial Machine Learning", chapter 12.

    Args:
        n_blocks: Number of blocks.
        n_test_blocks: Blocks tested in a fold.
        window_bars: Rows that a sample's window reads.
        future_window: Bars that a sample's label looks ahead.
        embargo_bars: Samples left out of training after a test block, beyond the purge.
    """

    def __init__(
        self,
        n_blocks: int = 6,
        n_test_blocks: int = 2,
        *,
        window_bars: int,
        future_window: int,
        embargo_bars: int = 0,
    ):
        super().__init__(
            window_bars=window_bars,
            future_window=future_window,
            embargo_bars=embargo_bars,
        )
        _require_whole("n_blocks", n_blocks, 2)
        _require_whole("n_test_blocks", n_test_blocks, 1)
        if n_test_blocks >= n_blocks:
            raise ConfigError(
                "`n_test_blocks` must be below `n_blocks`: some are to train on. "
                f"Received: n_test_blocks={n_test_blocks}, n_blocks={n_blocks}"
            )
        self.n_blocks = n_blocks
        self.n_test_blocks = n_test_blocks
        self.n_splits = math.comb(n_blocks, n_test_blocks)

    def get_test_blocks(self) -> np.ndarray:
        """Returns the blocks that each fold tests (num_folds, n_test_blocks)."""
        return np.array(
            list(itertools.combinations(range(self.n_blocks), self.n_test_blocks))
        )

    def get_block_ranges(self, num_samples: int) -> list[Range]:
        """Returns the range of every block; sizes differ by at most one."""
        edges = [num_samples * k // self.n_blocks for k in range(self.n_blocks + 1)]
        return list(itertools.pairwise(edges))

    def get_paths(self) -> np.ndarray:
        """Returns, for each backtest path and block, the fold whose test predicts it.

        Every path covers all blocks once; over all paths every tested block of every
        fold is used once.

        Returns:
            Fold numbers (num_paths, n_blocks), with
            num_paths = C(n_blocks - 1, n_test_blocks - 1).
        """
        tested = self.get_test_blocks()
        folds = [
            np.flatnonzero((tested == b).any(axis=1)) for b in range(self.n_blocks)
        ]
        return np.stack(folds, axis=1)

    def get_ranges(self, num_samples: int) -> list[tuple[list[Range], list[Range]]]:
        """Returns the training ranges and the test ranges of every fold."""
        blocks = self.get_block_ranges(num_samples)
        folds = []
        for chosen in itertools.combinations(range(self.n_blocks), self.n_test_blocks):
            test = _merge([blocks[k] for k in chosen])
            train, start = [], 0
            for first, stop in [*test, (num_samples + self.purge_bars, 0)]:
                if start < first - self.purge_bars:
                    train.append((start, first - self.purge_bars))
                start = stop + self.purge_bars + self.embargo_bars
            folds.append((train, test))
        if num_samples < self.n_blocks or not all(train for train, _ in folds):
            # A lone training block in the middle loses two purges and the embargo.
            lone = 2 * self.purge_bars + self.embargo_bars + 1
            raise self._too_few(num_samples, self.n_blocks * lone)
        return folds


def _newest(stop: int, size: int | None) -> Range:
    return (0 if size is None else max(0, stop - size), stop)


def _merge(ranges: list[Range]) -> list[Range]:
    """Returns `ranges` with those that touch joined into one."""
    merged: list[Range] = []
    for start, stop in ranges:
        if merged and merged[-1][1] == start:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def _indices(ranges: list[Range]) -> np.ndarray:
    return np.concatenate([np.arange(start, stop) for start, stop in ranges])


def _require_whole(name: str, value: Any, least: int) -> None:
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:
        raise ConfigError(
            f"`{name}` must be a whole number, at least {least}. "
            f"Received: {name}={value!r}"
        )
