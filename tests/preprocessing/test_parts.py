import itertools

import numpy as np
import pytest
from world.frames import make_own_frame

from config import Config, ConfigError
from data_loader import TrainingDataLoader
from preprocessing.parts import Timeline, fold_ranges, require_windows
from preprocessing.shared_bars import count_shared_bars
from utils import DataError

SMALL = {"sequence_length": 20, "future_window": 15, "undersampling_min_samples": 20}


def test_walk_forward_literally():
    config = Config(**SMALL, n_splits=2, test_split=0.1, validation_split=0.3)
    assert fold_ranges(1000, config) == [
        {"train": (0, 199), "validation": (199, 298), "test": (298, 616)},
        {"train": (0, 388), "validation": (388, 582), "test": (582, 900)},
    ]


def test_parts_by_date_end_with_the_last_bar_of_their_day():
    days = {"train_end": "2024-01-01", "validation_end": "2024-01-02"}
    config = Config(**SMALL, **days, n_splits=2)
    frame = make_own_frame(4000).drop(index=range(100, 140))
    loader = TrainingDataLoader.from_frame(frame, "TESTUSDT", config=config)
    data = loader.load_training_data()
    spans = {name: part.spans for name, part in data.parts.items()}
    assert spans == {
        "train": ((0, 1400),),
        "validation": ((1400, 2840),),
        "test": ((2840, 3960),),
    }
    assert str(data.timestamps[1399])[:16] == "2024-01-01T23:59"
    assert str(data.timestamps[2840])[:16] == "2024-01-03T00:00"
    # Folds lie before the test; 1440 of 2840 rows of theirs are validation.
    last = fold_ranges(data.timeline, config)[-1]
    assert last["test"][1] == 2840
    start, stop = last["validation"]
    assert stop - start == round(stop * 1440 / 2840)
    late = config.replace(validation_end="2024-01-03")
    with pytest.raises(DataError, match="rows in every part. Received: 2024-01-01 and"):
        TrainingDataLoader.from_frame(frame, config=late).load_training_data()


@pytest.mark.parametrize(
    ("cv", "n_splits", "embargo"),
    list(
        itertools.product(
            ("walk_forward", "rolling", "purged", "blocking"), (2, 5), (0, 7)
        )
    ),
)
def test_no_fold_shares_a_bar_with_what_it_is_judged_by(cv, n_splits, embargo):
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


def test_walk_forward_in_days_literally():
    days = {"cv_train_days": 10, "cv_test_days": 2.5, "cv_gap_days": 1}
    config = Config(**SMALL, timeframe="1h", test_split=0.5, **days)
    folds = fold_ranges(1000, config)
    # 485 targets before the test part; ten days, 34 purged, one day, two and a half.
    assert len(folds) == (485 - 240 - 34 - 24) // 60 == 3
    assert folds[0] == {
        "train": (0, 157),
        "validation": (157, 262),
        "test": (286, 380),
    }
    for number, fold in enumerate(folds):
        first, stop = fold["test"][0] + 19, fold["test"][1] - 15
        assert (first, stop) == (305 + 60 * number, 365 + 60 * number)
        assert fold["train"][0] == max(0, 7 + 60 * number - 19)
        assert fold["validation"][1] - 15 == 247 + 60 * number
    wide = Config(**SMALL, timeframe="1h", test_split=0.5, cv="expanding", **days)
    grown = fold_ranges(1000, wide)
    assert [fold["test"] for fold in grown] == [fold["test"] for fold in folds]
    assert {fold["train"][0] for fold in grown} == {0}
    assert grown[-1]["validation"][1] == folds[-1]["validation"][1]
    bars = {"cv_train_bars": 240, "cv_test_bars": 60, "cv_gap_days": 1}
    assert fold_ranges(1000, Config(**SMALL, timeframe="1h", test_split=0.5, **bars))


def test_days_of_a_walk_are_those_of_the_calendar():
    hours = np.arange("2024-01-01", "2024-02-19", dtype="datetime64[h]")
    gone = slice(400, 440)
    times = Timeline.from_array(
        np.delete(hours.astype("datetime64[ns]"), gone), bar_seconds=3600
    )
    days = {"cv_train_days": 7, "cv_test_days": 5, "timeframe": "1h"}
    folds = fold_ranges(times, Config(**SMALL, test_split=0.1, **days))
    first = times.at(np.array([fold["test"][0] + 19 for fold in folds]))
    assert str(first[0]) == "2024-01-09T15:00:00.000000000"
    assert (np.diff(first) == np.timedelta64(5, "D")).all() and len(first) == 7
    # The purge before the third test is of rows: the gap lies inside.
    last = [str(times.at(fold["validation"][1] - 16))[5:13] for fold in folds[:4]]
    assert last == ["01-08T04", "01-13T04", "01-16T12", "01-23T04"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cv_train_days": 9}, "cv_test_days, cv_test_bars: expected one of them"),
        (
            {"cv_train_days": 9, "cv_train_bars": 9, "cv_test_days": 1},
            "cv_train_days, cv_train_bars: expected one of them",
        ),
        ({"cv_train_days": 9, "cv_test_days": 1, "n_splits": 3}, "n_splits: expected"),
        ({"cv_train_days": 9, "cv_test_days": 1, "cv": "purged"}, "cv: expected"),
        ({"cv_gap_days": 1}, "cv_gap_days: expected cv_train_days"),
        ({"keep_folds": True}, "keep_folds: expected folds"),
        ({"n_splits": 1}, "n_splits: expected >= 2"),
    ],
)
def test_folds_that_contradict(fields, message):
    with pytest.raises(ConfigError, match=message):
        Config(**SMALL, **fields)


def test_a_walk_has_at_least_two_folds_and_at_most_500():
    config = Config(**SMALL, cv_train_bars=100, cv_test_bars=1)
    needed = 100 + 34
    rows = round((500 + needed + 15) / 0.9)
    assert len(fold_ranges(rows, config)) == 500
    with pytest.raises(DataError, match="at most 500 folds. Received: 501"):
        fold_ranges(rows + 1, config)
    with pytest.raises(DataError, match=f"{needed + 2} are enough"):
        fold_ranges(round((needed + 1 + 15) / 0.9), config)


COMBINATORIAL = Config(
    **SMALL, n_splits=4, cv="combinatorial", test_split=0.1, validation_split=0.3
)


def test_combinatorial_literally():
    folds = fold_ranges(1000, COMBINATORIAL)
    assert len(folds) == 6
    # Blocks of 221 targets; window 20 and label 15 keep 34 apart on either side.
    assert folds[0] == {
        "train": [(457, 752)],
        "validation": [(752, 900)],
        "test": [(0, 457)],
    }
    assert folds[1] == {
        "train": [(236, 423), (678, 764)],
        "validation": [(764, 900)],
        "test": [(0, 236), (423, 678)],
    }


@pytest.mark.parametrize(("tested", "embargo"), [(1, 0), (2, 0), (2, 9), (3, 0)])
def test_combinatorial_folds_share_no_bar(tested, embargo):
    fields = {"cv_test_blocks": tested, "embargo_bars": embargo}
    config = COMBINATORIAL.replace(**fields)
    frame = make_own_frame(2500).drop(index=range(900, 930))
    loader = TrainingDataLoader.from_frame(frame, "TESTUSDT", config=config)
    sizes = {"window_bars": 20, "future_window": 15}
    final, times = loader.load_training_data(), np.zeros(2500, int)
    for ranges in fold_ranges(final.num_rows, config):
        data = loader.load_training_data(ranges)
        parts = [part.targets for part in data.parts.values()]
        for a, b in itertools.combinations(parts, 2):
            assert count_shared_bars(a, b, **sizes) == 0
        rows = sum(b - a - embargo for a, b in ranges["train"])
        assert data.scaler.num_rows == rows
        times[parts[2]] += 1
        assert count_shared_bars(parts[2], final.parts["test"].targets, **sizes) == 0
    # Every row is tested as often as its block is chosen.
    chosen = {1: 1, 2: 3, 3: 3}[tested]
    assert set(times[times > 0]) == {chosen}
    assert (times > 0).sum() > 2100


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_splits": 2}, "cv_test_blocks: expected fewer than n_splits"),
        ({"n_splits": 40, "cv_test_blocks": 3}, "expected at most 500 folds"),
    ],
)
def test_combinations_that_make_no_sense(fields, message):
    with pytest.raises(ConfigError, match=message):
        COMBINATORIAL.replace(**fields)


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


def test_a_fold_without_a_window_is_refused_before_training():
    config = Config(
        sequence_length=50, future_window=50, cv_train_bars=120, cv_test_bars=200
    )
    with pytest.raises(DataError, match=r"fold 1 of \d+: expected at least 100 rows"):
        require_windows(fold_ranges(5000, config), config)
