"""Which rows each part of a run and of each fold has, as ranges.

In: a configuration and a number of rows. Out: the splitters' index arrays (`splits`),
training a fold (`trainer`).
"""

from __future__ import annotations

import itertools

from config import Config
from preprocessing import splits
from preprocessing.splits import PurgedSplitter
from settings.data_fields import DataFields

PART_NAMES = ("train", "validation", "test")

Ranges = dict[str, tuple[int, int]]


def chronological_ranges(num_rows: int, config: DataFields) -> Ranges:
    """Returns first row and row after the last of train | validation | test."""
    num_test = round(num_rows * config.test_split)
    num_validation = round(num_rows * config.validation_split)
    edges = [0, num_rows - num_test - num_validation, num_rows - num_test, num_rows]
    return dict(zip(PART_NAMES, itertools.pairwise(edges), strict=True))


def create_splitter(config: Config) -> PurgedSplitter:
    """Returns the splitter that `cv` names, with this run's window and horizon."""
    options = {
        "window_bars": config.sequence_length,
        "future_window": config.future_window,
        "embargo_bars": config.embargo_bars,
    }
    count = config.n_splits or 1
    if config.cv == "purged":
        return splits.PurgedTimeSeriesSplit(count, **options)
    if config.cv == "blocking":
        return splits.BlockingTimeSeriesSplit(count, **options)
    expanding = config.cv == "walk_forward"
    return splits.WalkForwardSplit(count, expanding=expanding, **options)


def fold_ranges(num_rows: int, config: Config) -> list[Ranges]:
    """Returns the parts of each fold as row ranges, oldest fold first.

    Folds lie in the rows before the run's test part, which none of them sees. The
    newest rows of a fold's training block become its validation part, in the
    proportion of `validation_split` to the training share.

    Args:
        num_rows: Rows of the training file that are used.
        config: Number and kind of folds, window, horizon, splits.

    Raises:
        DataError: If there are too few rows.
    """
    window, future = config.sequence_length, config.future_window
    development = chronological_ranges(num_rows, config)["test"][0]
    share = config.validation_split / (1.0 - config.test_split)
    folds = []
    for [train], [test] in create_splitter(config).get_ranges(development - future):
        # A range of targets needs the rows of its first window and last label, too.
        start, stop = max(0, train[0] - window + 1), train[1] + future
        edge = stop - round((stop - start) * share)
        folds.append(
            {
                "train": (start, edge),
                "validation": (edge, stop),
                "test": (test[0] - window + 1, test[1] + future),
            }
        )
    return folds
