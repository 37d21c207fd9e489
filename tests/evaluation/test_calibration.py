import json

import numpy as np
import pytest

from evaluation.calibration import (
    CALIBRATORS,
    BetaCalibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    TemperatureScaling,
    calibrator_from_dict,
    create_calibrator,
)
from metrics import scores as metrics
from utils import ConfigError, DataError

NAMES = ["isotonic", "platt", "beta", "temperature", "bias"]


def draw(num_rows, seed, mix=(0.15, 0.70, 0.15)):
    """Labels drawn from known probabilities around `mix`."""
    rng = np.random.default_rng(seed)
    logits = np.log(mix) + rng.normal(0.0, 0.8, (num_rows, 3))
    table = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random(num_rows)[:, None] > table.cumsum(axis=1)).sum(axis=1)
    return labels, table


def sharpened(table, power=2.5):
    scores = table**power
    return scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", NAMES[:4])
def test_calibrated_error_is_below_two_percent_at_the_natural_mix(name):
    labels, table = draw(20_000, seed=1)
    test_labels, test_table = draw(50_000, seed=2)
    before = metrics.calibration_error(test_labels, sharpened(test_table))
    calibrator = create_calibrator(name).fit(sharpened(table), labels)
    calibrated = calibrator.predict_proba(sharpened(test_table))
    after = metrics.calibration_error(test_labels, calibrated)
    assert before["expected"] > 0.1
    assert after["expected"] < 0.02
    assert max(after["classwise_expected"]) < 0.02
    assert metrics.log_loss(test_labels, calibrated) < metrics.log_loss(
        test_labels, sharpened(test_table)
    )


@pytest.mark.parametrize("name", ["isotonic", "platt", "beta"])
def test_a_balanced_model_returns_to_the_natural_mix(name):
    # One map for each class cannot undo a change of odds exactly: 0.03, not 0.02.
    labels, table = draw(30_000, seed=3)
    test_labels, test_table = draw(50_000, seed=4)
    balance = np.array([1.0, 0.2, 1.0])

    def balanced(rows):
        return rows * balance / (rows * balance).sum(axis=1, keepdims=True)

    calibrator = create_calibrator(name).fit(balanced(table), labels)
    calibrated = calibrator.predict_proba(balanced(test_table))
    before = metrics.calibration_error(test_labels, balanced(test_table))
    assert before["expected"] > 0.05
    assert metrics.calibration_error(test_labels, calibrated)["expected"] < 0.03
    np.testing.assert_allclose(
        calibrated.mean(axis=0), metrics.class_prior(test_labels), atol=0.02
    )


def test_temperature_is_found():
    labels, table = draw(50_000, seed=5)
    calibrator = TemperatureScaling().fit(sharpened(table, 2.5), labels)
    assert calibrator.parameters_[0]["temperature"] == pytest.approx(2.5, rel=0.03)


def test_bias_mends_the_class_mix_and_nothing_else():
    labels, table = draw(50_000, seed=5)
    skewed = table * [4.0, 1.0, 0.5]
    skewed /= skewed.sum(axis=1, keepdims=True)
    fitted = create_calibrator("bias").fit(skewed, labels)
    found = np.exp([each["bias"] for each in fitted.parameters_])
    np.testing.assert_allclose(found, [1, 4, 8], rtol=0.05)
    np.testing.assert_allclose(fitted.predict_proba(skewed), table, atol=0.01)


@pytest.mark.parametrize(
    ("power", "bound"),
    [
        (2.5, None),
        (0.001, "the temperature ended at its bound, 0.05"),
        (-1.0, "the temperature ended at its bound, 20"),
    ],
)
def test_a_temperature_at_its_bound_is_said(power, bound):
    labels, table = draw(5000, seed=5)
    assert TemperatureScaling().fit(sharpened(table, power), labels).bound() == bound


@pytest.mark.parametrize("kind", [PlattCalibrator, BetaCalibrator])
def test_calibrated_scores_stay(kind):
    labels, table = draw(60_000, seed=6)
    calibrated = kind().fit(table, labels).predict_proba(table)
    np.testing.assert_allclose(calibrated, table, atol=0.02)


def test_platt_finds_slope_and_intercept_of_the_logit():
    rng = np.random.default_rng(7)
    logits = rng.normal(0.0, 1.5, 100_000)
    true = 1 / (1 + np.exp(-(0.5 * logits - 1.0)))
    labels = (rng.random(len(true)) < true).astype(int)
    score = 1 / (1 + np.exp(-logits))
    calibrator = PlattCalibrator().fit(np.stack([1 - score, score], axis=1), labels)
    assert calibrator.parameters_[1]["slope"] == pytest.approx(0.5, abs=0.02)
    assert calibrator.parameters_[1]["intercept"] == pytest.approx(-1.0, abs=0.02)


def test_beta_finds_a_b_and_c():
    rng = np.random.default_rng(8)
    score = rng.uniform(0.001, 0.999, 200_000)
    logit = 1.5 * np.log(score) - 0.5 * np.log(1 - score) + 0.4
    labels = (rng.random(len(score)) < 1 / (1 + np.exp(-logit))).astype(int)
    calibrator = BetaCalibrator().fit(np.stack([1 - score, score], axis=1), labels)
    fitted = calibrator.parameters_[1]
    assert fitted["a"] == pytest.approx(1.5, abs=0.05)
    assert fitted["b"] == pytest.approx(0.5, abs=0.05)
    assert fitted["c"] == pytest.approx(0.4, abs=0.05)


def test_platt_agrees_with_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    labels, table = draw(50_000, seed=9)
    fitted = PlattCalibrator().fit(table, labels).parameters_[2]
    logit = np.log(table[:, 2]) - np.log1p(-table[:, 2])
    other = linear.LogisticRegression(C=np.inf, tol=1e-10).fit(
        logit[:, None], labels == 2
    )
    # Smoothed targets move the optimum by less than one part in the class's count.
    assert fitted["slope"] == pytest.approx(other.coef_[0, 0], abs=2e-3)
    assert fitted["intercept"] == pytest.approx(other.intercept_[0], abs=2e-3)


def test_isotonic_by_hand():
    score = np.array([0.1, 0.2, 0.3, 0.4])
    table = np.stack([1 - score, score], axis=1)
    calibrator = IsotonicCalibrator(min_samples=4).fit(table, [0, 1, 0, 1])
    # Pooling 0.2 and 0.3 gives 1/2; the ends 0 and 1 become 1/6 and 5/6.
    calibrated = calibrator.predict_proba(table)[:, 1]
    np.testing.assert_allclose(calibrated, [1 / 6, 1 / 2, 1 / 2, 5 / 6])


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_probabilities_whatever_comes(name):
    labels, table = draw(500, seed=10)
    table[:4] = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]]
    calibrator = create_calibrator(name).fit(table.astype(np.float32), labels)
    calibrated = calibrator.predict_proba(
        [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1 / 3] * 3]
    )
    assert np.isfinite(calibrated).all()
    assert (calibrated >= 0).all() and (calibrated <= 1).all()
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("present", [[1], [0, 1], [0, 2]])
def test_an_absent_class_stays_possible(name, present):
    _, table = draw(500, seed=11)
    labels = np.resize(present, 500)
    calibrated = create_calibrator(name).fit(table, labels).predict_proba(table)
    assert np.isfinite(calibrated).all()
    assert (calibrated > 0).all()
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, atol=1e-12)
    if name != "temperature":  # 500 rows without it: one in 502
        absent = np.setdiff1d([0, 1, 2], present)
        np.testing.assert_allclose(
            calibrated[:, absent].mean(axis=0), 1 / 502, rtol=0.1
        )


@pytest.mark.parametrize("name", NAMES)
def test_perfect_separation_stays_finite(name):
    labels = np.resize([0, 1, 2], 300)
    table = 0.97 * np.eye(3)[labels] + 0.01
    calibrated = create_calibrator(name).fit(table, labels).predict_proba(table)
    assert np.isfinite(calibrated).all()
    assert (calibrated.argmax(axis=1) == labels).all()
    assert calibrated.max() < 1.0


@pytest.mark.parametrize("name", NAMES)
def test_useless_scores_become_the_class_mix(name):
    labels = np.resize([0, 1, 1, 2], 400)
    table = np.full((400, 3), 1 / 3)
    calibrated = create_calibrator(name).fit(table, labels).predict_proba(table)
    if name == "temperature":  # it cannot know the mix
        np.testing.assert_allclose(calibrated, 1 / 3)
    else:
        np.testing.assert_allclose(
            calibrated, np.tile([0.25, 0.5, 0.25], (400, 1)), atol=0.01
        )


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("isotonic", ()),
        ("platt", ("slope",)),
        ("beta", ("a", "b")),
        ("temperature", ("temperature",)),
    ],
)
def test_maps_never_turn_the_order_of_a_class_around(name, keys):
    labels, table = draw(2000, seed=12)
    upside_down = table[:, [2, 1, 0]]
    fitted = create_calibrator(name).fit(upside_down, labels)
    assert len(fitted.parameters_) == (1 if name == "temperature" else 3)
    for parameters in fitted.parameters_:
        assert all(parameters[key] >= 0.0 for key in keys)
        if name == "isotonic":
            assert (np.diff(parameters["scores"]) >= 0).all()
            assert (np.diff(parameters["frequencies"]) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_json_restores_every_bit(name):
    labels, table = draw(3000, seed=13)
    calibrator = create_calibrator(name).fit(sharpened(table), labels)
    text = json.dumps(calibrator.to_dict(), allow_nan=False)
    restored = calibrator_from_dict(json.loads(text))
    assert type(restored) is type(calibrator)
    assert restored.to_dict() == calibrator.to_dict()
    before, after = calibrator.predict_proba(table), restored.predict_proba(table)
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "damage",
    [
        {"parameters": []},
        {"parameters": None},
        {"parameters": [{}] * 3},
        {
            "parameters": [dict.fromkeys(("slope", "a", "temperature"), float("nan"))]
            * 3
        },
        {"num_classes": "three"},
        {"num_classes": 1},
    ],
)
def test_damaged_parameters_are_refused(name, damage):
    labels, table = draw(300, seed=14)
    values = create_calibrator(name).fit(table, labels).to_dict() | damage
    with pytest.raises(DataError, match=f"parameters of {name} calibration"):
        calibrator_from_dict(values)


@pytest.mark.parametrize(
    "damage",
    [
        {"scores": [0.2, 0.1], "frequencies": [0.1, 0.2]},
        {"scores": [0.1, 0.2], "frequencies": [0.1]},
        {"scores": [0.1, 0.2], "frequencies": [0.1, 1.5]},
        {"scores": 0.5, "frequencies": 0.5},
        {"scores": [0.1, True], "frequencies": [0.1, 0.2]},
    ],
)
def test_damaged_isotonic_steps_are_refused(damage):
    labels, table = draw(300, seed=15)
    values = IsotonicCalibrator().fit(table, labels).to_dict()
    with pytest.raises(DataError, match="isotonic"):
        IsotonicCalibrator.from_dict(values | {"parameters": [damage] * 3})


def test_another_methods_parameters_are_refused():
    labels, table = draw(300, seed=16)
    values = PlattCalibrator().fit(table, labels).to_dict()
    with pytest.raises(DataError, match="beta"):
        BetaCalibrator.from_dict(values)


def test_names():
    assert list(CALIBRATORS) == NAMES
    with pytest.raises(ConfigError, match=r"isotonic, platt.*mean 'isotonic'\?"):
        create_calibrator("isotonik")
    with pytest.raises(ConfigError, match="Received: 'None'"):
        calibrator_from_dict({})


@pytest.mark.parametrize("name", NAMES)
def test_too_few_rows(name):
    labels, table = draw(99, seed=17)
    with pytest.raises(DataError, match="at least 100 rows. Received: 99"):
        create_calibrator(name).fit(table, labels)


@pytest.mark.parametrize(
    ("table", "labels", "message"),
    [
        ([[0.5, 0.5, 0.5]], [0], "sum to 1"),
        ([[np.nan, 0.5, 0.5]], [0], "finite"),
        ([[1.0, 0.0, 0.0]], [3], "class ids below 3"),
        ([[1.0, 0.0, 0.0]], [0, 1], "each of the 1 rows"),
        ([0.1, 0.9], [0], "num_rows, num_classes"),
    ],
)
def test_bad_arrays_are_refused(table, labels, message):
    with pytest.raises(ValueError, match=message):
        PlattCalibrator(min_samples=1).fit(table, labels)


def test_prediction_needs_the_fitted_classes():
    with pytest.raises(ValueError, match="Call `fit` first"):
        PlattCalibrator().predict_proba([[0.2, 0.8]])
