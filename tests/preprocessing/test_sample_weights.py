"""How much a training target counts, held against plain loops."""

import numpy as np
import pytest
from world.frames import make_own_frame

from config import Config
from data_loader import TrainingDataLoader
from models import families
from preprocessing.sample_weights import average_uniqueness, effective_targets
from utils import ConfigError

SMALL = {
    "sequence_length": 10,
    "future_window": 6,
    "undersampling_min_samples": 50,
    "pair": "TESTUSDT",
}


def load(frame, **fields):
    config = Config(**SMALL | fields)
    return TrainingDataLoader.from_frame(frame, config=config).load_training_data()


def make_ended_frame(num_rows=1500, seed=0):
    """LONG is known at once, HOLD only at the end of its horizon."""
    rng = np.random.default_rng(seed)
    label = rng.choice(3, num_rows, p=[0.3, 0.4, 0.3])
    frame = make_own_frame(num_rows, label=label)
    frame["label_end"] = np.choose(label, [4, 6, 1]).astype(np.int32)
    return frame


def test_uniqueness_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    targets = np.sort(rng.choice(300, 120, replace=False))
    bars = rng.integers(1, 25, 120)
    open_at = {}
    for target, length in zip(targets, bars, strict=True):
        for bar in range(target + 1, target + length + 1):
            open_at[bar] = open_at.get(bar, 0) + 1
    expected = [
        np.mean([1 / open_at[bar] for bar in range(t + 1, t + length + 1)])
        for t, length in zip(targets, bars, strict=True)
    ]
    np.testing.assert_allclose(average_uniqueness(targets, bars), expected, rtol=1e-12)


def test_a_label_alone_is_unique_and_two_at_once_are_half():
    found = average_uniqueness(np.array([0, 10, 11]), np.array([5, 2, 1]))
    assert found.tolist() == [1.0, 0.75, 0.5]


@pytest.mark.parametrize("has_ends", [True, False])
def test_targets_weigh_by_the_bars_of_their_labels(has_ends):
    frame = make_ended_frame()
    if not has_ends:
        frame = frame.drop(columns="label_end")
    data = load(frame, sample_weights="uniqueness", class_balancing_method="none")
    targets = data.train_targets
    bars = (
        frame["label_end"].to_numpy()[targets] if has_ends else np.full_like(targets, 6)
    )
    expected = average_uniqueness(targets, bars)
    weights = data.loss_weights(targets)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6)
    assert weights.mean() == pytest.approx(1)
    others = np.setdiff1d(np.arange(data.num_rows), targets)
    assert not data.row_weights[others].any()
    long = data.labels[targets] == 2
    assert (weights[long].mean() > 1.1 * weights[~long].mean()) == has_ends


def test_only_what_is_trained_on_makes_labels_overlap():
    frame = make_ended_frame()
    thin = load(frame, sample_weights="uniqueness")
    assert len(thin.train_targets) < len(thin.parts["train"].targets)
    bars = frame["label_end"].to_numpy()[thin.train_targets]
    expected = average_uniqueness(thin.train_targets, bars)
    weights = thin.loss_weights(thin.train_targets)
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-6)


def test_a_half_life_older_counts_half():
    data = load(
        make_own_frame(3 * 1440), sample_weights="recency", sample_half_life_days=0.5
    )
    targets = data.train_targets
    weights = data.loss_weights(targets)
    newest = data.timestamps[targets[-1]]
    for row, weight in zip(targets[::50], weights[::50], strict=True):
        days = (newest - data.timestamps[row]) / np.timedelta64(1, "D")
        assert weight / weights[-1] == pytest.approx(2 ** (-days / 0.5), rel=1e-5)


def test_weights_of_classes_and_of_targets_multiply():
    data = load(
        make_ended_frame(),
        sample_weights="uniqueness",
        class_balancing_method="class_weights",
        manual_class_weights=(4.0, 1.0, 2.0),
    )
    targets = data.train_targets
    of_classes = np.float32([4, 1, 2])[data.labels[targets]]
    expected = of_classes * data.row_weights[targets]
    assert np.array_equal(data.loss_weights(targets), expected)
    kept = np.bincount(data.labels[targets], weights=expected)
    shares = data.label_shares(targets)
    np.testing.assert_allclose(data.class_odds, kept / kept.sum() / shares, rtol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"sample_weights": "uniqueness"},
        {"sample_weights": "recency", "sample_half_life_days": 0.2},
    ],
)
def test_answers_stay_at_the_natural_mix(fields):
    config = Config(**SMALL, model="logistic", class_balancing_method="none", **fields)
    frame = make_ended_frame(4000)  # noise, whose LONG weighs most
    data = TrainingDataLoader.from_frame(frame, config=config).load_training_data()
    adapter = families.create_adapter(config)
    adapter.fit(data)
    rows = data.parts["test"].targets
    said = adapter.predict_proba(data, rows).mean(axis=0)
    np.testing.assert_allclose(said, data.class_prior, atol=0.03)
    raw = adapter.raw_outputs(adapter._inputs.of_rows(data.features, rows))
    weights = data.loss_weights(data.train_targets)
    trained = np.bincount(data.labels[data.train_targets], weights=weights)
    np.testing.assert_allclose(raw.mean(axis=0), trained / trained.sum(), atol=0.03)


def test_a_number_is_weighed_as_well():
    frame = make_own_frame(1500)
    frame["target"] = np.log(frame["close"].shift(-6) / frame["close"])
    frame = frame[:-6].drop(columns="label")
    weighted = load(frame, target="return", sample_weights="uniqueness")
    plain = load(frame, target="return")
    assert plain.row_weights is None and not plain.is_weighted
    assert weighted.is_weighted
    assert weighted.digest() != plain.digest()


def test_effective_targets_are_those_of_equal_weights():
    assert effective_targets(np.ones(50)) == pytest.approx(50)
    assert effective_targets(np.array([1.0, 0.0, 0.0])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sample_weights": "recency"}, "expected days with 'recency'"),
        ({"sample_half_life_days": 3.0}, "and none without. Received: 'uniform'"),
        (
            {"sample_weights": "uniqueness", "loss": "sharpe"},
            "expected 'uniform' with a loss of whole batches",
        ),
        (
            {"sample_weights": "uniqueness", "model": "ppo"},
            "because it learns from episodes",
        ),
        (
            {"sample_weights": "uniqueness", "model": "stack", "members": ("a", "b")},
            "whose members are trained",
        ),
        (
            {"sample_weights": "uniqueness", "model": "hybrid"},
            "expected 'uniform' with a loss of whole batches",
        ),
    ],
)
def test_what_has_no_samples_to_weigh_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Config(**fields)
