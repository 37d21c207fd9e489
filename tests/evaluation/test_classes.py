import json

import numpy as np
import pandas as pd
import pytest
from world.classes import NUM_ROWS, SMALL, forecasts, hours, judge, load, market
from world.frames import make_frame

from artifacts.grades import grade_of
from benchmarks.noise import run_seed
from evaluation import backtest, trading
from evaluation.calibration import create_calibrator
from evaluation.class_scores import cross_fit
from evaluation.evaluate import (
    decide,
    evaluate,
    fit_policy,
    predictions_table,
    training_notes,
)
from evaluation.policies import CALIBRATED_COLUMNS, PROBABILITY_COLUMNS, SignalPolicy
from files.strict import to_jsonable
from metrics import scores as metrics
from metrics.classification import confusion_matrix
from metrics.errors import error_scores
from metrics.intervals import Length
from utils import ConfigError

SHORT, HOLD, LONG = range(3)


@pytest.fixture(scope="module")
def data():
    return load(market())


@pytest.fixture(scope="module")
def skilled(data):
    return judge(data, forecasts(data, knows=0.3))


@pytest.fixture(scope="module")
def blind(data):
    return judge(data, forecasts(data))


# The table


def test_probabilities_of_another_shape_are_refused(data):
    wrong = np.full((5, 3), 1 / 3)
    with pytest.raises(ValueError, match=r"validation: expected .* Received: \(5, 3\)"):
        predictions_table(data, {"validation": wrong})


def test_signals_follow_from_the_columns_of_the_table(skilled):
    table, policy, _ = skilled
    raw = table[list(PROBABILITY_COLUMNS)].to_numpy()
    calibrated = table[list(CALIBRATED_COLUMNS)].to_numpy()
    np.testing.assert_allclose(calibrated, policy.calibrate(raw), rtol=1e-5)
    np.testing.assert_array_equal(table["signal"], policy.signals(calibrated))
    again = SignalPolicy.from_dict(json.loads(json.dumps(policy.to_dict())))
    pd.testing.assert_frame_equal(again.add_signals(table), table)


# What validation decides


def test_the_policy_learns_from_validation_alone(data):
    table = predictions_table(data, forecasts(data, knows=0.3))
    policy, choice = fit_policy(table, data, SMALL)
    is_test = table["part"] == "test"
    changed = table.copy()
    changed.loc[is_test, "label"] = 0
    changed.loc[is_test, "long_return"] = 1.0
    other, again = fit_policy(changed, data, SMALL)
    assert other.to_dict() == policy.to_dict()
    assert again == choice
    assert choice["calibration"]["num_samples"] == (~is_test).sum()


def test_cross_fitting_keeps_the_halves_apart():
    rng = np.random.default_rng(0)
    raw = rng.dirichlet([1, 2, 1], size=1000)
    table = pd.DataFrame(raw, columns=list(PROBABILITY_COLUMNS))
    table["row"] = np.arange(1000)
    table["label"] = rng.integers(0, 3, 1000)
    before = cross_fit(table, "platt", purge_bars=20)
    # Labels of a half, and of the rows that share bars with it, teach it nothing.
    changed = table.copy()
    changed.loc[:519, "label"] = 1
    after = cross_fit(changed, "platt", purge_bars=20)
    np.testing.assert_array_equal(after[:500], before[:500])
    assert not np.allclose(after[500:], before[500:])
    changed = table.copy()
    changed.loc[520, "label"] = (table.loc[520, "label"] + 1) % 3
    after = cross_fit(changed, "platt", purge_bars=20)
    assert not np.array_equal(after[:500], before[:500])
    assert cross_fit(table[:200], "platt", purge_bars=20) is None


def test_too_few_validation_rows_are_said(data):
    table = predictions_table(data, forecasts(data))
    is_test = table["part"] == "test"
    few = pd.concat([table[~is_test][:99], table[is_test]])
    policy, choice = fit_policy(few, data, SMALL)
    assert policy.calibrator is None
    assert choice["calibration"]["method"] == "none"
    assert choice["calibration"]["reason"] == "99 rows, expected at least 100"


@pytest.mark.parametrize("method", ["isotonic", "platt", "beta", "temperature"])
def test_calibration_mends_overconfidence_on_test(data, method):
    sharp = {
        part: values**4 / (values**4).sum(axis=1, keepdims=True)
        for part, values in forecasts(data).items()
    }
    config = SMALL.replace(calibration_method=method)
    _, _, results = judge(data, sharp, config)
    test = results["test"]
    assert test["calibrated"]["fitted_on"] == "validation"
    assert test["calibrated"]["log_loss"] < test["log_loss"] - 0.1
    before = test["expected_calibration_error"]
    assert test["calibrated"]["expected_calibration_error"] < before / 3
    assert results["validation"]["calibrated"]["fitted_on"] == "the other half"


def test_a_temperature_at_its_bound_is_not_used(data):
    """Probabilities of the wrong classes: all that a temperature can do is forget."""
    wrong = {part: x[:, [1, 0, 2]] ** 2 for part, x in forecasts(data).items()}
    wrong = {part: x / x.sum(axis=1, keepdims=True) for part, x in wrong.items()}
    _, policy, results = judge(data, wrong)
    found = results["calibration"]
    assert found["method"] == "bias" == policy.calibrator.name
    reason = "temperature is not used, the temperature ended at its bound, 20"
    assert found["reason"] == reason
    assert f"calibrated by the class mix alone: {reason}" in results["warnings"]
    test = results["test"]
    assert test["calibrated"]["log_loss"] < test["log_loss"] - 0.1


def test_a_map_no_better_than_the_uniform_forecast_is_not_used(data):
    """What is said turns around in the middle: each half teaches the other wrong."""
    table = predictions_table(data, forecasts(data))
    rows = np.flatnonzero(table["part"] == "validation")
    labels = table["label"].to_numpy(np.int64)[rows]
    turned = (labels + (np.arange(len(rows)) > len(rows) / 2)) % 3
    columns = list(PROBABILITY_COLUMNS)
    table.loc[rows, columns] = 0.8 * np.eye(3)[turned] + 0.2 / 3
    _, choice = fit_policy(table, data, SMALL.replace(calibration_method="platt"))
    assert choice["calibration"]["reason"].startswith(
        "platt is not used, a log-loss of "
    )


class Trained:
    """As much of an adapter as a note about its training reads."""

    config = SMALL

    def __init__(self, losses):
        self.history = losses

    def training_history(self):
        return {"val_loss": self.history}

    @property
    def best_round(self):
        return self.history.index(min(self.history)) + 1


@pytest.mark.parametrize(
    ("losses", "is_told"),
    [([0.9, 0.8, 0.7], True), ([0.9, 0.7, 0.8], False), ([0.9], False)],
)
def test_training_that_ended_too_early_is_said(losses, is_told):
    assert training_notes(Trained(losses)) == is_told * [
        "training ended while val_loss still fell: the last of 3 epochs was the best"
    ]


def test_notes_and_doubtful_levels_are_warnings(data):
    config = SMALL.replace(long_tp_pct=0.2)
    results = evaluate(
        decide(data, forecasts(data), config), data, config, notes=["of training"]
    )
    first, second = results["warnings"][:2]
    assert first == "of training"
    assert second.startswith("take profit of long, 0.2 %: not above the costs")


def test_out_of_fold_predictions_teach_the_calibration(data):
    told = forecasts(data, knows=0.3)
    plain = predictions_table(data, told)
    oof = plain[plain["part"] == "test"].drop(columns="part")
    reach = data.window_bars + data.future_window
    last = data.parts["validation"].targets[0] - reach
    oof["row"] += last - oof["row"].iloc[-1]
    late = oof.assign(row=oof["row"] + len(oof), label=2)  # shares bars with validation
    late = late[late["row"] > last]
    model = decide(data, told, SMALL, calibrate_on=pd.concat([oof, late]))
    raw = oof[list(PROBABILITY_COLUMNS)].to_numpy(np.float64)
    wanted = create_calibrator("temperature").fit(raw, oof["label"])
    assert model.policy.calibrator.parameters_ == wanted.parameters_
    # Thresholds are still those of validation, under that calibration.
    assert model.choice["thresholds"]["num_tried"] > 1
    results = evaluate(model, data, SMALL)
    taught = [results["calibration"]]
    taught += [results[part]["calibrated"] for part in ("validation", "test")]
    names = {each["fitted_on"] for each in taught}
    assert names == {"out-of-fold predictions"}
    assert results["calibration"]["num_samples"] == len(oof)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n_splits": 4, "cv": "combinatorial"},
        {"n_splits": 4, "target": "return"},
    ],
)
def test_out_of_fold_calibration_needs_folds_of_classes(fields):
    with pytest.raises(ConfigError, match="calibrate_on: expected classes, and folds"):
        SMALL.replace(calibrate_on="oof", **fields)


def test_calibration_can_be_switched_off(data):
    config = SMALL.replace(calibration_method="none")
    table, policy, results = judge(data, forecasts(data), config)
    assert policy.calibrator is None
    np.testing.assert_allclose(
        table[list(CALIBRATED_COLUMNS)], table[list(PROBABILITY_COLUMNS)], rtol=1e-6
    )
    assert results["test"]["calibrated"]["fitted_on"] == "nothing"
    assert results["warnings"] == [
        note for note in results["warnings"] if "calibrated" not in note
    ]


# Results


def test_results_are_strict_json_and_repeat(data, skilled):
    _, _, results = skilled
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    _, _, again = judge(data, forecasts(data, knows=0.3))
    assert again == results
    assert list(results)[:3] == ["verdict", "claims", "warnings"]


def test_skill_direction_and_edge_are_found(skilled):
    _, policy, results = skilled
    assert results["claims"] == {
        "skill": True,
        "activity": True,
        "direction": True,
        "edge": True,
    }
    assert policy.uses_thresholds and policy.long_threshold is not None
    first, second, third, fourth, fifth = results["verdict"]
    assert first.startswith("Skill: yes. +0.")
    assert "direction yes +" in second and second.endswith("p = 0.001")
    assert third.startswith("After costs: survives. ")
    assert fourth.startswith("Test: 74.6 days, 358 label horizons, counts as about 5 ")
    assert fifth.startswith("Power: this test could show an edge from Sharpe ")


def test_nothing_is_claimed_without_knowledge(blind):
    _, _, results = blind
    assert not any(results["claims"].values())
    assert results["test"]["direction_p_value"] > 0.05
    assert results["verdict"][0].startswith("Skill: none shown.")


def test_validation_is_marked_as_seen(skilled):
    results = skilled[2]
    assert results["validation"]["trading"]["in_sample"] is True
    assert results["test"]["trading"]["in_sample"] is False
    tried = results["thresholds"]["num_tried"]
    assert results["validation"]["trading"]["num_variants_tried"] == tried > 1
    assert results["test"]["trading"]["num_variants_tried"] == 1


def test_scores_are_those_of_metrics(skilled):
    table, _, results = skilled
    table = table[table["part"] == "test"]
    labels = table["label"].to_numpy()
    raw = table[list(PROBABILITY_COLUMNS)].to_numpy()
    test = results["test"]
    parts = metrics.log_loss_parts(labels, raw)
    assert test["log_loss"] == pytest.approx(parts["log_loss"])
    for key in ("skill_vs_train_prior", "direction_skill_vs_trailing_7d", "accuracy"):
        found = test["intervals"][key]
        assert found["estimate"] == pytest.approx(test[key])
        assert found["low"] < found["estimate"] < found["high"]
        assert found["num_cosines"] in (4, 6, 8, 12)
    signals = table["signal"].to_numpy()
    assert test["thresholded"]["confusion_matrix"] == (
        confusion_matrix(labels, signals).tolist()
    )


def test_equity_re_adds_to_the_reported_return(skilled):
    table, _, results = skilled
    table = table[table["part"] == "test"]
    trades = trading.simulate_trades(
        table["signal"].to_numpy(),
        backtest.trade_outcomes(table),
        rules=backtest.trade_rules(SMALL),
    )
    found = results["test"]["trading"]
    growth = np.prod(1 + trades["gross_return"] - 0.003)
    assert found["total_return_pct"] == pytest.approx(100 * (growth - 1), abs=1e-9)
    assert found["num_trades"] == len(trades) > 50
    assert found["curve"]["equity"][0] == 1.0
    assert len(found["curve"]["time"]) == len(found["curve"]["equity"]) <= 300
    mean = 1e4 * (trades["gross_return"] - 0.003).mean()
    assert found["intervals"]["mean_net_return_bps"]["estimate"] == pytest.approx(mean)
    total = found["intervals"]["total_return_pct"]["estimate"]
    assert total == pytest.approx(found["total_return_pct"])
    sharpe = found["intervals"]["sharpe"]["estimate"]
    assert sharpe == pytest.approx(found["sharpe"])


def test_the_curve_has_what_was_closed_by_each_of_its_moments(skilled):
    table, _, results = skilled
    table = table[table["part"] == "test"]
    trades = trading.simulate_trades(
        table["signal"].to_numpy(),
        backtest.trade_outcomes(table),
        rules=backtest.trade_rules(SMALL),
    )
    found = results["test"]["trading"]
    curve = {key: np.array(values) for key, values in found["curve"].items()}
    ended = pd.to_datetime(trades["exit_time"], utc=True)
    done = [(ended <= moment).sum() for moment in pd.to_datetime(curve["time"])]
    assert set(pd.to_datetime(curve["time"])) & set(ended)  # some end at a moment
    gross = np.append(1.0, np.cumprod(1 + trades["gross_return"]))
    net = np.append(1.0, np.cumprod(1 + trades["gross_return"] - 0.003))
    np.testing.assert_allclose(curve["equity_before_costs"], gross[done])
    np.testing.assert_allclose(curve["equity"], net[done])
    fallen = 100 * (1 - net / np.maximum.accumulate(net))
    np.testing.assert_allclose(curve["drawdown_pct"], fallen[done], atol=1e-9)
    close = table["close"].to_numpy()
    ends = 0.9985 * close[[0, -1]] / close[0]  # bought at the costs of a side
    np.testing.assert_allclose(curve["buy_and_hold"][[0, -1]], ends)


def test_costs_come_from_the_configuration(data):
    free = SMALL.replace(fee_bps=0.0, slippage_bps=0.0)
    _, _, results = judge(data, forecasts(data, knows=0.3), free)
    found = results["test"]["trading"]
    assert found["cost_bps"] == 0
    assert found["mean_net_return_bps"] == found["mean_gross_return_bps"]
    dear = SMALL.replace(fee_bps=200.0)
    table, policy, results = judge(data, forecasts(data, knows=0.3), dear)
    assert policy.long_threshold is policy.short_threshold is None
    assert (table["signal"] == HOLD).all()
    assert results["test"]["trading"]["num_trades"] == 0
    assert results["verdict"][2].startswith("After costs: no trade: no pair of")


# Files without outcomes


def test_a_foreign_file_is_judged_without_trades():
    frame = make_frame(NUM_ROWS)
    frame["timestamp"] = hours(NUM_ROWS)
    data = load(frame)
    assert not data.outcomes
    table, policy, results = judge(data, forecasts(data))
    assert policy.uses_thresholds is False
    skipped = results["test"]["trading"]["skipped"]
    assert skipped.startswith("the training file has no column close, long_return")
    assert results["thresholds"]["statement"].startswith("not searched: ")
    assert results["verdict"][2].startswith("After costs: not judged, the training")
    assert not any("trading" in each for each in results["test"]["baselines"].values())
    calibrated = table[list(CALIBRATED_COLUMNS)].to_numpy()
    np.testing.assert_array_equal(table["signal"], calibrated.argmax(axis=1))
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_broken_outcomes_are_counted_not_mended(data):
    table = predictions_table(data, forecasts(data))
    assert backtest.trading_problem(table) is None
    table.loc[3, "long_return"] = np.nan
    table.loc[7, "short_exit_bars"] = 0
    assert backtest.trading_problem(table).startswith("2 rows have no outcome")


# Sizes


def test_kelly_sizes_take_both_sides_barriers(data):
    config = SMALL.replace(position_sizing="kelly", long_tp_pct=2.0, fee_bps=0.0)
    config = config.replace(slippage_bps=0.0, kelly_fraction=1.0)
    calibrated = np.array([[0.4, 0.2, 0.4]])
    sizes = backtest.position_sizes(calibrated, data, np.array([20]), config)
    # f = p / SL - (1 - p) / TP, capped at all equity: 80 - 60 and 80 - 30.
    assert sizes.tolist() == [[1.0, 1.0]]
    calibrated = np.array([[0.334, 0.4, 0.2]])
    sizes = backtest.position_sizes(calibrated, data, np.array([20]), config)
    short = 0.334 / 0.005 - 0.666 / 0.01
    assert sizes[0] == pytest.approx([short, 0.0])
    # Costs of 0.3 %: SHORT wins 0.7 % or loses 0.8 %, LONG 1.7 % or 0.8 %.
    config = config.replace(fee_bps=10.0, slippage_bps=5.0)
    calibrated = np.array([[0.534, 0.145, 0.321]])
    sizes = backtest.position_sizes(calibrated, data, np.array([20]), config)
    expected = [0.534 / 0.008 - 0.466 / 0.007, 0.321 / 0.008 - 0.679 / 0.017]
    assert 0 < min(expected) and max(expected) < 1
    assert sizes[0] == pytest.approx(expected)


def test_volatility_sizes_read_their_own_window_only():
    config = SMALL.replace(position_sizing="volatility", volatility_target_pct=0.2)
    frame = market()
    rng = np.random.default_rng(0)
    frame["close"] = 1000 * np.exp(np.cumsum(0.001 * rng.standard_normal(NUM_ROWS)))
    data = load(frame, config)
    rows = np.array([100, 200])
    sizes = backtest.position_sizes(np.zeros((2, 3)), data, rows, config)
    changes = np.diff(np.log(frame["close"].to_numpy()))
    spread = [changes[row - 9 : row].std() for row in rows]
    expected = 0.002 / (np.array(spread) * np.sqrt(24))
    assert expected.max() < 1  # full equity would hide what was read
    np.testing.assert_allclose(sizes[:, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(sizes[:, 0], sizes[:, 1])
    _, _, results = judge(data, forecasts(data, knows=0.3), config)
    assert results["test"]["trading"]["num_trades"] > 50


def test_the_interval_of_the_total_is_that_of_sized_trades():
    fields = {"position_sizing": "volatility", "volatility_target_pct": 0.1}
    config = SMALL.replace(**fields)
    frame = market()
    rng = np.random.default_rng(0)
    frame["close"] = 1000 * np.exp(np.cumsum(0.001 * rng.standard_normal(NUM_ROWS)))
    data = load(frame, config)
    _, _, results = judge(data, forecasts(data, knows=0.3), config)
    found = results["test"]["trading"]
    assert found["num_trades"] > 50
    total = found["intervals"]["total_return_pct"]["estimate"]
    assert total == pytest.approx(found["total_return_pct"])


def test_volatility_needs_a_window():
    with pytest.raises(ConfigError, match="sequence_length of at least 10"):
        SMALL.replace(position_sizing="volatility", sequence_length=9)


# Parts that say little


def test_a_part_without_trades_has_no_direction(data):
    frame = market()
    is_new = frame.index >= NUM_ROWS * 0.7 - 20
    frame.loc[is_new, "label"] = 1
    quiet = load(frame)
    _, _, results = judge(quiet, forecasts(quiet, knows=0.3))
    test = results["test"]
    assert test["true_share"]["HOLD"] == 1
    assert test["direction_p_value"] is None
    assert test["intervals"]["direction_skill_vs_train_prior"]["estimate"] is None
    assert results["claims"]["direction"] is False
    assert "direction no n/a not tested" in results["verdict"][1]
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_a_short_part_claims_nothing():
    few = SMALL.replace(test_split=0.1, validation_split=0.2, future_window=15)
    data = load(market()[:400], few)
    _, _, results = judge(data, forecasts(data, knows=0.5), few)
    assert results["test"]["intervals"]["skill_vs_train_prior"]["low"] is None
    assert not any(results["claims"].values())
    assert any("no interval and no claim" in note for note in results["warnings"])
    assert "[no interval]" in results["verdict"][0]


# Baselines


def test_baselines_stand_beside_the_model(data):
    config = SMALL.replace(baseline_model=True)
    _, _, results = judge(data, forecasts(data, knows=0.3), config)
    test = results["test"]
    assert list(test["baselines"]) == [
        "train_prior",
        "trailing_7d",
        "last_known_label",
        "always_hold",
        "stratified_random",
        "logistic_regression",
        "gradient_boosting",
        "buy_and_hold",
    ]
    for name, scores in test["baselines"].items():
        assert ("log_loss" in scores) == (scores.get("kind") == "probabilities"), name
        assert "total_return_pct" in scores["trading"]
    assert test["baselines"]["train_prior"]["skill_vs_train_prior"] == 0
    hold = test["true_share"]["HOLD"]
    assert test["baselines"]["always_hold"]["accuracy"] == pytest.approx(hold)
    losses = {
        name: scores["log_loss"]
        for name, scores in test["baselines"].items()
        if "log_loss" in scores
    }
    best = test["comparisons"]["best_baseline"]
    assert best["baseline"] == min(losses, key=losses.get)
    difference = best["log_loss_difference"]
    expected = test["log_loss"] - min(losses.values())
    assert difference["estimate"] == pytest.approx(expected)
    assert difference["high"] < 0 and difference["p_value"] < 1e-5
    for name in ("gradient_boosting", "logistic_regression"):
        assert test["comparisons"][name]["skill"]["low"] > 0


# Grades


@pytest.mark.parametrize("always", [[1], [0, 1, 2]])
def test_hold_alone_and_a_coin_have_no_grade_above_c(data, always):
    rng, sure = np.random.default_rng(0), {}
    for part in ("validation", "test"):
        said = rng.choice(always, len(data.parts[part].targets))
        sure[part] = 0.1 + 0.7 * np.eye(3)[said]
    assert grade_of(judge(data, sure)[2]).grade == "D"


def test_a_forecast_that_knows_is_graded_by_what_it_shows(skilled):
    graded = grade_of(skilled[2])
    assert (graded.grade, graded.reason) == (
        "B",
        "no B+: it was not compared with gradient boosting",
    )


# Synthetic markets


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_has_activity_but_no_direction_and_no_edge(seed):
    results = run_seed(seed)
    assert results["claims"]["activity"]
    assert not results["claims"]["direction"]
    assert not results["claims"]["edge"]
    assert results["test"]["direction_p_value"] > 0.05


def test_the_planted_signal_is_found_in_direction():
    results = run_seed(1, strength=1.0)
    assert results["claims"]["direction"]
    assert results["test"]["direction_p_value"] < 0.01


# Regression targets


def regression_table(seed=0, count=3000):
    rng = np.random.default_rng(seed)
    known = 1000 + np.cumsum(rng.standard_normal(count))
    move = rng.standard_normal(count)
    return pd.DataFrame(
        {
            "part": np.where(np.arange(count) < count // 2, "validation", "test"),
            "known": known,
            "actual": known + move,
            "predicted": known + 0.5 * move + 0.3 * rng.standard_normal(count),
        }
    )


def scores_of(rows, known, *, is_price):
    columns = (rows["actual"], rows["predicted"], known)
    length = Length.of(len(rows), horizon_bars=10, bar_seconds=3600)
    arrays = [column.to_numpy(np.float64) for column in columns]
    return error_scores(*arrays, is_price=is_price, length=length)


def test_price_regression_equals_scikit_learn():
    from sklearn.metrics import mean_absolute_percentage_error, r2_score

    table = regression_table()
    rows = table[table["part"] == "test"]
    test = scores_of(rows, rows["known"], is_price=True)
    json.dumps(to_jsonable(test), allow_nan=False)
    assert test["r2"] == pytest.approx(r2_score(rows["actual"], rows["predicted"]))
    percent = mean_absolute_percentage_error(rows["actual"], rows["predicted"])
    assert test["mape_pct"] == pytest.approx(100 * percent)
    hits = np.sign(rows["actual"] - rows["known"]) == np.sign(
        rows["predicted"] - rows["known"]
    )
    assert test["sign_accuracy"] == pytest.approx(hits.mean())
    for name, found in test["intervals"].items():
        assert found["estimate"] == pytest.approx(test[name]), name
        assert found["low"] < found["estimate"] < found["high"], name
    assert test["intervals"]["skill_mse_vs_persistence"]["low"] > 0


def test_return_and_direction_regression():
    table = regression_table()
    table["actual"] -= table["known"]
    table["predicted"] -= table["known"]
    rows = table[table["part"] == "test"].drop(columns="known")
    found = scores_of(rows, 0 * rows["actual"], is_price=False)
    assert found["mae_persistence"] == pytest.approx(rows["actual"].abs().mean())
    assert "mape_pct" not in found["intervals"]
    rows["actual"] = (rows["actual"] > 0) * 1.0
    rows["predicted"] = 1 / (1 + np.exp(-rows["predicted"]))
    found = scores_of(rows, 0 * rows["actual"] + 0.5, is_price=False)
    assert found["mae_persistence"] == 0.5
    assert found["intervals"]["sign_accuracy"]["low"] > 0.6


@pytest.mark.filterwarnings("ignore:overflow encountered in accumulate")
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
def test_returns_beyond_all_numbers_have_none():
    frame = market()
    sides = ["long_return", "short_return"]
    frame[sides] = 550.0 * frame[sides]  # more than percents instead of shares
    data = load(frame)
    _, _, results = judge(data, forecasts(data, knows=0.9))
    earned = results["test"]["trading"]
    assert earned["num_trades"] > 200 and earned["total_return_pct"] is None
    total = earned["intervals"]["total_return_pct"]
    assert {total[key] for key in ("estimate", "low", "high", "standard_error")} == {
        None
    }
    assert earned["intervals"]["mean_net_return_bps"]["low"] > 0
    assert any("better than anything honest" in line for line in results["warnings"])
