"""What a stage may learn from: rows behind those of the models below it."""

import numpy as np
import pandas as pd
import pytest
from world.frames import make_own_frame

from config import Config, ConfigError
from data_loader import TrainingDataLoader
from preprocessing.inheritance import Inherited
from utils import DataError

SMALL = Config(
    pair="TESTUSDT",
    sequence_length=20,
    future_window=15,
    undersampling_min_samples=20,
    validation_split=0.2,
    test_split=0.1,
)
FRAME = make_own_frame(2000)


def load(inherited=None, frame=FRAME, **changes):
    config = SMALL.replace(**changes)
    loader = TrainingDataLoader.from_frame(frame, config=config, inherited=inherited)
    return loader.load_training_data()


def at(row):
    return FRAME["timestamp"].iloc[row].to_datetime64()


def spans(data):
    return {name: part.spans[0] for name, part in data.parts.items()}


def after(learned, chosen, **others):
    return Inherited(learned_until=at(learned), chosen_until=at(chosen), **others)


def test_an_older_share_is_learned_from_and_the_rest_left_to_who_builds_on_it():
    older = load(stage_share=0.5)
    assert spans(older) == {
        "train": (0, 700),
        "validation": (1400, 1800),
        "test": (1800, 2000),
    }
    last = older.parts["train"].targets[-1] + SMALL.future_window
    assert last == 699
    newer = load(after(last, 1799))
    assert spans(newer) == spans(older) | {"train": (700, 1400)}
    # The first window reads no bar that a label of the older half looked at.
    assert newer.parts["train"].targets[0] - SMALL.sequence_length + 1 == 700
    whole = load(after(last, 1799, learns_behind=False))
    assert spans(whole)["train"] == (0, 1400)


def test_rows_of_a_parent_that_is_trained_further_are_learned_from_again():
    first = after(1399, 1799, fitted_until=at(699))  # one of both learned until 699
    assert spans(load(first)) == {
        "train": (700, 1400),
        "validation": (1400, 1800),
        "test": (1800, 2000),
    }
    with pytest.raises(DataError, match="validation: expected rows .* learned from"):
        load(after(1400, 1799, fitted_until=at(699)))


def test_rows_that_a_parent_has_seen_are_refused():
    with pytest.raises(
        DataError, match=r"train: expected rows behind .* --stage-share"
    ):
        load(after(1399, 1799))
    with pytest.raises(DataError, match="validation: expected rows .* learned from"):
        load(after(1400, 1799))
    with pytest.raises(DataError, match="test: expected rows .* seen, so from"):
        load(after(699, 1800))


def test_steps_of_a_parent_are_taken_over_unchanged_or_refused():
    parent = load(stage_share=0.5).pipeline
    given = after(699, 1799, pipeline=parent)
    child = load(given)
    assert child.pipeline is parent
    own = load(after(699, 1799))
    assert not np.array_equal(own.features, child.features)
    others = pd.concat([FRAME, FRAME["volume_change"].rename("more")], axis=1)
    with pytest.raises(DataError, match="feature_names: expected"):
        load(given, frame=others)
    with pytest.raises(DataError, match="window_bars: expected 20"):
        load(given, sequence_length=21)


def test_shares_of_the_training_part_know_no_folds():
    with pytest.raises(ConfigError, match="stage_share: expected 1 with folds"):
        SMALL.replace(stage_share=0.5, n_splits=3)
    with pytest.raises(ConfigError, match="members: expected each once"):
        SMALL.replace(members=["a", "a"])
