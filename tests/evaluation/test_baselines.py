import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from world.frames import make_own_frame

from data_loader import TrainingDataLoader
from evaluation import baselines
from evaluation.baselines import (
    boosted_outputs,
    keeping_forecasts,
    linear_outputs,
    simple_forecasts,
)
from models import tabular_adapter
from preprocessing.windows import value_limits, window_statistics

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


def outputs(data, seed=0):
    return boosted_outputs(data, ("test",), seed=seed)["test"]


def test_gradient_boosting_finds_what_a_window_shows(planted):
    rows = planted.parts["test"].targets
    found = outputs(planted)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == planted.labels[rows]).mean() > 0.8
    np.testing.assert_array_equal(found, outputs(planted))


def test_gradient_boosting_is_the_library_s_at_the_natural_mix(planted):
    """What it says of classes is what a report compares with, to the bit."""
    targets = planted.parts["train"].targets
    assert len(planted.train_targets) < len(targets)
    limits = value_limits(planted.features[: planted.parts["train"].stop])

    def inputs(rows):
        return window_statistics(planted.features, rows, window_bars=8, limits=limits)

    model = HistGradientBoostingClassifier(
        max_iter=40,
        learning_rate=0.1,
        max_leaf_nodes=6,
        min_samples_leaf=len(targets) // 20,
        max_features=0.3,
        early_stopping=False,
        random_state=5,
    )
    model.fit(inputs(targets), planted.labels[targets])
    expected = model.predict_proba(inputs(planted.parts["test"].targets))
    np.testing.assert_array_equal(outputs(planted, seed=5), expected)
    weighted = dataclasses.replace(planted, class_weights=np.array([3.0, 1.0, 2.0]))
    np.testing.assert_array_equal(outputs(weighted, seed=5), expected)


def test_rounds_of_activity_do_not_choose_those_of_direction(planted, monkeypatch):
    losses = np.ones((2, 40))
    losses[0, 4] = losses[1, 19] = 0.5
    curves = dict(zip(("val_loss", "val_direction_loss"), losses.tolist(), strict=True))
    curves["loss"] = curves["val_loss"]
    monkeypatch.setattr(tabular_adapter, "learning_curves", lambda *_, **__: curves)
    found, kept = outputs(planted), []
    for best in (4, 19):
        curves["val_loss"] = np.roll(losses[0], best - 4).tolist()
        curves["val_direction_loss"] = curves["val_loss"]
        kept.append(outputs(planted))
    np.testing.assert_array_equal(found[:, 1], kept[0][:, 1])
    odds = [said[:, 2] / said[:, 0] for said in (found, kept[1])]
    np.testing.assert_allclose(*odds)
    assert not np.allclose(found, kept[0])


def test_a_linear_regression_reads_what_boosting_reads(planted, monkeypatch):
    monkeypatch.setattr(baselines, "MAX_TARGETS", 1000)
    targets = planted.parts["train"].targets
    chosen = targets[(2 * np.arange(1000) + 1) * len(targets) // 2000]
    limits = value_limits(planted.features[: planted.parts["train"].stop])

    def inputs(rows):
        return window_statistics(planted.features, rows, window_bars=8, limits=limits)

    regression = LogisticRegression(C=1 / (0.2 * 1000), max_iter=1000)
    model = make_pipeline(StandardScaler(), regression)
    model.fit(inputs(chosen), planted.labels[chosen])
    said = model.predict_proba(inputs(planted.parts["test"].targets).astype("f8"))
    weighted = dataclasses.replace(planted, class_weights=np.array([3.0, 1.0, 2.0]))
    for each in (planted, weighted):
        found = linear_outputs(each, ("test",), seed=0)["test"]
        # A class as if met once more: see `ClassMix.natural`.
        np.testing.assert_allclose(found, (1000 * said + 1) / 1003, atol=1e-9)


@pytest.fixture
def tables(monkeypatch):
    """The tables that boosting is fitted on, one for each time."""
    found, fit = [], baselines.Boosting.fit_model

    def note(self, model, table):
        found.append(table)
        return fit(self, model, table)

    monkeypatch.setattr(baselines.Boosting, "fit_model", note)
    return found


def test_gradient_boosting_takes_evenly_spaced_targets_of_training(
    planted, tables, monkeypatch
):
    monkeypatch.setattr(baselines, "MAX_TARGETS", 500)
    outputs(planted)
    targets = planted.parts["train"].targets
    chosen = targets[(2 * np.arange(500) + 1) * len(targets) // 1000]
    assert tables[0].targets.tolist() == planted.labels[chosen].tolist()
    assert tables[0].weights is None


def test_a_class_that_training_lacks_has_no_probability():
    rng = np.random.default_rng(0)
    found = outputs(load(make_own_frame(1500, label=rng.integers(1, 3, 1500))))
    assert (found[:, 0] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_forecasts_are_kept_for_the_same_data_and_no_longer(data, planted, tables):
    alone = outputs(data)
    with keeping_forecasts():
        first, again = outputs(data), outputs(data)
        assert len(tables) == 2
        # Balancing is nothing that a baseline reads.
        chosen = data.train_targets[::2]
        outputs(dataclasses.replace(data, train_targets=chosen, class_odds=None))
        assert len(tables) == 2
        other = outputs(data, seed=1)
        changed = data.labels.copy()
        changed[data.parts["train"].targets[0]] += 1
        changed %= 3
        outputs(dataclasses.replace(data, labels=changed))
        outputs(planted)
        assert boosted_outputs(data, ("validation",), seed=0).keys() == {"validation"}
        assert len(tables) == 6
    outputs(data)
    assert len(tables) == 7
    np.testing.assert_array_equal(first, alone)
    np.testing.assert_array_equal(again, alone)
    assert not np.array_equal(other, alone)
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 0
