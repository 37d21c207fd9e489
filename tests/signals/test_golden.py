"""Golden rows come back bit for bit, and refuse a model that says something else."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from world.signals import make_candles, make_recipe, make_rules

from files import strict
from signals.golden import GoldenRows
from signals.reference import LEVELS, Reference
from utils import DataError, RefusedArtifactError

RECIPE = make_recipe()
RULES = make_rules(RECIPE)
CANDLES = make_candles(300)


def say(windows):
    scaled = RULES.pipeline.scaled(windows.reshape(-1, windows.shape[-1]))
    return RULES.say(scaled.reshape(windows.shape))


@pytest.fixture
def golden():
    """What the rules say of four windows of the candles."""
    newest = RECIPE.pipeline.features(CANDLES, last=31)
    ends = np.array([0, 10, 20, 30]) + newest.first
    windows = np.stack([newest.values[end - 7 : end + 1] for end in ends])
    answers, signals = RULES.policy.decide(say(windows))
    return GoldenRows(
        times=pd.DatetimeIndex(pd.to_datetime(newest.opens[ends], utc=True)),
        windows=windows,
        raw=say(windows).astype(np.float64),
        answers=answers.astype(np.float64),
        signals=signals,
    )


def read_back(golden):
    values = strict.parse_json(strict.to_json(golden.to_dict()).encode(), "golden")
    return GoldenRows.from_dict(values, "golden")


def test_they_come_back_bit_for_bit(golden):
    again = read_back(golden)
    for name in ("windows", "raw", "answers", "signals"):
        found, expected = getattr(again, name), getattr(golden, name)
        assert found.tobytes() == expected.tobytes(), name
    assert list(again.times) == list(golden.times)
    assert golden.to_dict()["raw"][0][0].startswith("0x1.")
    assert again.check(say, RULES.policy, "folder") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raw": 0.001}, "outputs up to 0.001 apart"),
        ({"answers": 0.01}, "calibrated 0.01, signals the same"),
        ({"signals": 1}, "calibrated 0, signals others"),
    ],
)
def test_a_model_that_says_something_else_is_refused(golden, change, message):
    [(name, step)] = change.items()
    other = dataclasses.replace(golden, **{name: getattr(golden, name) + step})
    with pytest.raises(RefusedArtifactError, match=message):
        read_back(other).check(say, RULES.policy, "folder")


def test_features_are_made_anew_from_candles(golden):
    found = golden.check_features(RECIPE.pipeline, CANDLES, "folder")
    assert found == {"recomputed": 4, "largest_feature_difference": 0.0}
    assert golden.check_features(RECIPE.pipeline, CANDLES[:281], "x")["recomputed"] == 2
    with pytest.raises(DataError, match="expected candles of one of 4 windows between"):
        golden.check_features(RECIPE.pipeline, CANDLES[:263], "folder")
    corrected = CANDLES.copy()
    corrected.loc[272, ["high", "close"]] *= 1.01
    with pytest.raises(RefusedArtifactError, match="features of 4 validation windows"):
        golden.check_features(RECIPE.pipeline, corrected, "folder")


@pytest.mark.parametrize("key", ["shape", "raw", "times", "format", None])
def test_what_is_no_golden_rows_is_refused(golden, key):
    values = golden.to_dict()
    values = [] if key is None else values | {key: values[key] * 2}
    with pytest.raises(RefusedArtifactError, match="folder: expected golden rows of"):
        GoldenRows.from_dict(values, "folder")


def test_a_reference_comes_back_and_is_read_with_care():
    reference = Reference(
        feature_names=("a", "b"),
        quantiles=np.arange(42.0).reshape(2, 21) / 7,
        clip_shares=np.array([0.0, 0.25]),
        reach=np.array([1.5, 0.1]),
        targets={"label_shares": [0.2, 0.6, 0.2]},
        answers={"p_long": [0.1] * len(LEVELS)},
    )
    values = strict.parse_json(strict.to_json(reference.to_dict()).encode(), "it")
    again = Reference.from_dict(values, "it")
    assert np.array_equal(again.quantiles, reference.quantiles)
    assert again.feature_names == ("a", "b") and again.targets == reference.targets
    values["features"]["a"]["quantiles"] = [1.0]
    for broken in (values, {}, None, values | {"format": 2}):
        with pytest.raises(RefusedArtifactError, match="it: expected a reference"):
            Reference.from_dict(broken, "it")
