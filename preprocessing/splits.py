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
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

import numpy as np

from utils import ConfigError, DataError

Range = tuple[int, int]
"""First sample and one past the last, as in Python's `range`."""


_FROM_0, _FROM_1, _FROM_2 = ({"least": least} for least in range(3))
"""Least value of a splitter's whole number; None passes where its type has None."""


@dataclass(frozen=True)
class PurgedSplitter(ABC):
    """What all splitters have in common; a subclass says where the folds lie.

    Args:
        window_bars: Rows that a sample's window reads.
        future_window: Bars that a sample's label looks ahead.
        embargo_bars: Samples left out between one test block and the next; of
            combinatorial folds, of training after a test block, beyond the purge.
    """

    _: KW_ONLY
    window_bars: int = field(metadata=_FROM_1)
    future_window: int = field(metadata=_FROM_1)
    embargo_bars: int = field(default=0, metadata=_FROM_0)

    def __post_init__(self) -> None:
        """Refuses what is no whole number, or too small."""
        for item in fields(self):
            value, least = getattr(self, item.name), item.metadata.get("least")
            is_whole = isinstance(value, int | np.integer) and type(value) is not bool
            is_left_out = value is None and str(item.type).endswith("None")
            if least is not None and not (is_left_out or is_whole and value >= least):
                raise ConfigError(
                    f"`{item.name}` must be a whole number, at least {least}. "
                    f"Received: {item.name}={value!r}"
                )

    @property
    @abstractmethod
    def n_splits(self) -> int | None:
        """Number of folds."""

    @property
    def purge_bars(self) -> int:
        """Samples left out on each side of a border between training and test."""
        return self.window_bars + self.future_window - 1

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Returns the number of folds, where it follows from them of the samples X."""
        return self.n_splits or len(self.get_ranges(len(X)))

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

    def _too_few(self, num_samples: int, num_folds: int, enough: int) -> DataError:
        return DataError(
            f"expected more samples, {enough} are enough: of {num_folds} folds, each "
            f"leaves out {self.purge_bars} (window_bars="
            f"{self.window_bars} + future_window={self.future_window} - 1) at a border "
            f"between training and test. Received: {num_samples}. "
            "Use fewer or shorter folds, a shorter window or more data."
        )


@dataclass(frozen=True)
class PurgedTimeSeriesSplit(PurgedSplitter):
    """Equal test blocks at the end of the data, each trained on what came before.

    Args:
        n_splits: Number of folds; None makes as many, at least two, as leave each
            `max_train_size` training samples.
        max_train_size: Keeps the newest so many training samples; None keeps all.
        expanding: Whether all are kept all the same, and `max_train_size` only decides
            how many folds there are.
        test_size: Samples in a test block; None shares the data into n_splits + 1.
        gap: Samples left out before a test block, beyond the purge.
    """

    n_splits: int | None = field(default=5, metadata=_FROM_2)
    _: KW_ONLY
    max_train_size: int | None = field(default=None, metadata=_FROM_1)
    expanding: bool = False
    test_size: int | None = field(default=None, metadata=_FROM_1)
    gap: int = field(default=0, metadata=_FROM_0)

    def __post_init__(self) -> None:
        """Refuses a number of folds that follows from nothing."""
        super().__post_init__()
        if self.n_splits is None and None in (self.max_train_size, self.test_size):
            raise ConfigError(
                "`n_splits` may be None where `max_train_size` and `test_size` decide. "
                f"Received: {self.max_train_size} and {self.test_size}"
            )

    def get_ranges(self, num_samples: int) -> list[tuple[list[Range], list[Range]]]:
        """Returns the training range and the test range of every fold."""
        left_out, n = self.purge_bars + self.gap, self.n_splits
        first_train = 1 if n else self.max_train_size or 1
        if n is None:
            block = (self.test_size or 1) + self.embargo_bars
            room = num_samples - left_out - first_train + self.embargo_bars
            n = max(2, room // block)
        between = self.embargo_bars * (n - 1)
        size = self.test_size or (num_samples - between) // (n + 1)
        first_test = num_samples - n * size - between
        if size < 1 or first_test - left_out < first_train:
            shared = self.test_size or left_out + 1
            enough = n * shared + between + left_out + first_train
            raise self._too_few(num_samples, n, enough)
        kept = None if self.expanding else self.max_train_size
        return [
            ([_newest(at - left_out, kept)], [(at, at + size)])
            for at in range(first_test, num_samples, size + self.embargo_bars)
        ]


@dataclass(frozen=True)
class WalkForwardSplit(PurgedSplitter):
    """Walks through all samples after the first training block; none is left unscored.

    The test blocks are consecutive, differ by at most one sample, and end with the
    data. No fold is empty.

    Args:
        n_splits: Number of folds.
        min_train_size: Training samples of the first fold; None shares the samples
            that are left after the purge into n_splits + 1.
        expanding: Whether training starts at the first sample in every fold; otherwise
            it keeps the size of the first fold and rolls.
    """

    n_splits: int = field(default=5, metadata=_FROM_1)
    _: KW_ONLY
    min_train_size: int | None = field(default=None, metadata=_FROM_1)
    expanding: bool = True

    def get_ranges(self, num_samples: int) -> list[tuple[list[Range], list[Range]]]:
        """Returns the training range and the test range of every fold."""
        n = self.n_splits
        left_out = self.purge_bars + self.embargo_bars * (n - 1)
        first_train = self.min_train_size or (num_samples - left_out) // (n + 1)
        scored = num_samples - left_out - first_train
        if first_train < 1 or scored < n:
            enough = left_out + n + (self.min_train_size or 1)
            raise self._too_few(num_samples, n, enough)
        start, folds = first_train + self.purge_bars, []
        for k in range(n):
            stop = start + scored // n + (k < scored % n)
            size = None if self.expanding else first_train
            folds.append(([_newest(start - self.purge_bars, size)], [(start, stop)]))
            start = stop + self.embargo_bars
        return folds


@dataclass(frozen=True)
class BlockingTimeSeriesSplit(PurgedSplitter):
    """Disjoint blocks of time, each with its own training and, later, its own test.

    Args:
        n_splits: Number of blocks.
        test_share: Part of a block's usable samples that are test.
    """

    n_splits: int = field(default=5, metadata=_FROM_1)
    _: KW_ONLY
    test_share: float = 0.2

    def __post_init__(self) -> None:
        """Refuses a share that leaves no test, or no training."""
        super().__post_init__()
        if not 0 < self.test_share < 1:
            raise ConfigError(
                "`test_share` must lie between 0 and 1. "
                f"Received: test_share={self.test_share}"
            )

    def get_ranges(self, num_samples: int) -> list[tuple[list[Range], list[Range]]]:
        """Returns the training range and the test range of every fold."""
        between = self.embargo_bars * (self.n_splits - 1)
        size = (num_samples - between) // self.n_splits
        usable = size - self.purge_bars
        if usable < 2:
            needed = self.n_splits * (self.purge_bars + 2) + between
            raise self._too_few(num_samples, self.n_splits, needed)
        num_test = min(max(1, round(usable * self.test_share)), usable - 1)
        # What does not divide evenly is left out at the start: the oldest samples.
        first = num_samples - between - size * self.n_splits
        return [
            ([(at, at + usable - num_test)], [(at + size - num_test, at + size)])
            for at in range(first, num_samples, size + self.embargo_bars)
        ]


@dataclass(frozen=True)
class CombinatorialPurgedSplit(PurgedSplitter):
    """Every choice of test blocks among equal blocks of time: several paths, not one.

    Training lies before, between and after the test blocks, purged on both sides; the
    embargo is left out after a test block. Features of a training sample may look back
    across a test block: `count_lookback_rows` says how many do.

    Source: Lopez de Prado (2018), "Advances in Financial Machine Learning", chapter 12.

    Args:
        n_blocks: Number of blocks.
        n_test_blocks: Blocks tested in a fold.
    """

    n_blocks: int = field(default=6, metadata=_FROM_2)
    n_test_blocks: int = field(default=2, metadata=_FROM_1)

    def __post_init__(self) -> None:
        """Refuses to test all blocks."""
        super().__post_init__()
        if self.n_test_blocks >= self.n_blocks:
            raise ConfigError(
                "`n_test_blocks` must be below `n_blocks`: some are to train on. "
                f"Received: n_test_blocks={self.n_test_blocks}, "
                f"n_blocks={self.n_blocks}"
            )

    @property
    def n_splits(self) -> int:
        """Number of folds."""
        return math.comb(self.n_blocks, self.n_test_blocks)

    def get_test_blocks(self) -> np.ndarray:
        """Returns the blocks that each fold tests (num_folds, n_test_blocks)."""
        chosen = itertools.combinations(range(self.n_blocks), self.n_test_blocks)
        return np.array(list(chosen))

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
            enough = self.n_blocks * lone
            raise self._too_few(num_samples, self.n_splits, enough)
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
