from unittest import mock

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import ops
from world.commands import train
from world.frames import TINY, make_own_frame

from benchmarks.sharpe_loss import run_market
from config import Config, ConfigError
from dataset import features
from files.strict import read_json
from models import create_adapter
from networks import losses, position_losses
from networks.losses import (
    CombinedLoss,
    MSELoss,
    create_loss,
    create_loss_function,
    describe,
    loss_from_config,
    metrics_from_config,
    register_loss,
)
from networks.position_losses import (
    ReturnVolatilityLoss,
    SharpeLoss,
    net_returns,
    positions,
)
from networks.sample_losses import (
    CostSensitiveCrossentropy,
    DirectionalLoss,
    FocalLoss,
    HuberLoss,
    QuantileLoss,
)
from preprocessing.stretches import consecutive_stretches
from settings import loss_fields
from settings.loss_fields import loss_names
from trainer import StandaloneTrainer

NUM_ROWS = 12
PARTS = {"losses": ["sharpe", "return_volatility"], "weights": [3, 1]}
OPTIONS = {
    "focal": {"alpha": (0.5, 0.2, 0.3)},
    "huber": {"delta": 0.4},
    "quantile": {"quantile": 0.8},
    "directional": {"sharpness": 2.0, "scale": 0.7},
    "sharpe": {"cost_bps": 5.0, "position_scale": 0.8},
    "return_volatility": {"cost_bps": 5.0, "bars_per_year": 365.0},
    "combined": PARTS,
}


def kind_of(name):
    """What a loss is compared with."""
    kind = loss_fields.LOSS_PRESETS.get(name, (name, {}))[0]
    return loss_fields.LOSSES[kind].y_true if kind != "combined" else "return"


def samples(name, rows=NUM_ROWS, seed=0):
    """Generic y_true and y_pred of a loss, float64: nothing is at a kink."""
    rng = np.random.default_rng(seed)
    if kind_of(name) == "class":
        odds = rng.uniform(0.2, 1.0, (rows, 3))
        return rng.integers(0, 3, rows), odds / odds.sum(axis=1, keepdims=True)
    scale = 0.02 if kind_of(name) == "return" else 1.0
    return scale * rng.standard_normal(rows), rng.standard_normal((rows, 1))


def value_and_gradient(loss, y_true, y_pred):
    point = tf.constant(y_pred, loss.dtype)
    with tf.GradientTape() as tape:
        tape.watch(point)
        value = loss(y_true, point)
    return float(value), tape.gradient(value, point).numpy()


def value(loss, y_true, y_pred):
    return float(loss(np.asarray(y_true), np.asarray(y_pred)))


# Formulas, against numbers worked out by hand


def test_huber_is_linear_from_delta_on():
    loss = create_loss("huber", delta=2.0, reduction=None)
    got = loss(np.array([1.0, 0.0]), np.array([[0.0], [5.0]]))
    np.testing.assert_allclose(got, [0.5, 2 * (5 - 1)])


def test_quantile_is_the_pinball_loss():
    loss = QuantileLoss(0.9, reduction=None)
    got = loss(np.array([2.0, 1.0]), np.array([[1.0], [3.0]]))
    np.testing.assert_allclose(got, [0.9, 0.2], rtol=1e-6)


def test_several_quantiles_lose_their_mean():
    loss = QuantileLoss((0.1, 0.5, 0.9), reduction=None)
    got = loss(np.array([2.0, 1.0]), np.array([[1.0, 2.0, 4.0], [2.0, 0.0, 1.0]]))
    # 0.1 x 1, 0, 0.1 x 2; then 0.9 x 1, 0.5 x 1, 0
    np.testing.assert_allclose(got, [0.1, 1.4 / 3], rtol=1e-6)
    again = QuantileLoss.from_config(loss.get_config())
    assert again.quantile == [0.1, 0.5, 0.9]
    with pytest.raises(ValueError, match="expected 3 outputs of each sample"):
        loss(np.zeros(2), np.zeros((2, 1)))


def test_directional_adds_squared_error_and_wrong_signs():
    # Margins 0, 2 and -2; softplus(0) / ln 2 = 1.
    loss = DirectionalLoss(0.25, scale=2.0, reduction=None)
    got = loss(np.array([2.0, 4.0, 4.0]), np.array([0.0, 2.0, -2.0]))
    signs = np.log1p(np.exp([0.0, -2.0, 2.0])) / np.log(2)
    expected = 0.25 * np.array([1, 1, 9]) + 0.75 * signs
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert expected[0] == 1.0


def test_focal_and_cost_sensitive_by_hand():
    y, p = np.array([0, 2]), np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    got = FocalLoss(2.0, alpha=(3, 1, 2), reduction=None)(y, p)
    expected = [3 * 0.25 * -np.log(0.5), 2 * 0.81 * -np.log(0.1)]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    got = CostSensitiveCrossentropy(cost_weight=0.5, reduction=None)(y, p)
    expected = [-np.log(0.5) + 0.5 * 0.7, -np.log(0.1) + 0.5 * 1.0]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_focal_without_focus_is_the_cross_entropy_of_ids():
    y, p = samples("focal")
    plain = create_loss("cross_entropy")
    assert value(FocalLoss(0.0), y, p) == pytest.approx(value(plain, y, p), rel=1e-6)
    no_cost = CostSensitiveCrossentropy(cost_weight=0.0)
    assert value(no_cost, y, p) == pytest.approx(value(plain, y, p), rel=1e-6)
    keras_focal = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=2.0)
    assert value(FocalLoss(2.0), y, p) == pytest.approx(
        value(keras_focal, np.eye(3)[y], p), rel=1e-5
    )


def test_positions_of_probabilities_and_of_numbers():
    p = np.array([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(positions(p), [-0.6, 1.0])
    score = np.array([[0.5], [-20.0]])
    np.testing.assert_allclose(positions(score, scale=2), np.tanh([1, -40]))
    np.testing.assert_allclose(positions(score[:, 0]), positions(score))
    with pytest.raises(ValueError, match=r"expected probabilities \(batch, 3\)"):
        positions(np.zeros((4, 2)))


def test_net_returns_pay_for_changes_but_not_for_the_unknown_first_one():
    p = np.array([[0, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    got = net_returns(np.array([0.02, 0.01, -0.04]), p, cost_bps=30)
    np.testing.assert_allclose(got, [0.01, -0.005 - 0.003, 0.02])


def test_sharpe_and_return_volatility_by_hand():
    p = np.array([[0, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    y = np.array([0.02, 0.01, -0.04])
    net = np.array([0.01, -0.008, 0.02])
    got = value(SharpeLoss(30, epsilon=1e-9), y, p)
    assert got == pytest.approx(-net.mean() / net.std(), rel=1e-5)
    floored = value(SharpeLoss(30, epsilon=0.01), y, p)
    assert floored == pytest.approx(-net.mean() / np.hypot(net.std(), 0.01), rel=1e-5)
    got = value(ReturnVolatilityLoss(0.3, cost_bps=30), y, p)
    assert got == pytest.approx(-net.mean() + 0.3 * net.std(), rel=1e-5)
    got = value(ReturnVolatilityLoss(0.3, bars_per_year=400, cost_bps=30), y, p)
    assert got == pytest.approx(-400 * net.mean() + 0.3 * 20 * net.std(), rel=1e-5)


# What every loss promises


@pytest.mark.parametrize("name", loss_names())
def test_gradient_is_that_of_the_formula(name):
    loss = create_loss(name, **OPTIONS.get(name, {}), dtype="float64")
    y_true, y_pred = samples(name)
    _, gradient = value_and_gradient(loss, y_true, y_pred)
    numeric, step = np.empty_like(y_pred), 1e-6
    for index in np.ndindex(y_pred.shape):
        moved = [y_pred.copy(), y_pred.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        ends = [value(loss, y_true, point) for point in moved]
        numeric[index] = (ends[0] - ends[1]) / (2 * step)
    assert np.abs(gradient).max() > 1e-4
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("name", loss_names())
@pytest.mark.parametrize("rows", [1, 2])
def test_small_and_equal_batches_are_finite(name, rows):
    loss = create_loss(name, **OPTIONS.get(name, {}))
    y_true, y_pred = samples(name, rows)
    if kind_of(name) == "return" and rows == 1:
        with pytest.raises(ValueError, match="at least 2 consecutive bars: .*: 1"):
            loss(y_true, y_pred)
        return
    cases = [(y_true, y_pred)]
    if kind_of(name) == "class":
        cases += [(y_true, np.eye(3)[y_true]), (y_true, np.eye(3)[y_true - 1])]
    else:
        cases += [(0 * y_true, y_pred), (y_true, 0 * y_pred), (0 * y_true, 0 * y_pred)]
        cases += [(y_true, 1e4 * y_pred)]
    for true, predicted in cases:
        got, gradient = value_and_gradient(loss, true, predicted)
        assert np.isfinite(got) and np.isfinite(gradient).all(), (true, predicted)


@pytest.mark.parametrize("name", loss_names())
def test_one_number_a_sample_in_any_shape(name):
    loss = create_loss(name, **OPTIONS.get(name, {}))
    y_true, y_pred = samples(name)
    expected = value(loss, y_true, y_pred)
    assert value(loss, y_true[:, None], y_pred) == pytest.approx(expected, rel=1e-6)
    if y_pred.shape[1] == 1:
        for true in (y_true, y_true[:, None]):
            got = value(loss, true, y_pred[:, 0])
            assert got == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", loss_names())
def test_serialisation_round_trip(name):
    loss = create_loss(name, **OPTIONS.get(name, {}))
    content = keras.saving.serialize_keras_object(loss)
    copy = keras.saving.deserialize_keras_object(content)
    assert type(copy) is type(loss) and copy.get_config() == loss.get_config()
    y_true, y_pred = samples(name)
    assert value(copy, y_true, y_pred) == value(loss, y_true, y_pred)


@pytest.mark.parametrize("name", ["combined", "focal", "huber"])
def test_a_compiled_model_keeps_its_loss_in_a_file(name, tmp_path):
    loss = create_loss(name, **OPTIONS.get(name, {}))
    head = (1, None) if name == "huber" else (3, "softmax")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(*head)])
    parts = loss.part_metrics() if name == "combined" else []
    model.compile("adam", loss, metrics=parts)
    x = np.random.default_rng(0).standard_normal((NUM_ROWS, 4))
    y, _ = samples(name)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert copy.loss.get_config() == loss.get_config()
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    assert copy.evaluate(x, y, verbose=0, return_dict=True) == before
    assert set(before) == {"loss", *(part.name for part in parts)}


@pytest.mark.parametrize("name", loss_names())
def test_samples_are_weighed_where_they_have_a_loss_of_their_own(name):
    loss = create_loss(name, **OPTIONS.get(name, {}))
    y_true, y_pred = samples(name)
    weights = np.arange(NUM_ROWS, dtype=np.float32)
    if kind_of(name) == "return":
        with pytest.raises(ValueError, match=f"{name}: expected no sample weights"):
            loss(y_true, y_pred, sample_weight=weights)
        return
    each = [value(loss, y_true[i : i + 1], y_pred[i : i + 1]) for i in range(NUM_ROWS)]
    got = float(loss(y_true, y_pred, sample_weight=weights))
    assert got == pytest.approx(np.mean(weights * each), rel=1e-5)


# What they are for


def minimiser(loss, y_true, grid):
    values = [value(loss, y_true, np.full((len(y_true), 1), x)) for x in grid]
    return grid[int(np.argmin(values))]


def test_quantile_finds_the_quantile():
    y = np.random.default_rng(0).standard_exponential(2000)
    grid = np.linspace(-2, 6, 801)
    found = minimiser(QuantileLoss(0.9), y, grid)
    assert found == pytest.approx(np.quantile(y, 0.9), abs=0.02)


def test_a_wrong_sign_is_pulled_towards_the_right_one():
    loss = DirectionalLoss(0.0)
    y = np.array([1.0, -1.0, 2.0])
    _, gradient = value_and_gradient(loss, y, np.array([[-0.5], [0.5], [-0.5]]))
    assert (np.sign(gradient[:, 0]) == -np.sign(y)).all()
    assert abs(gradient[2, 0]) > abs(gradient[0, 0])  # the larger move counts for more


@pytest.mark.parametrize("name", ["sharpe", "return_volatility"])
def test_good_positions_cost_less_than_bad_ones(name):
    loss = create_loss(name)
    y = 0.01 * np.random.default_rng(0).standard_normal(500)
    good, none, bad = (
        value(loss, y, k * np.sign(y)[:, None]) for k in (3.0, 0.0, -3.0)
    )
    assert good < none < bad
    assert none == pytest.approx(0.0, abs=1e-6)
    # Beyond certainty there is nothing to win: the size of a prediction is no edge.
    assert value(loss, y, np.full((500, 1), 50.0)) == pytest.approx(
        value(loss, y, np.full((500, 1), 5000.0)), abs=1e-6
    )


def test_costs_charge_the_order_of_a_batch():
    y = np.full(100, 1e-3) + 1e-4 * np.random.default_rng(0).standard_normal(100)
    calm = np.repeat([1.0, 0.2], 50)[:, None]
    busy = np.tile([1.0, 0.2], 50)[:, None]
    free, costly = SharpeLoss(0.0), SharpeLoss(3.0)
    assert value(free, y, calm) == pytest.approx(value(free, y, busy), rel=0.05)
    assert value(costly, y, calm) < 1.5 * value(costly, y, busy) < 0


def test_floor_makes_no_position_better_than_a_costly_one():
    rng = np.random.default_rng(0)
    y, p = 7e-4 * rng.standard_normal(256), rng.standard_normal((256, 1))
    losing = [value(SharpeLoss(15.0), y, k * p) for k in (1.0, 0.1, 0.01, 0.001)]
    assert losing == sorted(losing, reverse=True)
    assert losing[-1] < 0.05 * losing[0]


def test_focal_cares_less_for_what_is_right():
    easy, hard = np.array([[0.9, 0.05, 0.05]]), np.array([[0.2, 0.4, 0.4]])
    y = np.array([0])
    ratio = [
        value(FocalLoss(g), y, hard) / value(FocalLoss(g), y, easy) for g in (0, 2)
    ]
    assert ratio[1] == pytest.approx(64 * ratio[0], rel=1e-4)


def test_one_hot_labels_are_refused():
    _, p = samples("focal")
    for name in ("focal", "cost_sensitive"):
        with pytest.raises(ValueError, match="expected class ids"):
            create_loss(name)(np.eye(3)[np.zeros(NUM_ROWS, int)], p)
        with pytest.raises(ValueError, match=r"expected probabilities \(batch, 3\)"):
            create_loss(name)(np.zeros(NUM_ROWS), p[:, :2])


# Combined


def test_weights_are_normalised_and_parts_reported():
    loss = create_loss("combined", **PARTS)
    assert loss.weights == (0.75, 0.25)
    y_true, y_pred = samples("combined")
    parts = loss.get_individual_losses(y_true, y_pred)
    assert list(parts) == ["sharpe", "return_volatility"]
    expected = value(SharpeLoss(), y_true, y_pred)
    assert float(parts["sharpe"]) == pytest.approx(expected)
    total = 0.75 * parts["sharpe"] + 0.25 * parts["return_volatility"]
    assert value(loss, y_true, y_pred) == pytest.approx(float(total), rel=1e-6)
    assert CombinedLoss(["mse", "mae"]).weights == (0.5, 0.5)


def test_a_sum_of_both_kinds_is_the_sum_of_the_reduced_parts():
    loss = CombinedLoss(["mse", SharpeLoss()], [1, 1])
    y_true, y_pred = samples("sharpe")
    parts = loss.get_individual_losses(y_true, y_pred)
    expected = float(sum(parts.values())) / 2
    assert value(loss, y_true, y_pred) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="combined: expected no sample weights"):
        loss(y_true, y_pred, sample_weight=np.ones(NUM_ROWS))


def test_parts_are_in_the_history_of_a_training():
    loss = CombinedLoss(["mse", "mae"], [1, 3])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss, metrics=loss.part_metrics())
    x = np.random.default_rng(0).standard_normal((50, 2))
    options = {"batch_size": 16, "verbose": 0, "validation_data": (x, x[:, 0])}
    history = model.fit(x, x[:, 0], epochs=2, **options).history
    for prefix in ("", "val_"):
        whole = np.array(history[f"{prefix}loss"])
        parts = [np.array(history[f"{prefix}{name}"]) for name in ("mse", "mae")]
        np.testing.assert_allclose(whole, 0.25 * parts[0] + 0.75 * parts[1], rtol=1e-5)


def test_a_sum_of_named_losses():
    given = {"square": "mse", "plain": MSELoss(), "pinball": create_loss("quantile")}
    weights = {"plain": 1.0, "square": 2.0, "pinball": 1.0}
    loss = CombinedLoss(losses=given, weights=weights)
    assert loss.weights == (0.5, 0.25, 0.25)
    y_true, y_pred = samples("mse")
    parts = loss.get_individual_losses(y_true, y_pred)
    assert list(parts) == ["square", "plain", "pinball"]
    assert float(parts["square"]) == float(parts["plain"])
    made = create_loss_function("combined", losses=given, weights=weights)
    assert value(made, y_true, y_pred) == value(loss, y_true, y_pred)
    again = CombinedLoss.from_config(loss.get_config())
    assert value(again, y_true, y_pred) == value(loss, y_true, y_pred)
    with pytest.raises(ValueError, match="one for each of square, plain, pinball"):
        CombinedLoss(given, {"square": 1})


def test_a_run_of_single_bars_has_no_deviation():
    with pytest.raises(ConfigError, match="batch_size: expected at least 2 bars for"):
        Config(loss="sharpe", batch_size=1, target="return")
    assert Config(loss="mse", batch_size=1, target="return").batch_size == 1
    rows = np.array([0, 1, 2, 5, 8, 9])
    assert [part.tolist() for part in consecutive_stretches(rows, longest=2)] == [
        *([0, 1], [8, 9])
    ]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        *(("MSELoss", "mse"), ("MAELoss", "mae"), ("HuberLoss", "huber")),
        *(("SharpeRatioLoss", "sharpe"), ("QuantileLoss", "quantile")),
        ("DirectionalAccuracyLoss", "directional"),
        ("ReturnVolatilityLoss", "return_volatility"),
    ],
)
def test_names_of_classes_stand_for_losses(written, meant):
    config = Config(loss=written, target="return")
    assert config.loss == meant
    made = create_loss_function(written)
    assert type(made) is type(create_loss(meant)) is getattr(losses, written)
    assert made.name == meant


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"losses": []}, "at least one loss"),
        ({"losses": ["mse", "mse"]}, "each name once"),
        ({"losses": ["mse", "mae"], "weights": [1]}, "a number >= 0 for each loss"),
        ({"losses": ["mse", "mae"], "weights": [0, 0]}, "one above 0"),
        ({"losses": ["mse", "mae"], "weights": [2, -1]}, "a number >= 0"),
    ],
)
def test_impossible_combinations_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CombinedLoss(**options)


# By name


def test_presets():
    assert loss_fields.LOSS_PRESETS.keys() == {
        *("regression", "robust", "financial", "directional", "volatility_aware")
    }
    assert isinstance(create_loss("regression"), keras.losses.MeanSquaredError)
    assert create_loss("robust").delta == 1.0
    assert isinstance(create_loss("financial"), SharpeLoss)
    assert create_loss("directional").mse_weight == 0.6
    assert create_loss("volatility_aware").volatility_lambda == 0.3
    assert create_loss("volatility_aware", volatility_lambda=0.7).name == (
        "volatility_aware"
    )


def test_misspelt_names_and_options():
    with pytest.raises(ConfigError, match="Did you mean 'sharpe'"):
        create_loss("sharp")
    with pytest.raises(ConfigError, match="Did you mean 'cost_bps'"):
        create_loss("sharpe", cost_bp=15)
    with pytest.raises(ConfigError, match="Did you mean 'quantile'"):
        create_loss("quantile", quantil=0.9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("huber", {"delta": 0}),
        ("quantile", {"quantile": 1.0}),
        ("quantile", {"quantile": (0.1, 1.0)}),
        ("quantile", {"quantile": ()}),
        ("directional", {"mse_weight": 1.1}),
        ("directional", {"scale": 0}),
        ("sharpe", {"cost_bps": -1}),
        ("sharpe", {"epsilon": 0}),
        ("return_volatility", {"volatility_lambda": -0.1}),
        ("focal", {"gamma": -1}),
        ("focal", {"alpha": (1, 2)}),
        ("cost_sensitive", {"costs": ((0, 1, 1), (1, 1, 1), (1, 1, 0))}),
    ],
)
def test_impossible_options_are_refused(name, options):
    with pytest.raises(ValueError, match="Received"):
        create_loss(name, **options)


@pytest.mark.parametrize("name", loss_names())
def test_every_loss_is_described(name):
    text = describe(name)
    assert "`" in text.splitlines()[0]  # a formula
    kind = loss_fields.LOSS_PRESETS.get(name, (name, {}))[0]
    if kind in loss_fields.LOSSES:
        assert f"y_true: {loss_fields.LOSSES[kind].y_true}." in text
    assert set(loss_names()) == {*loss_fields.LOSS_NAMES}


# From a configuration


def test_the_default_is_the_targets_own():
    loss = loss_from_config(Config())
    assert isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    (accuracy,) = metrics_from_config(Config(), loss)
    assert isinstance(accuracy, keras.metrics.SparseCategoricalAccuracy)
    assert accuracy.name == "accuracy"
    loss = loss_from_config(Config(target="return"))
    assert isinstance(loss, HuberLoss) and loss.delta == 1.0
    assert metrics_from_config(Config(target="return"), loss) == []


def test_fields_reach_their_loss():
    loss = loss_from_config(Config(loss="sharpe", fee_bps=7, slippage_bps=1))
    assert loss.cost_bps == 8
    assert loss_from_config(Config(loss="financial", loss_cost_bps=0)).cost_bps == 0
    loss = loss_from_config(Config(loss="volatility_aware", timeframe="1d"))
    assert (loss.volatility_lambda, loss.bars_per_year) == (0.3, 365)
    loss = loss_from_config(Config(loss="return_volatility", volatility_lambda=0.7))
    assert (loss.volatility_lambda, loss.bars_per_year) == (0.7, 525_600)
    loss = loss_from_config(Config(loss="focal", focal_gamma=1, focal_alpha=(1, 2, 3)))
    assert (loss.gamma, loss.alpha) == (1, (1, 2, 3))
    costs = (0, 1, 5, 2, 0, 3, 5, 1, 0)
    loss = loss_from_config(
        Config(loss="cost_sensitive", misclassification_costs=costs)
    )
    assert loss.costs == ((0, 1, 5), (2, 0, 3), (5, 1, 0))
    values = {"target": "return", "future_window": 1}
    loss = loss_from_config(Config(loss="quantile", quantile=0.9, **values))
    assert loss.quantile == 0.9
    several = Config(loss="quantile", quantiles=(0.1, 0.5, 0.9), **values)
    assert loss_from_config(several).quantile == [0.1, 0.5, 0.9]
    loss = loss_from_config(
        Config(loss="directional", directional_mse_weight=0.2, **values)
    )
    assert loss.mse_weight == 0.2
    loss = loss_from_config(Config(loss="robust", huber_delta=2.0, **values))
    assert loss.delta == 2.0
    combined = Config(
        loss="combined",
        loss_parts=("mse", "quantile"),
        loss_weights=(1, 3),
        quantile=0.3,
        **values,
    )
    loss = loss_from_config(combined)
    assert loss.weights == (0.25, 0.75) and loss.losses[1].quantile == 0.3
    assert [m.name for m in metrics_from_config(combined, loss)] == ["mse", "quantile"]


def test_a_loss_of_positions_balances_no_classes():
    config = Config(loss="sharpe")
    assert config.class_balancing_method == "systematic_undersampling"
    assert config.class_balancing == "none"
    assert Config(loss="focal").class_balancing == "systematic_undersampling"


_QUANTILE = {"loss": "quantile", "target": "return"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "shrpe"}, "Did you mean 'sharpe'"),
        ({"loss": "mse"}, "loss: expected one for target 'signal'"),
        (
            {"loss": "sharpe", "target": "price"},
            "loss: expected one for target 'price'",
        ),
        ({"quantile": 0.9}, "quantile: expected loss quantile with it"),
        ({"quantiles": (0.1, 0.5, 0.9)}, "quantiles: expected loss quantile with it"),
        *(
            ({"quantiles": each} | _QUANTILE, "odd number of ascending ones, 0.5 in")
            for each in ((0.1, 0.9), (0.9, 0.5, 0.1), (0.1, 0.4, 0.9), (0.5, 0.5, 0.9))
        ),
        (
            {"quantiles": (0.1, 0.5, 0.9), "quantile": 0.4} | _QUANTILE,
            "quantiles: expected loss 'quantile' alone, and no other quantile",
        ),
        (
            {"quantiles": (0.1, 0.5, 0.9), "loss_parts": ("mse", "quantile")}
            | {"target": "return", "loss": "combined"},
            "quantiles: expected loss 'quantile' alone",
        ),
        (
            {"quantiles": (0.1, 0.5, 0.9), "model": "lightgbm"} | _QUANTILE,
            "loss: expected one of lstm",
        ),
        ({"loss_cost_bps": 1}, "expected loss sharpe or return_volatility with it"),
        ({"loss": "sharpe", "monitor": "val_accuracy"}, "monitor: expected 'val_loss'"),
        (
            {"loss": "sharpe", "class_balancing_method": "class_weights"},
            "class_balancing_method: expected 'none'",
        ),
        ({"loss": "focal", "focal_alpha": [1, 2]}, "focal_alpha: expected 3 numbers"),
        (
            {"loss": "cost_sensitive", "misclassification_costs": [1] * 9},
            "expected 0 for a right prediction",
        ),
        ({"loss_weights": [1, 2]}, "loss_weights: expected loss 'combined' with it"),
        ({"loss": "combined"}, "loss_parts: expected two losses or more"),
        (
            {"loss": "combined", "loss_parts": ["focal", "sharpe"]},
            "loss_parts: expected losses that are compared with the same numbers",
        ),
        (
            {
                "loss": "combined",
                "loss_parts": ["focal", "cost_sensitive"],
                "loss_weights": [1],
            },
            "loss_weights: expected a number for each",
        ),
    ],
)
def test_contradictory_configurations_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Config(**values)


@pytest.mark.parametrize("target", ["signal", "return"])
def test_branches_of_a_batch_earn_what_one_network_earns(target):
    from model_builder import NetworkBuilder

    x = np.random.default_rng(0).standard_normal((67, 8, 3)).astype(np.float32)
    y = (1e-3 * np.random.default_rng(1).standard_normal(67)).astype(np.float32)
    trained = []
    for branches in (1, 3):
        keras.utils.set_random_seed(1)
        config = Config(
            **TINY
            | {"dropout_rate": 0.0, "num_branches": branches, "batch_size": 67}
            | {"target": target, "loss": "sharpe", "loss_cost_bps": 1.0}
            | {"model": "mlp", "mlp_inputs": "bars"}
        )
        model = NetworkBuilder(config, num_features=3).build_model()
        for _ in range(5):
            model.train_on_batch(x, y)
        trained.append(model.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)


def test_positions_have_the_ids_of_the_classes():
    probabilities = ops.convert_to_tensor([[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]])
    found = ops.convert_to_numpy(position_losses.positions(probabilities))
    np.testing.assert_allclose(found, [-0.6, 0.0], atol=1e-6)


# Of one's own


@pytest.fixture
def own_losses():
    """What a test registers is forgotten after it."""
    with mock.patch.dict(loss_fields.LOSSES), mock.patch.dict(losses._BUILDERS):
        yield


def steep_loss(name):
    """Cross-entropy to the fourth: unlike any that is built in."""
    entropy = keras.losses.sparse_categorical_crossentropy

    class Steep(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return entropy(y_true, y_pred) ** 4

    return Steep(name=name)


def own_run(outputs, **fields):
    values = {"windows_per_epoch": 200, "report": "light", "baseline_model": False}
    network = {"model": "mlp", "mlp_inputs": "bars"}
    return Config(**TINY | values | network | fields, outputs_dir=str(outputs))


def test_a_loss_of_ones_own_trains(tmp_path, own_losses):
    config = own_run(tmp_path, loss="steep", epochs=1)
    register_loss("steep", steep_loss, y_true="class")
    run = StandaloneTrainer(config, frame=make_own_frame())
    folder = run.run_training()
    assert run.model.loss.name == "steep"
    y, p = samples("focal")
    entropy = -np.log(p[np.arange(NUM_ROWS), y])
    got = value(loss_from_config(config), y, p)
    assert got == pytest.approx(np.mean(entropy**4), rel=1e-5)
    described = read_json(next(folder.glob("metadata_*.json")))["model"]
    assert described["loss"] == "steep"
    [saved] = folder.glob("model_*.keras")
    assert (
        keras.saving.load_model(saved).count_params() == described["total_parameters"]
    )


def test_a_stopped_run_goes_on_with_a_loss_of_ones_own(tmp_path, own_losses):
    register_loss("steep", steep_loss, y_true="class")
    whole, halves = (
        own_run(tmp_path / name, loss="steep") for name in ("whole", "halves")
    )
    frame = make_own_frame()
    expected = StandaloneTrainer(whole, frame=frame)
    expected.run_training()

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    first = StandaloneTrainer(halves, frame=frame)
    for step in (
        first.initialize_components,
        first.load_and_validate_data,
        first.create_generators,
        first.build_model,
        first.setup_callbacks,
    ):
        step()
    first.callbacks.append(Stop())
    with pytest.raises(KeyboardInterrupt):
        first.train_model()
    first.run.unlock()  # a dead process holds no lock
    with mock.patch.dict(loss_fields.LOSSES):
        del loss_fields.LOSSES["steep"]
        with pytest.raises(ConfigError, match="Received: 'steep'"):
            StandaloneTrainer(halves, frame=frame, resume="newest").run_training()
    again = StandaloneTrainer(halves, frame=frame, resume="newest")
    again.run_training()
    assert again.adapter.rounds_done == 1
    assert again.history["loss"] == expected.history["loss"]


def test_it_is_refused_for_a_target_that_it_does_not_support(own_losses):
    early = Config(loss="steep", target="return")
    register_loss("steep", steep_loss, y_true="class", targets=("signal",))
    expected = (
        "loss: expected one for target 'return': mse, mae, huber, quantile, "
        "directional, sharpe, return_volatility. Received: 'steep'"
    )
    with pytest.raises(ConfigError, match=expected):
        create_adapter(early)
    with pytest.raises(ConfigError, match=expected):
        Config(loss="steep", target="return")
    with pytest.raises(ConfigError, match="one for target 'direction'"):
        Config(loss="steep", target="direction")
    assert Config(loss="steep").class_balancing == "systematic_undersampling"


def test_it_is_refused_until_it_is_registered(tmp_path, own_losses, capsys):
    config = Config(loss="sleep")
    register_loss("steep", steep_loss, y_true="class")
    for refused in (
        StandaloneTrainer(config).initialize_components,
        lambda: loss_from_config(config),
        lambda: create_loss("sleep"),
    ):
        with pytest.raises(ConfigError, match=r"'sleep'\. Did you mean 'steep'\?"):
            refused()
    for words in ((), ("--config-test",)):
        assert train(["--loss", "sharpest_one", *words]) == 2
        assert "'sharpest_one'. Did you mean 'sharpe'?" in capsys.readouterr().err
    parts = ["--loss", "combined", "--loss-parts", "focal", "focal_two"]
    assert train(parts) == 2
    assert "Received: 'focal_two'. Did you mean 'focal'?" in capsys.readouterr().err


class Drawdown(SharpeLoss):
    """Stands for any loss of positions."""


def test_the_run_tells_a_loss_of_ones_own_what_a_market_costs(own_losses):
    register_loss("drawdown", Drawdown, y_true="return")
    register_loss("logcosh", keras.losses.LogCosh, y_true="value")
    config = Config(loss="drawdown", fee_bps=7, slippage_bps=1)
    assert loss_from_config(config).cost_bps == 8
    assert config.loss_traits.is_sequential and config.class_balancing == "none"
    with pytest.raises(ConfigError, match="compared with the same numbers"):
        Config(loss="combined", loss_parts=("drawdown", "logcosh"), target="return")
    both = Config(loss="combined", loss_parts=("mse", "logcosh"), target="return")
    loss = loss_from_config(both)
    assert [part.name for part in loss.losses] == ["mse", "logcosh"]
    assert "Targets: return, price. y_true: value." in describe("logcosh")
    ordered = {"y_true": "class", "is_sequential": True}
    register_loss("ordered", steep_loss, **ordered)
    assert Config(loss="ordered").class_balancing == "none"
    weighed = Config(loss="ordered", class_balancing_method="class_weights")
    assert weighed.class_balancing == "class_weights"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "Mine"}, "`name`: .*joined by single _. Received: 'Mine'"),
        ({"name": "shrpe"}, "Received: 'shrpe'. Did you mean 'sharpe'. A name of"),
        ({"name": "sharpe"}, "`name`: expected one that is not built in"),
        ({"builder": np.square}, "`builder`: expected a class or function"),
        ({"builder": lambda y_true, y_pred: 0}, "with argument `name`"),
        ({"y_true": "labels"}, "`y_true`: expected one of class, value, return"),
        ({"targets": ("return",)}, "`targets`: expected some of signal, direction"),
        ({"targets": ()}, "`targets`: expected some of signal, direction, or None"),
    ],
)
def test_registration_refuses_unusable_arguments(values, message, own_losses):
    good = {"name": "mine", "builder": steep_loss, "y_true": "class"}
    with pytest.raises(ValueError, match=message):
        register_loss(**good | values)


# What training with it earns


@pytest.fixture
def activity(monkeypatch):
    """A feature set with a short warm-up: volume and moves of up to four hours."""
    monkeypatch.setattr(features, "_REGISTRY", dict(features._REGISTRY))

    @features.feature_set("activity", warm_up_bars=1440)
    def activity(candles, context):
        move = np.log(candles["close"]).diff().abs()
        columns = {"volume": candles["volume"], "move": move}
        return pd.DataFrame(
            {
                f"{name}_{bars}": np.log(
                    column.rolling(bars).mean() / column.rolling(1440).mean()
                )
                for name, column in columns.items()
                for bars in (15, 60, 240)
            }
        )


# As the study's, with a quarter of its steps, each four times as far.
STUDY = {"feature_sets": ("activity",), "batch_size": 2048, "learning_rate": 0.004}


def test_sharpe_earns_more_than_squared_error(activity):
    planted = run_market(seed=3, strength=2.0, num_bars=40_000, **STUDY)
    assert planted["sharpe"]["low"] > 0
    assert planted["sharpe"]["estimate"] > planted["mse"]["estimate"]
    assert planted["sharpe"]["turnover"] < planted["mse, sign"]["turnover"]


def test_sharpe_earns_nothing_on_noise(activity):
    noise = run_market(seed=2, strength=0.0, num_bars=60_000, **STUDY)
    assert noise["sharpe"]["low"] <= 0 <= noise["sharpe"]["high"]
    assert noise["mse"]["high"] < 0  # trades on what is not there, and pays for it


def test_costs_are_those_of_the_true_class():
    costs = ((0, 1, 5), (2, 0, 3), (7, 4, 0))
    loss = CostSensitiveCrossentropy(costs, reduction=None)
    p = np.array([[0.5, 0.3, 0.2]] * 3)
    expected = -np.log(p[0]) + [0.3 + 1.0, 1.0 + 0.6, 3.5 + 1.2]
    np.testing.assert_allclose(loss(np.arange(3), p), expected, rtol=1e-6)
