import numpy as np
import pytest
from conftest import make_own_frame

from data_loader import TrainingDataLoader
from evaluation.baselines import GradientBoosting, simple_forecasts

SMALL = {
    "pair": "TESTUSDT",
    "sequence_length": 8,
    "future_window": 5,
    "undersampling_min_samples": 100,
}


def load(frame):
    return TrainingDataLoader.from_frame(frame, **SMALL).load_training_data()


@pytest.fixture(scope="module")
def data():
    return load(make_own_frame(2000, seed=1))


def test_simple_forecasts(data):
    rows = data.parts["test"].targets
    found = simple_forecasts(data, rows, bar_seconds=60, seed=0)
    assert list(found) == [
        "train_prior",
        "trailing_7d",
        "last_known_label",
        "always_hold",
        "stratified_random",
    ]
    assert (found["always_hold"].predicted == 1).all()
    np.testing.assert_array_equal(
        found["train_prior"].probabilities[5], data.class_prior
    )
    np.testing.assert_allclose(found["trailing_7d"].probabilities.sum(axis=1), 1)
    for name in ("last_known_label", "always_hold", "stratified_random"):
        assert found[name].probabilities is None
    again = simple_forecasts(data, rows, bar_seconds=60, seed=0)
    np.testing.assert_array_equal(
        again["stratified_random"].predicted, found["stratified_random"].predicted
    )
    shares = np.bincount(found["stratified_random"].predicted) / len(rows)
    np.testing.assert_allclose(shares, data.class_prior, atol=0.12)


def test_the_last_known_label_is_one_horizon_old(data):
    rows = np.array([3, 4, 5, 6, 900])
    found = simple_forecasts(data, rows, bar_seconds=60, seed=0)["last_known_label"]
    expected = [1, 1, data.labels[0], data.labels[1], data.labels[895]]
    assert found.predicted.tolist() == expected


def test_no_forecast_reads_labels_that_are_not_known_yet(data):
    rows = np.array([1000])
    before = simple_forecasts(data, rows, bar_seconds=60, seed=0)
    changed = data.labels.copy()
    changed[996:] = (changed[996:] + 1) % 3
    object.__setattr__(data, "labels", changed)
    after = simple_forecasts(data, rows, bar_seconds=60, seed=0)
    for name, forecast in before.items():
        np.testing.assert_array_equal(after[name].predicted, forecast.predicted)
        if forecast.probabilities is not None:
            np.testing.assert_array_equal(
                after[name].probabilities, forecast.probabilities
            )


@pytest.fixture(scope="module")
def planted():
    frame = make_own_frame(4000, seed=2)
    signal = frame["close_change"].rolling(5).mean().fillna(0).to_numpy()
    frame["label"] = np.select([signal < -0.25, signal > 0.25], [0, 2], 1).astype("i1")
    return load(frame)


def test_gradient_boosting_finds_what_a_window_shows(planted):
    model = GradientBoosting(seed=0).fit(planted)
    assert model.num_targets_ == len(planted.parts["train"].targets)
    rows = planted.parts["test"].targets
    found = model.predict_proba(planted, rows)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == planted.labels[rows]).mean() > 0.8
    again = GradientBoosting(seed=0).fit(planted).predict_proba(planted, rows)
    np.testing.assert_array_equal(found, again)


def test_gradient_boosting_takes_evenly_spaced_targets_of_training(planted):
    taken = []

    class Spy(GradientBoosting):
        def _inputs(self, data, rows):
            taken.append(rows)
            return super()._inputs(data, rows)

    targets = planted.parts["train"].targets
    model = Spy(max_targets=500).fit(planted)
    assert model.num_targets_ == len(taken[0]) == 500
    assert np.isin(taken[0], targets).all()
    assert np.diff(taken[0]).max() <= len(targets) // 500 + 1


def test_a_class_that_training_lacks_has_no_probability():
    rng = np.random.default_rng(0)
    data = load(make_own_frame(1500, label=rng.integers(1, 3, 1500)))
    rows = data.parts["test"].targets
    found = GradientBoosting().fit(data).predict_proba(data, rows)
    assert (found[:, 0] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
