import itertools

import pytest
from conftest import make_own_frame

from config import Config
from data_loader import TrainingDataLoader
from evaluation.folds import fold_ranges, summarise
from preprocessing.splits import count_shared_bars
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


def test_summary():
    folds = [{"skill": 0.1, "trades": 3, "text": "a"}, {"skill": 0.3, "trades": None}]
    assert summarise(folds) == {
        "skill": {"mean": 0.2, "std": pytest.approx(0.14142135), "folds": [0.1, 0.3]},
        "trades": {"mean": 3.0, "std": None, "folds": [3, None]},
    }
