import dataclasses

import numpy as np
import pytest
from conftest import make_own_frame

from data_loader import TrainingDataLoader
from sequence_generator import (
    MemoryEfficientDataLoader,
    cut_windows,
    epoch_positions,
    evenly_spaced,
)
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


def test_check_notices_a_window_that_leaves_its_part(data):
    parts = dict(data.parts)
    part = parts["test"]
    parts["test"] = dataclasses.replace(part, start=part.start + 5)
    with pytest.raises(DataError, match="test: the window of row 909 leaves the part"):
        make_loader(dataclasses.replace(data, parts=parts))
