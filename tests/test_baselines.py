import numpy as np
import pytest
from conftest import make_own_frame

import baselines
from baselines import GradientBoosting, simple_forecasts, window_statistics
from data_loader import TrainingDataLoader

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


def test_window_statistics_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    features = (1000 + rng.standard_normal((300, 2))).astype(np.float32)
    rows = np.array([99, 150, 299])
    found = window_statistics(features, rows, window_bars=100)
    assert found.shape == (3, 2 * 4 * 2)
    expected = [
        [
            value
            for j in range(2)
            for size in (5, 15, 60, 100)
            for value in (
                features[row - size + 1 : row + 1, j].astype(float).mean(),
                features[row - size + 1 : row + 1, j].astype(float).std(),
            )
        ]
        for row in rows
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_window_statistics_read_their_own_window_only():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 3)).astype(np.float32)
    row = np.array([100])
    before = window_statistics(features, row, window_bars=20)
    changed = features.copy()
    changed[101:] += 5
    changed[:81] -= 7
    after = window_statistics(changed, row, window_bars=20)
    np.testing.assert_allclose(after, before, atol=1e-6)
    changed[81] += 1
    assert not np.allclose(window_statistics(changed, row, window_bars=20), before)


@pytest.mark.parametrize(
    ("window_bars", "sizes"),
    [(3, [3]), (5, [5]), (60, [5, 15, 60]), (120, [5, 15, 60, 120])],
)
def test_lengths_never_leave_the_window(window_bars, sizes):
    assert baselines._window_sizes(window_bars) == sizes


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
