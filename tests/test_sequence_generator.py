import dataclasses
import gc
import weakref

import numpy as np
import pytest
from world.frames import make_own_frame

from data_loader import TrainingDataLoader
from preprocessing.stretches import consecutive_stretches, next_bar_returns
from sequence_generator import (
    MemoryEfficientDataLoader,
    cut_windows,
    epoch_positions,
    evenly_spaced,
)
from settings.loss_fields import LOSSES
from utils import DataError


@pytest.fixture(scope="module")
def data():
    return TrainingDataLoader.from_frame(
        make_own_frame(1000),
        "TESTUSDT",
        sequence_length=10,
        future_window=6,
        class_balancing_method="none",
    ).load_training_data()


def make_loader(data, **options):
    return MemoryEfficientDataLoader(data, **{"batch_size": 64, "seed": 1} | options)


def test_every_target_is_seen_before_one_repeats():
    for per_epoch in (7, 10, 13, 25):
        order = np.concatenate(
            [epoch_positions(10, per_epoch, seed=3, epoch=e) for e in range(6)]
        )
        for start in range(0, len(order) - 10, 10):
            assert sorted(order[start : start + 10]) == list(range(10))


def test_order_is_a_function_of_seed_and_epoch():
    def first(seed, epoch):
        return epoch_positions(100, 100, seed=seed, epoch=epoch).tolist()

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(1, 1)
    assert first(1, 0) != first(2, 0)
    assert epoch_positions(100, 100, seed=1, epoch=0).dtype == np.int32


def test_evenly_spaced():
    assert evenly_spaced(np.arange(10), 2).tolist() == [2, 7]
    assert evenly_spaced(np.arange(10), None).tolist() == list(range(10))
    assert evenly_spaced(np.arange(10), 50).tolist() == list(range(10))


def test_windows_end_at_their_target():
    features = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = cut_windows(features, np.array([2, 9]), window_bars=3)
    assert windows.shape == (2, 3, 2)
    assert windows[0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert windows[1].tolist() == [[14, 15], [16, 17], [18, 19]]


def test_training_batches_are_the_epochs_targets(data):
    loader = make_loader(data, windows_per_epoch=300)
    assert loader.steps_per_epoch == 5
    batches = iter(loader.train_dataset(first_epoch=2).as_numpy_iterator())
    for epoch in (2, 3):
        rows = loader.epoch_targets(epoch)
        got = [next(batches) for _ in range(5)]
        sizes = [len(labels) for _, labels in got]
        assert sum(sizes) == 300 and max(sizes) - min(sizes) <= 1
        windows = np.concatenate([windows for windows, _ in got])
        labels = np.concatenate([labels for _, labels in got])
        assert np.array_equal(labels, data.labels[rows])
        expected = np.stack([data.features[row - 9 : row + 1] for row in rows])
        assert np.array_equal(windows, expected)


def test_evaluation_reads_all_rows_once_in_order(data):
    loader = make_loader(data)
    rows = data.parts["test"].targets
    labels = np.concatenate([y for _, y in loader.test_dataset().as_numpy_iterator()])
    assert np.array_equal(labels, data.labels[rows])
    assert loader.test_dataset().cardinality().numpy() == 1


def test_validation_windows_are_spread(data):
    loader = make_loader(data, validation_windows=20)
    assert len(loader.validation_targets) == 20
    everyone = data.parts["validation"].targets
    gaps = np.diff(np.searchsorted(everyone, loader.validation_targets))
    assert gaps.max() - gaps.min() <= 1


def test_class_weights_reach_the_training_batches_alone(data):
    weighted = dataclasses.replace(data, class_weights=np.float32([3, 1, 2]))
    loader = make_loader(weighted)
    _, labels, weights = next(loader.train_dataset().as_numpy_iterator())
    assert np.array_equal(weights, np.float32([3, 1, 2])[labels])
    assert len(next(loader.validation_dataset().as_numpy_iterator())) == 2


def test_autotune_is_off(data):
    loader = make_loader(data)
    for dataset in (loader.train_dataset(), loader.validation_dataset()):
        assert dataset.options().autotune.enabled is False


def test_a_dataset_that_is_gone_keeps_no_rows(data):
    loader = make_loader(data)
    kept, batches = weakref.ref(loader), iter(loader.test_dataset())
    del loader
    gc.collect()
    assert len(next(batches)) == 2  # it is read to the end while somebody has it
    del batches
    gc.collect()
    assert kept() is None


def test_check_notices_a_window_that_leaves_its_part(data):
    parts = dict(data.parts)
    part = parts["test"]
    spans = [(part.start + 5, part.stop)]
    parts["test"] = dataclasses.replace(part, spans=spans)
    with pytest.raises(DataError, match="test: the window of row 909 leaves the part"):
        make_loader(dataclasses.replace(data, parts=parts))


# Losses of positions: stretches of bars, and what the bar after each earns


def make_sequential(data, **options):
    return make_loader(data, loss_traits=LOSSES["sharpe"], **options)


@pytest.fixture(scope="module")
def holed():
    """Data with filled bars at rows 200 and 210, and an hour missing before row 450."""
    frame = make_own_frame(1000)
    frame.loc[[200, 210], "is_target"] = False
    frame.loc[450:, "timestamp"] += np.timedelta64(1, "h")
    return TrainingDataLoader.from_frame(
        frame,
        "TESTUSDT",
        sequence_length=10,
        future_window=6,
        class_balancing_method="none",
    ).load_training_data()


def test_stretches_are_equal_parts_of_runs_of_rows():
    rows = np.array([1, 2, 3, 4, 5, 6, 7, 10, 20, 21])
    stretches = [part.tolist() for part in consecutive_stretches(rows, longest=3)]
    assert stretches == [[1, 2, 3], [4, 5], [6, 7], [20, 21]]
    assert consecutive_stretches(rows, longest=20) == []
    assert consecutive_stretches(rows[:0], longest=3) == []


def test_the_next_bars_return_is_not_known_before_a_gap(holed):
    returns = next_bar_returns(holed)
    close = holed.outcomes["close"]
    assert returns[300] == pytest.approx(close[301] / close[300] - 1)
    assert np.flatnonzero(np.isnan(returns)).tolist() == [449, 999]


def test_batches_are_stretches_of_bars_in_shuffled_order(holed):
    loader = make_sequential(holed, batch_size=32)
    batches = loader.epoch_batches(0)
    assert len(batches) == loader.steps_per_epoch
    assert all((np.diff(rows) == 1).all() for rows in batches)
    assert all(16 <= len(rows) <= 32 for rows in batches)
    # Rows 201 to 209 are a run too short for half a batch, row 449 has no next bar.
    train = holed.parts["train"].targets
    left_out = [*range(201, 210), 449]
    assert np.array_equal(
        np.sort(np.concatenate(batches)), np.setdiff1d(train, left_out)
    )
    assert loader.windows_per_epoch == len(train) - len(left_out)
    first_rows = [rows[0] for rows in batches]
    assert first_rows != sorted(first_rows)
    again = make_sequential(holed, batch_size=32)
    for epoch in (0, 3):
        assert np.array_equal(loader.epoch_targets(epoch), again.epoch_targets(epoch))
    assert not np.array_equal(loader.epoch_targets(0), loader.epoch_targets(1))


def test_no_stretch_crosses_a_gap_or_a_hole(holed):
    batches = make_sequential(holed, batch_size=8).epoch_batches(0)
    assert len(batches) > 20
    for rows in batches:
        for hole in (200, 210, 449):
            assert hole not in rows
            assert (rows < hole).all() or (rows > hole).all()


def test_stretches_come_with_the_next_bars_returns(holed):
    loader = make_sequential(holed, batch_size=32)
    returns = next_bar_returns(holed)
    batches = iter(loader.train_dataset(first_epoch=2).as_numpy_iterator())
    for epoch in (2, 3):
        for rows in loader.epoch_batches(epoch):
            windows, y = next(batches)
            assert y.dtype == np.float32 and np.array_equal(y, returns[rows])
            assert np.array_equal(windows[0], holed.features[rows[0] - 9 : rows[0] + 1])


def test_fewer_windows_are_whole_stretches(holed):
    loader = make_sequential(holed, batch_size=32, windows_per_epoch=100)
    assert loader.steps_per_epoch == 3
    seen = np.concatenate([loader.epoch_targets(epoch) for epoch in range(5)])
    assert len(np.unique(seen)) == len(seen)  # none repeats before all were seen
    assert abs(loader.windows_per_epoch - 100) < 16


def test_monitored_windows_are_spread_stretches(data):
    loader = make_sequential(data, batch_size=16, validation_windows=64)
    got = [len(y) for _, y in loader.validation_dataset().as_numpy_iterator()]
    assert got == [
        len(rows)
        for rows in np.split(
            loader.validation_targets,
            np.flatnonzero(np.diff(loader.validation_targets) != 1) + 1,
        )
    ]
    assert 48 <= sum(got) <= 80
    everyone = data.parts["validation"].targets
    assert loader.validation_targets[0] - everyone[0] < 40
    assert everyone[-1] - loader.validation_targets[-1] < 40
    assert loader.validation_dataset().cardinality().numpy() == len(got)


def test_thinned_targets_make_no_stretches(data):
    thinned = dataclasses.replace(data, train_targets=data.train_targets[::2])
    with pytest.raises(DataError, match="train: expected consecutive targets"):
        make_sequential(thinned)


def test_a_file_without_prices_has_no_returns(data):
    bare = dataclasses.replace(data, outcomes={})
    with pytest.raises(DataError, match="expected a column 'close'"):
        make_sequential(bare)
