import itertools

import numpy as np
import pytest

from preprocessing.shared_bars import count_lookback_rows, count_shared_bars
from preprocessing.splits import (
    BlockingTimeSeriesSplit,
    CombinatorialPurgedSplit,
    PurgedTimeSeriesSplit,
    WalkForwardSplit,
)
from utils import ConfigError, DataError

BARS = {"window_bars": 3, "future_window": 2}  # four samples are purged


def folds(splitter, num_samples):
    return [
        (train.tolist(), test.tolist())
        for train, test in splitter.split(np.zeros(num_samples))
    ]


def ranges(splitter, num_samples):
    """Literal form: (first, last) of each run of indices."""

    def runs(indices):
        cuts = np.flatnonzero(np.diff(indices) != 1) + 1
        return [(int(r[0]), int(r[-1])) for r in np.split(indices, cuts)]

    return [
        (runs(train), runs(test))
        for train, test in splitter.split(np.zeros(num_samples))
    ]


# Every combination of options: nothing is shared


FORWARD = [
    *(
        (PurgedTimeSeriesSplit, dict(zip(names, values, strict=True)))
        for names in [
            ("n_splits", "max_train_size", "test_size", "gap", "embargo_bars")
        ]
        for values in itertools.product([2, 5], [None, 7], [None, 6], [0, 3], [0, 4])
    ),
    *(
        (WalkForwardSplit, dict(zip(names, values, strict=True)))
        for names in [("n_splits", "min_train_size", "expanding", "embargo_bars")]
        for values in itertools.product([1, 2, 5], [None, 11], [True, False], [0, 4])
    ),
    *(
        (BlockingTimeSeriesSplit, dict(zip(names, values, strict=True)))
        for names in [("n_splits", "test_share", "embargo_bars")]
        for values in itertools.product([1, 2, 5], [0.01, 0.2, 0.5, 0.99], [0, 4])
    ),
]
SIZES = [(1, 1), (3, 2), (4, 7)]


@pytest.mark.parametrize("num_samples", [97, 100, 150])
@pytest.mark.parametrize(("window_bars", "future_window"), SIZES)
def test_forward_splitters_share_no_bar(window_bars, future_window, num_samples):
    bars = {"window_bars": window_bars, "future_window": future_window}
    for kind, options in FORWARD:
        splitter = kind(**options, **bars)
        count = 0
        tested = []
        for train, test in splitter.split(np.zeros(num_samples)):
            assert train.size and test.size, (kind, options)
            assert train.max() < test.min(), (kind, options)
            assert count_shared_bars(train, test, **bars) == 0, (kind, options)
            assert (np.diff(train) == 1).all() and (np.diff(test) == 1).all()
            assert 0 <= train.min() and test.max() < num_samples
            tested.append(test)
            count += 1
        assert count == splitter.get_n_splits()
        for earlier, later in itertools.pairwise(tested):
            distance = later.min() - earlier.max() - 1
            assert distance >= options["embargo_bars"], (kind, options)


@pytest.mark.parametrize("num_samples", [199, 200])
@pytest.mark.parametrize(("window_bars", "future_window"), SIZES)
def test_combinatorial_splits_share_no_bar(window_bars, future_window, num_samples):
    bars = {"window_bars": window_bars, "future_window": future_window}
    for n_blocks, embargo in itertools.product([2, 3, 5, 6], [0, 4]):
        for n_test_blocks in range(1, n_blocks):
            splitter = CombinatorialPurgedSplit(
                n_blocks, n_test_blocks, embargo_bars=embargo, **bars
            )
            splits = list(splitter.split(np.zeros(num_samples)))
            assert len(splits) == splitter.get_n_splits()
            for train, test in splits:
                assert train.size and test.size
                assert count_shared_bars(train, test, **bars) == 0
                for last in test[np.append(np.diff(test) > 1, True)]:
                    later = train[train > last]
                    least = last + window_bars + future_window + embargo
                    assert not later.size or later.min() >= least


def test_no_sample_more_than_needed_is_purged():
    train, test = next(WalkForwardSplit(2, **BARS).split(np.zeros(30)))
    closer = np.append(train, train.max() + 1)
    assert count_shared_bars(train, test, **BARS) == 0
    assert count_shared_bars(closer, test, **BARS) == 1


# Literal folds


def test_purged_folds():
    assert folds(PurgedTimeSeriesSplit(2, **BARS), 18) == [
        ([0, 1], [6, 7, 8, 9, 10, 11]),
        ([0, 1, 2, 3, 4, 5, 6, 7], [12, 13, 14, 15, 16, 17]),
    ]


def test_purged_options():
    splitter = PurgedTimeSeriesSplit(
        3, **BARS, max_train_size=4, test_size=5, gap=1, embargo_bars=2
    )
    assert ranges(splitter, 30) == [
        ([(2, 5)], [(11, 15)]),
        ([(9, 12)], [(18, 22)]),
        ([(16, 19)], [(25, 29)]),
    ]


def test_walk_forward_tests_everything_after_the_first_training():
    assert ranges(WalkForwardSplit(3, **BARS, min_train_size=5), 20) == [
        ([(0, 4)], [(9, 12)]),
        ([(0, 8)], [(13, 16)]),
        ([(0, 12)], [(17, 19)]),
    ]


def test_walk_forward_rolls():
    splitter = WalkForwardSplit(3, **BARS, min_train_size=5, expanding=False)
    assert ranges(splitter, 20) == [
        ([(0, 4)], [(9, 12)]),
        ([(4, 8)], [(13, 16)]),
        ([(8, 12)], [(17, 19)]),
    ]


def test_walk_forward_has_twelve_folds_where_system_003_had_five():
    splitter = WalkForwardSplit(12, window_bars=30, future_window=1)
    sizes = [(len(train), len(test)) for train, test in splitter.split(range(420))]
    assert sizes == [(30 + 30 * k, 30) for k in range(12)]


def test_walk_forward_loses_the_purge_of_the_real_file():
    splitter = WalkForwardSplit(5, window_bars=120, future_window=120)
    train, test = next(splitter.split(range(44_521)))
    assert test.min() - train.max() - 1 == 239


def test_blocking_folds():
    splitter = BlockingTimeSeriesSplit(2, **BARS, test_share=0.25, embargo_bars=1)
    assert ranges(splitter, 26) == [
        ([(1, 6)], [(11, 12)]),
        ([(14, 19)], [(24, 25)]),
    ]


def test_combinatorial_folds():
    splitter = CombinatorialPurgedSplit(4, 2, **BARS, embargo_bars=1)
    assert ranges(splitter, 40) == [
        ([(25, 39)], [(0, 19)]),
        ([(15, 15), (35, 39)], [(0, 9), (20, 29)]),
        ([(15, 25)], [(0, 9), (30, 39)]),
        ([(0, 5), (35, 39)], [(10, 29)]),
        ([(0, 5), (25, 25)], [(10, 19), (30, 39)]),
        ([(0, 15)], [(20, 39)]),
    ]


def test_combinatorial_paths():
    splitter = CombinatorialPurgedSplit(4, 2, **BARS)
    assert splitter.get_n_splits() == 6
    assert splitter.get_test_blocks().tolist() == [
        [0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3],
    ]  # fmt: skip
    assert splitter.get_block_ranges(10) == [(0, 2), (2, 5), (5, 7), (7, 10)]
    assert splitter.get_paths().tolist() == [[0, 0, 1, 2], [1, 3, 3, 4], [2, 4, 5, 5]]


@pytest.mark.parametrize(
    ("n_blocks", "n_test_blocks"), [(5, 1), (6, 2), (6, 3), (4, 3)]
)
def test_paths_use_every_tested_block_once(n_blocks, n_test_blocks):
    splitter = CombinatorialPurgedSplit(n_blocks, n_test_blocks, **BARS)
    paths, tested = splitter.get_paths(), splitter.get_test_blocks()
    assert len(paths) == splitter.get_n_splits() * n_test_blocks // n_blocks
    used = {(int(fold), block) for path in paths for block, fold in enumerate(path)}
    assert used == {(k, int(b)) for k, row in enumerate(tested) for b in row}
    assert paths.size == len(used)


# Against other implementations


def test_scikit_learn_uses_the_splitters():
    selection = pytest.importorskip(
        "sklearn.model_selection", reason="needs scikit-learn"
    )
    dummy = pytest.importorskip("sklearn.dummy", reason="needs scikit-learn")
    scores = selection.cross_val_score(
        dummy.DummyClassifier(),
        np.zeros((60, 1)),
        np.tile([0, 1, 1], 20),
        cv=WalkForwardSplit(3, **BARS),
    )
    assert len(scores) == 3


@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize("size", [None, 9])
def test_purged_split_is_scikit_learns_with_a_longer_gap(gap, size):
    selection = pytest.importorskip(
        "sklearn.model_selection", reason="needs scikit-learn"
    )
    other = selection.TimeSeriesSplit(4, gap=4 + gap, test_size=size, max_train_size=20)
    ours = PurgedTimeSeriesSplit(4, **BARS, gap=gap, test_size=size, max_train_size=20)
    expected = [(a.tolist(), b.tolist()) for a, b in other.split(np.zeros(103))]
    assert folds(ours, 103) == expected


@pytest.mark.parametrize(("n_blocks", "n_test_blocks"), [(4, 2), (6, 2), (6, 3)])
@pytest.mark.parametrize("embargo", [0, 3])
def test_combinatorial_agrees_with_skfolio(n_blocks, n_test_blocks, embargo):
    other = pytest.importorskip(
        "skfolio.model_selection", reason="skfolio is in requirements-dev.txt"
    )
    num_samples = 20 * n_blocks
    theirs = other.CombinatorialPurgedCV(
        n_blocks, n_test_blocks, purged_size=4, embargo_size=embargo
    )
    ours = CombinatorialPurgedSplit(
        n_blocks, n_test_blocks, **BARS, embargo_bars=embargo
    )
    expected = [
        (train.tolist(), np.concatenate(tests).tolist())
        for train, tests in theirs.split(np.zeros((num_samples, 1)))
    ]
    assert folds(ours, num_samples) == expected
    np.testing.assert_array_equal(ours.get_paths().T, theirs.recombined_paths)


@pytest.mark.parametrize("expanding", [True, False])
def test_walk_forward_agrees_with_skfolio(expanding):
    other = pytest.importorskip(
        "skfolio.model_selection", reason="skfolio is in requirements-dev.txt"
    )
    theirs = other.WalkForward(
        test_size=6, train_size=10, purged_size=4, expand_train=expanding
    )
    ours = WalkForwardSplit(3, **BARS, min_train_size=10, expanding=expanding)
    expected = [(a.tolist(), b.tolist()) for a, b in theirs.split(np.zeros((32, 1)))]
    assert folds(ours, 32) == expected


# Errors come before the first fold


@pytest.mark.parametrize(
    ("kind", "options", "num_samples"),
    [
        (PurgedTimeSeriesSplit, {"n_splits": 5}, 18),
        (PurgedTimeSeriesSplit, {"n_splits": 5, "test_size": 10}, 50),
        (WalkForwardSplit, {"n_splits": 5}, 9),
        (WalkForwardSplit, {"n_splits": 2, "min_train_size": 10}, 15),
        (BlockingTimeSeriesSplit, {"n_splits": 5}, 29),
        (CombinatorialPurgedSplit, {"n_blocks": 6, "n_test_blocks": 5}, 40),
        (CombinatorialPurgedSplit, {"n_blocks": 6, "n_test_blocks": 2}, 3),
    ],
)
def test_too_few_samples(kind, options, num_samples):
    splitter = kind(**options, **BARS)
    with pytest.raises(DataError, match=f"Received: {num_samples}. Use fewer") as error:
        splitter.split(np.zeros(num_samples))
    enough = int(str(error.value).split(" are enough")[0].split()[-1])
    for train, test in splitter.split(np.zeros(enough)):
        assert train.size and test.size


def test_as_few_samples_as_possible():
    assert folds(WalkForwardSplit(2, **BARS), 7) == [([0], [5]), ([0, 1], [6])]
    with pytest.raises(DataError):
        WalkForwardSplit(2, **BARS).split(np.zeros(6))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (PurgedTimeSeriesSplit, {"n_splits": 1}, "n_splits=1"),
        (PurgedTimeSeriesSplit, {"n_splits": 2.0}, "whole number"),
        (PurgedTimeSeriesSplit, {"n_splits": True}, "whole number"),
        (PurgedTimeSeriesSplit, {"window_bars": 0}, "window_bars=0"),
        (PurgedTimeSeriesSplit, {"future_window": 0}, "future_window=0"),
        (PurgedTimeSeriesSplit, {"embargo_bars": -1}, "embargo_bars=-1"),
        (PurgedTimeSeriesSplit, {"gap": -1}, "gap=-1"),
        (PurgedTimeSeriesSplit, {"test_size": 0}, "test_size=0"),
        (PurgedTimeSeriesSplit, {"max_train_size": 0}, "max_train_size=0"),
        (WalkForwardSplit, {"n_splits": 0}, "n_splits=0"),
        (WalkForwardSplit, {"min_train_size": 0}, "min_train_size=0"),
        (BlockingTimeSeriesSplit, {"test_share": 1.0}, "test_share=1.0"),
        (CombinatorialPurgedSplit, {"n_blocks": 1}, "n_blocks=1"),
        (CombinatorialPurgedSplit, {"n_test_blocks": 6}, "n_test_blocks=6"),
    ],
)
def test_impossible_options(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        kind(**(BARS | options))


# Counting


def test_count_shared_bars_by_hand():
    # Sample 10 uses bars 8..12; sample 14 uses 12..16; sample 15 uses 13..17.
    assert count_shared_bars(np.array([10]), np.array([14]), **BARS) == 1
    assert count_shared_bars(np.array([10]), np.array([15]), **BARS) == 0
    assert count_shared_bars(np.array([15, 0]), np.array([10, 14]), **BARS) == 4
    assert count_shared_bars(np.array([], int), np.array([14]), **BARS) == 0


def test_count_shared_bars_equals_sets():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.choice(200, 12, replace=False), rng.choice(200, 12, replace=False)
        bars = [{r + k for r in rows for k in range(-2, 3)} for rows in (a, b)]
        assert count_shared_bars(a, b, **BARS) == len(bars[0] & bars[1])


def test_count_lookback_rows():
    splitter = CombinatorialPurgedSplit(4, 1, **BARS)
    train, test = list(splitter.split(np.zeros(80)))[1]
    # The test block 20..39 uses bars up to 41. Training resumes at 44, whose window
    # begins at 42; features that look back 10 bars touch the block until 51 - 10 = 41.
    assert train[train > 39].min() == 44
    count = {
        lookback: count_lookback_rows(train, test, lookback_bars=lookback, **BARS)
        for lookback in (0, 1, 10, 1000)
    }
    assert count == {0: 0, 1: 1, 10: 10, 1000: 36}


def test_an_embargo_removes_the_lookback_rows():
    splitter = CombinatorialPurgedSplit(4, 1, **BARS, embargo_bars=10)
    splits = list(splitter.split(np.zeros(160)))
    assert len(splits) == 4
    for train, test in splits:
        assert count_lookback_rows(train, test, lookback_bars=10, **BARS) == 0


def test_training_before_the_test_looks_back_at_nothing():
    splits = list(WalkForwardSplit(3, **BARS).split(np.zeros(100)))
    assert len(splits) == 3
    for train, test in splits:
        assert count_lookback_rows(train, test, lookback_bars=50, **BARS) == 0
