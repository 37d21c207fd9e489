import itertools

import numpy as np
import pytest
from world.frames import make_own_frame

from config import Config
from data_loader import TrainingDataLoader
from preprocessing.parts import fold_ranges
from preprocessing.shared_bars import count_shared_bars
from utils import DataError

SMALL = {"sequence_length": 20, "future_window": 15, "undersampling_min_samples": 20}


def test_walk_forward_literally():
    config = Config(**SMALL, n_splits=2, test_split=0.1, validation_split=0.3)
    assert fold_ranges(1000, config) == [
        {"train": (0, 199), "validation": (199, 298), "test": (298, 616)},
        {"train": (0, 388), "validation": (388, 582), "test": (582, 900)},
    ]


@pytest.mark.parametrize(
    ("cv", "n_splits", "embargo"),
    list(
        itertools.product(
            ("walk_forward", "rolling", "purged", "blocking"), (1, 2, 5), (0, 7)
        )
    ),
)
def test_no_fold_shares_a_bar_with_what_it_is_judged_by(cv, n_splits, embargo):
    if cv == "purged" and n_splits == 1:
        pytest.skip("this splitter has at least two folds")
    config = Config(**SMALL, n_splits=n_splits, cv=cv, embargo_bars=embargo)
    frame = make_own_frame(2500).drop(index=range(900, 930))
    loader = TrainingDataLoader.from_frame(frame, "TESTUSDT", config=config)
    final = loader.load_training_data()
    sizes = {"window_bars": 20, "future_window": 15}
    blocks = []
    for ranges in fold_ranges(final.num_rows, config):
        data = loader.load_training_data(ranges)
        assert data.scaler.num_rows == data.parts["train"].stop - ranges["train"][0]
        train, validation, test = (part.targets for part in data.parts.values())
        for a, b in itertools.combinations((train, validation, test), 2):
            assert count_shared_bars(a, b, **sizes) == 0
        assert train.max() < validation.min() and validation.max() < test.min()
        assert count_shared_bars(test, final.parts["test"].targets, **sizes) == 0
        blocks.append(test)
    for a, b in itertools.pairwise(blocks):
        assert a.max() < b.min()


def test_too_few_rows():
    with pytest.raises(DataError, match="expected more samples"):
        fold_ranges(150, Config(**SMALL, n_splits=100))


@pytest.mark.parametrize("target", ["signal", "return"])
def test_folds_cut_from_rows_that_were_read_once(target):
    config = Config(**SMALL, n_splits=2, target=target, end_date="2024-01-02")
    frame = make_own_frame(3000)
    close = np.log(frame["close"])
    frame["target"] = close.shift(-15) - close
    loader = TrainingDataLoader.from_frame(frame[:-15], "TESTUSDT", config=config)
    rows = loader.read_rows()
    features = rows.features.copy()
    final = loader.load_training_data(rows=rows)
    assert final.digest() == loader.load_training_data().digest()
    for ranges in fold_ranges(final.num_rows, config):
        fold = loader.load_training_data(ranges, rows=rows)
        anew = loader.load_training_data(ranges)
        assert fold.digest() == anew.digest() != final.digest()
        assert fold.scaler == anew.scaler and fold.source == anew.source
    assert np.array_equal(rows.features, features)
