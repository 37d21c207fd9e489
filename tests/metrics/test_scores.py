import json

import numpy as np
import pytest
from world.frames import make_forecasts

from config import HOLD, LONG
from metrics import scores as metrics

# Log-loss and its parts


def test_log_loss_is_the_mean_in_nats():
    table = [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]
    expected = -(np.log(0.25) + np.log(0.8)) / 2
    assert metrics.log_loss([2, 1], table) == pytest.approx(expected, abs=1e-15)


def test_log_loss_is_clipped_like_keras():
    assert metrics.log_loss([0], [[0.0, 1.0, 0.0]]) == pytest.approx(-np.log(1e-7))
    assert metrics.log_loss([1], [[0.0, 1.0, 0.0]]) == pytest.approx(1e-7, rel=1e-6)


def test_skill_against_a_reference():
    assert metrics.skill(0.9, 1.0) == pytest.approx(0.1)
    assert metrics.skill(1.2, 1.0) == pytest.approx(-0.2)
    assert metrics.skill(0.0, 0.0) is None


def test_log_loss_is_activity_plus_trade_share_times_direction():
    labels, table = make_forecasts()
    table[:5] = [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0.5, 0.5, 0], [0, 0.5, 0.5]]
    parts = metrics.log_loss_parts(labels, table)
    direction = parts["trade_share"] * parts["direction_log_loss"]
    assert parts["log_loss"] == pytest.approx(
        metrics.log_loss(labels, table), abs=1e-14
    )
    assert parts["log_loss"] == pytest.approx(
        parts["activity_log_loss"] + direction, abs=1e-14
    )


def test_parts_by_hand():
    # Trade probability 0.6 and 0.4; LONG given a trade 0.5 and 0.25.
    table = [[0.3, 0.4, 0.3], [0.3, 0.6, 0.1], [0.2, 0.6, 0.2]]
    parts = metrics.log_loss_parts([LONG, LONG, HOLD], table)
    activity = -(np.log(0.6) + np.log(0.4) + np.log(0.6)) / 3
    assert parts["activity_log_loss"] == pytest.approx(activity)
    assert parts["direction_log_loss"] == pytest.approx(-np.log([0.5, 0.25]).mean())
    assert parts["trade_share"] == pytest.approx(2 / 3)


def test_direction_without_a_trade_is_none():
    parts = metrics.log_loss_parts([HOLD, HOLD], [[0.2, 0.6, 0.2]] * 2)
    assert parts["direction_log_loss"] is None
    assert parts["activity_log_loss"] == parts["log_loss"]


def test_class_losses_hold_no_direction():
    _, table = make_forecasts(50)
    direction = metrics.class_losses(table, part="direction_log_loss")
    total = metrics.class_losses(table)
    activity = metrics.class_losses(table, part="activity_log_loss")
    assert (direction[:, HOLD] == 0).all()
    np.testing.assert_allclose(activity + direction, total, atol=1e-14)
    with pytest.raises(ValueError, match="Received: 'direktion'"):
        metrics.class_losses(table, part="direktion")


# References


def test_class_prior():
    np.testing.assert_array_equal(metrics.class_prior([0, 1, 1, 1]), [0.25, 0.75, 0.0])


def test_trailing_mix_by_hand():
    labels = np.array([0, 0, 1, 2, 2, 2])
    mix = metrics.trailing_mix(
        labels, [1, 2, 3, 5], horizon_bars=2, window_bars=2, smoothing_count=1.0
    )
    # Target 1 knows nothing, 2 knows row 0, 3 knows rows 0-1, 5 knows rows 2-3.
    expected = np.array([[1, 1, 1], [2, 1, 1], [3, 1, 1], [1, 2, 2]], float)
    np.testing.assert_allclose(mix, expected / expected.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("horizon", [1, 3, 12])
@pytest.mark.parametrize("window", [1, 5, 100])
def test_trailing_mix_equals_a_loop_and_reads_no_future(horizon, window):
    rng = np.random.default_rng(1)
    labels, targets = rng.integers(-1, 3, 80), np.arange(0, 80, 3)
    options = {"horizon_bars": horizon, "window_bars": window, "smoothing_count": 0.5}
    mix = metrics.trailing_mix(labels, targets, **options)
    for target, row in zip(targets, mix, strict=True):
        known = labels[: max(0, target - horizon + 1)][-window:]
        counts = np.array([(known == k).sum() + 0.5 for k in range(3)])
        np.testing.assert_allclose(row, counts / counts.sum())
    changed = labels.copy()
    changed[60 - horizon + 1 :] = 0
    early = targets <= 60
    np.testing.assert_array_equal(
        metrics.trailing_mix(changed, targets, **options)[early], mix[early]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon_bars": 0}, "horizon_bars=0"),
        ({"window_bars": 0}, "window_bars=0"),
        ({"smoothing_count": 0.0}, "smoothing_count=0.0"),
        ({"targets": [9]}, "rows from 0 to 3"),
    ],
)
def test_trailing_mix_refuses(options, message):
    arguments = {"targets": [1], "horizon_bars": 1, "window_bars": 1} | options
    with pytest.raises(ValueError, match=message):
        metrics.trailing_mix(np.zeros(4, int), **arguments)


# Calibration error


def test_brier_by_hand():
    table = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]
    assert metrics.brier_score([0, 1], table) == pytest.approx((0.25 + 0.125) / 2)


def test_reliability_bins_cover_zero_to_one():
    bins = metrics.reliability_table([1, 0, 1, 1], [0.0, 0.1, 0.75, 1.0], num_bins=4)
    np.testing.assert_array_equal(bins["count"], [2, 0, 1, 1])
    np.testing.assert_allclose(bins["mean_confidence"], [0.05, np.nan, 0.75, 1.0])
    np.testing.assert_allclose(bins["frequency"], [0.5, np.nan, 1.0, 1.0])
    np.testing.assert_allclose(bins["edges"], [0, 0.25, 0.5, 0.75, 1])


def test_calibration_error_by_hand():
    # Top label LONG at 0.8 four times, right twice: a gap of 0.3 in one bin.
    errors = metrics.calibration_error([2, 2, 0, 1], [[0.1, 0.1, 0.8]] * 4)
    assert errors["expected"] == pytest.approx(0.3)
    assert errors["maximum"] == pytest.approx(0.3)
    assert errors["classwise_expected"] == pytest.approx([0.15, 0.15, 0.3])


def test_true_probabilities_are_calibrated():
    labels, table = make_forecasts(50_000)
    errors = metrics.calibration_error(labels, table)
    assert errors["expected"] < 0.01
    assert errors["mean_classwise_expected"] < 0.01
    wrong = metrics.calibration_error(labels, table[:, [2, 0, 1]])
    assert wrong["expected"] > 0.2


# Regression


def test_regression_by_hand():
    scores = metrics.regression_metrics(
        [100.0, 110.0, 99.0], [101.0, 108.0, 99.0], persistence=[100.0, 100.0, 110.0],
        is_price=True,
    )  # fmt: skip
    assert scores["mae"] == pytest.approx(1.0)
    assert scores["rmse"] == pytest.approx((5 / 3) ** 0.5)
    assert scores["r2"] == pytest.approx(1 - 5 / 74)
    assert scores["mae_persistence"] == pytest.approx(7.0)
    assert scores["skill_mae_vs_persistence"] == pytest.approx(1 - 1 / 7)
    assert scores["skill_mse_vs_persistence"] == pytest.approx(1 - 5 / 221)
    assert scores["mape_pct"] == pytest.approx(100 * (0.01 + 2 / 110) / 3)
    assert scores["sign_accuracy"] == 1.0  # the row that did not move is left out


def test_persistence_itself_has_no_skill():
    actual = np.array([0.01, -0.02, 0.03])
    scores = metrics.regression_metrics(actual, np.zeros(3))
    assert scores["skill_mae_vs_persistence"] == 0.0
    assert scores["sign_accuracy"] == 0.0
    assert "mape_pct" not in scores


def test_undefined_regression_scores_are_none():
    scores = metrics.regression_metrics([0.0, 0.0], [0.1, -0.1], is_price=True)
    for name in ("r2", "sign_accuracy", "skill_mae_vs_persistence", "mape_pct"):
        assert scores[name] is None
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize(
    ("actual", "predicted", "message"),
    [
        ([], [], "non-empty"),
        ([1.0], [1.0, 2.0], "one shape"),
        ([1], [np.nan], "finite"),
    ],
)
def test_regression_refuses(actual, predicted, message):
    with pytest.raises(ValueError, match=message):
        metrics.regression_metrics(actual, predicted)
