"""A return or a price through the whole run: file, loader, windows, judging, report."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from world.frames import CORE8, TINY
from world.numbers import HORIZON, SMALL, judge, load, market, outputs

import predictor
from artifacts.artifact import load_artifact
from config import Config, ConfigError
from evaluation import baselines, verdict
from evaluation.evaluate import fit_policy, predictions_table
from evaluation.numbers import Numbers
from evaluation.part_scores import Judged
from evaluation.policies import (
    ReturnPolicy,
    SignalPolicy,
    log_returns,
    policy_from_dict,
)
from metrics import wording
from preprocessing.scaling import TargetScaler
from preprocessing.windows import cut_windows
from reports import report
from reports.figures import plot_results
from sequence_generator import MemoryEfficientDataLoader
from trainer import StandaloneTrainer
from utils import DataError

SHORT, HOLD, LONG = range(3)
TARGETS = ("return", "price")


@pytest.fixture(scope="module", params=TARGETS)
def known(request):
    """Target, data, and the judgement of a model that knows a little."""
    target = request.param
    data = load(market(target), target=target)
    values = outputs(data, knows=0.3)
    return target, data, *judge(data, values, target=target, baseline_model=True)


# File and loader


@pytest.mark.parametrize("target", TARGETS)
def test_values_are_the_log_returns_of_the_closes(target):
    frame = market(target)
    data = load(frame, target=target)
    close = frame["close"].to_numpy()
    rows = data.parts["test"].targets
    rows = rows[rows + HORIZON < len(close)]
    expected = np.log(close[rows + HORIZON] / close[rows])
    np.testing.assert_allclose(data.log_returns(rows), expected, atol=1e-8)
    assert len(data.labels) == len(data.class_prior) == 0
    assert data.class_odds is data.class_weights is None
    # Nothing is thinned: there are no classes to balance.
    assert np.array_equal(data.train_targets, data.parts["train"].targets)


def test_the_units_are_learned_from_training_targets_alone():
    frame = market()
    data = load(frame)
    train = data.parts["train"].targets
    returns = frame["target"].to_numpy()[train]
    assert data.target_scaler.center == pytest.approx(returns.mean())
    assert data.target_scaler.scale == pytest.approx(returns.std())
    assert data.values[train].std() == pytest.approx(1.0, rel=1e-5)
    changed = frame.copy()
    later = changed.index > train[-1]
    changed.loc[later, "target"] *= 3
    changed = changed.drop(columns="close")  # which would contradict
    again = load(changed)
    assert again.target_scaler == data.target_scaler
    assert not np.allclose(again.values[later], data.values[later])


def test_a_foreign_file_needs_the_number_and_nothing_else():
    frame = market()[["timestamp", *CORE8, "target"]]
    data = load(frame)
    # Nothing says when outcomes are known: the last rows are no targets.
    assert data.parts["test"].targets[-1] == len(frame) - HORIZON - 1
    frame.loc[frame.index[-HORIZON:], "target"] = np.nan
    assert load(frame).digest() != data.digest()
    frame.loc[frame.index[7], "target"] = np.nan
    load(frame)  # no whole window ends there: no target either
    row = int(data.parts["train"].targets[0])
    frame.loc[frame.index[row], "target"] = np.nan
    with pytest.raises(DataError, match=rf"target: expected finite .*row {row}: nan"):
        load(frame)


def test_files_without_the_number_are_refused():
    frame = market()
    with pytest.raises(DataError, match=r"'target' of a return.*--target return"):
        load(frame.drop(columns="target"))
    with pytest.raises(DataError, match=r"'target' and 'close' of a price.*no close"):
        load(frame.drop(columns="close"), target="price")
    frame["target"] = 0.25
    with pytest.raises(DataError, match="values that differ in the training part"):
        load(frame.drop(columns="close"))


@pytest.mark.parametrize(
    ("change", "target"),
    [
        (lambda f: f["target"].shift(1).fillna(0), "return"),  # another horizon
        (lambda f: np.expm1(f["target"]) * 100, "return"),  # percent
        (lambda f: f["close"], "price"),  # today's price
        (lambda f: f["close"] * np.exp(f["target"]), "return"),  # a price
    ],
)
def test_a_number_that_the_closes_contradict_is_refused(change, target):
    frame = market()
    frame["target"] = change(frame)
    with pytest.raises(DataError, match="expected what the close does over 5 bars"):
        load(frame, target=target)


def test_classes_do_not_read_the_number():
    frame = market()
    frame["label"] = np.arange(len(frame)) % 3
    frame["target"] = np.nan
    data = load(frame, target="signal")
    assert data.values is None and not data.is_regression
    assert "target" not in data.outcomes
    with pytest.raises(ValueError, match="a target that is a number"):
        data.log_returns(np.arange(3))


def test_the_scaler_survives_json():
    scaler = TargetScaler.fit(np.array([0.1, -0.2, 0.4]))
    stored = json.loads(json.dumps(scaler.to_dict()))
    assert TargetScaler.from_dict(stored) == scaler
    values = np.array([0.3, np.nan, -4.0])
    np.testing.assert_allclose(scaler.inverse(scaler.transform(values)), values, 1e-6)
    for wrong in ({"scale": 0.0}, {"center": np.inf}, {"num_rows": 0}, {"more": 1}):
        with pytest.raises(DataError, match="a target's finite center"):
            TargetScaler.from_dict(stored | wrong)


def test_batches_carry_the_values_of_their_rows():
    data = load(market())
    generators = MemoryEfficientDataLoader(data, batch_size=64, seed=3)
    windows, values = next(iter(generators.train_dataset()))
    rows = generators.epoch_targets(0)[: len(values)]
    assert values.dtype.name == "float32" and values.shape == (len(rows),)
    np.testing.assert_array_equal(values, data.values[rows])
    np.testing.assert_array_equal(windows[:, -1], data.features[rows])


# Forecasts without a model


def test_the_trailing_mean_reads_known_values_only():
    values = np.array([1.0, np.nan, 3.0, 5.0, 7.0, 9.0])
    rows = np.array([0, 1, 2, 3, 5])
    mean = baselines.trailing_mean(values, rows, horizon_bars=2, window_bars=2)
    np.testing.assert_allclose(mean, [0.0, 0.0, 1.0, 1.0, 4.0])
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200)
    changed = values.copy()
    changed[101 - HORIZON :] = 99.0  # outcomes that are not over at row 100
    rows = np.arange(101)
    options = {"horizon_bars": HORIZON, "window_bars": 30}
    np.testing.assert_array_equal(
        baselines.trailing_mean(changed, rows, **options),
        baselines.trailing_mean(values, rows, **options),
    )


def test_simple_forecasts_by_hand():
    data = load(market())
    returns = data.log_returns(np.arange(data.num_rows))
    rows = data.parts["test"].targets
    found = baselines.simple_return_forecasts(data, rows, bar_seconds=3600)
    train = data.parts["train"].targets
    assert not found["persistence"].any()
    assert found["train_mean"] == pytest.approx(returns[train].mean())
    np.testing.assert_allclose(found["last_known_return"], returns[rows - HORIZON])
    week = [returns[r - HORIZON - 167 : r - HORIZON + 1].mean() for r in rows]
    np.testing.assert_allclose(found["trailing_7d"], week, atol=1e-12)


@pytest.mark.parametrize("name", ["boosted_outputs", "linear_outputs"])
def test_trained_baselines_learn_numbers(name):
    frame = market()
    frame["high_change"] = frame["target"] + np.float32(0.001)
    data = load(frame)
    rows = data.parts["test"].targets
    found = getattr(baselines, name)(data, ("test",), seed=0)["test"]
    assert np.corrcoef(found, data.values[rows])[0, 1] > 0.5


# The table and the policy


def test_the_table_pairs_by_row(known):
    target, data, table, policy, _ = known
    rows = table["row"].to_numpy()
    close = data.outcomes["close"][rows]
    np.testing.assert_array_equal(table["known"], close)
    returns = data.log_returns(rows)
    actual = close * np.exp(returns) if target == "price" else returns
    np.testing.assert_allclose(table["actual"], actual, rtol=1e-6, atol=1e-9)
    stored = np.concatenate(list(outputs(data, knows=0.3).values()))
    predicted = data.target_scaler.inverse(stored)
    found = log_returns(table, target)
    np.testing.assert_allclose(found, predicted, atol=1e-12)
    assert table["timestamp"].is_monotonic_increasing
    wrong = {"test": np.zeros(3)}
    with pytest.raises(ValueError, match="test: expected .* one for each target"):
        predictions_table(data, wrong)


def test_signals_follow_from_the_table_and_the_stored_policy(known):
    target, _, table, policy, _ = known
    assert policy.uses_thresholds and policy.long_threshold > 0
    stored = json.loads(json.dumps(policy.to_dict()))
    again = policy_from_dict(stored)
    assert isinstance(again, ReturnPolicy)
    pd.testing.assert_frame_equal(again.add_signals(table), table)
    returns = log_returns(table, target)
    signals = table["signal"].to_numpy()
    assert returns[signals == LONG].min() == policy.long_threshold
    assert returns[signals == SHORT].max() == -policy.short_threshold
    with pytest.raises(DataError, match="a return or a price"):
        policy_from_dict(stored | {"target": "signal"})
    with pytest.raises(DataError, match="expected a signal policy"):
        policy_from_dict(stored | {"long_threshold": "0.1"})
    with pytest.raises(DataError, match="expected an interval"):
        policy_from_dict(stored | {"interval": stored["interval"] | {"level": 2.0}})
    del stored["interval"]  # a file from before there were intervals
    assert policy_from_dict(stored).interval is None
    assert isinstance(policy_from_dict(SignalPolicy().to_dict()), SignalPolicy)


def test_intervals_hold_what_they_are_to_hold(known):
    target, data, table, policy, results = known
    of = {part: table[table["part"] == part] for part in ("validation", "test")}
    for part, rows in of.items():
        low, high = rows["predicted_low"], rows["predicted_high"]
        inside = (low <= rows["actual"]) & (rows["actual"] <= high)
        found = results[part]["intervals"]["coverage"]
        assert found["estimate"] == pytest.approx(inside.mean())
        assert found["low"] < 0.9 < found["high"]
        assert results[part]["coverage"]["thirds"][0] == pytest.approx(
            inside[: -(-len(rows) // 3)].mean()
        )
    # The spread is that of the bars of the window, one change less than closes.
    row = int(of["test"]["row"].iloc[7])
    closes = data.outcomes["close"][row - data.window_bars + 1 : row + 1]
    spread = np.diff(np.log(closes)).std()
    assert of["test"]["volatility"].iloc[7] == pytest.approx(spread, rel=1e-5)
    half = policy.interval.factor * max(spread, policy.interval.least_spread)
    end = log_returns(of["test"], target, "predicted_high")[7]
    assert end - log_returns(of["test"], target)[7] == pytest.approx(half, rel=1e-5)


def test_intervals_that_do_not_hold_are_told():
    data = load(market())
    values = outputs(data)
    values["test"] = values["test"] + 3  # of the deviation of a target
    results = judge(data, values)[2]
    told = [text for text in results["warnings"] if text.startswith("intervals of 90%")]
    assert len(told) == 1 and told[0].endswith("of what came in test")
    assert results["test"]["intervals"]["coverage"]["high"] < 0.9


LEVELS = (0.1, 0.5, 0.9)


@pytest.mark.parametrize("target", ["return", "price"])
def test_quantiles_are_judged_beside_the_intervals(target):
    """A walk's return is normal, so that its quantiles are known: of the deviation."""
    data = load(market(target), target=target)
    known = (data.values.std() * np.array([1.2816, 0.0, -1.2816])).astype(np.float32)
    values = {k: np.tile(known, (len(v), 1)) for k, v in outputs(data).items()}
    table, _, results = judge(
        data, values, target=target, loss="quantile", quantiles=LEVELS
    )
    low, middle, high = (
        log_returns(table, target, f"quantile_{k}") for k in (10, 50, 90)
    )
    assert (low < middle).all() and (middle < high).all()  # they came crossed
    np.testing.assert_array_equal(table["predicted"], table["quantile_50"])
    units, test = data.target_scaler, results["test"]
    np.testing.assert_allclose(high, units.inverse(known[:1])[0], rtol=1e-5)
    is_test = (table["part"] == "test").to_numpy()
    came = log_returns(table, target, "actual")
    inside = (low <= came) & (came <= high)
    found = test["intervals"]["quantile_coverage"]
    assert found["estimate"] == pytest.approx(inside[is_test].mean())
    assert found["low"] < 0.8 < found["high"]
    said = test["quantiles"]
    assert (said["levels"], said["level"]) == ([*LEVELS], pytest.approx(0.8))
    assert said["below"] == pytest.approx([0.1, 0.5, 0.9], abs=0.1)
    width = 1e4 * 2 * 1.2816 * data.values.std() * units.scale
    assert said["width_bps"] == pytest.approx(width, rel=1e-4)
    # Of a normal variable: the density at the quantile, times the deviation.
    scale = 1e4 * came[is_test].std()
    assert said["pinball_bps"] == pytest.approx(
        scale * np.array([0.1755, 0.3989, 0.1755]), rel=0.1
    )
    assert abs(test["intervals"]["skill_pinball_vs_train"]["estimate"]) < 0.05
    assert test["coverage"]["level"] == 0.9  # the interval of validation's errors
    assert not any(note.startswith("outer quant") for note in results["warnings"])
    text = report.format_results(results)
    assert (
        "outer quantiles, 80%: " in text and "came below each quantile: 0.1: " in text
    )
    actual = data.values[data.parts["test"].targets]
    skills = Numbers(target).skills(values["test"], actual, data)
    assert skills == {"all": pytest.approx(0)}  # of the middle one, the mean


def test_quantiles_that_do_not_hold_are_told():
    data = load(market())
    values = {k: np.full((len(v), 3), 0.1) for k, v in outputs(data).items()}
    results = judge(data, values, loss="quantile", quantiles=LEVELS)[2]
    [told] = [text for text in results["warnings"] if text.startswith("outer quant")]
    assert told.startswith("outer quantiles of 80% held 0.0%")


def test_a_short_window_has_no_interval():
    frame = market()
    data = load(frame, sequence_length=9)
    _, policy, results = judge(data, outputs(data), sequence_length=9)
    assert policy.interval is results["interval"] is None
    assert "coverage" not in results["test"]


def test_the_policy_learns_from_validation_alone(known):
    target, data, table, policy, _ = known
    config = SMALL.replace(target=target)
    changed = table.drop(columns="signal")
    changed.loc[changed["part"] == "test", ["actual", "long_return"]] = 1.0
    other, _ = fit_policy(changed, data, config)
    assert other == policy


def test_a_return_below_its_threshold_is_no_trade():
    policy = ReturnPolicy(
        target="return",
        scaler=TargetScaler(center=0.01, scale=2.0, num_rows=9),
        uses_thresholds=True,
        long_threshold=0.02,
    )
    np.testing.assert_allclose(policy.calibrate([[0.0], [0.5]]), [0.01, 1.01])
    signals = policy.signals(np.array([-0.5, 0.0, 0.019, 0.02]))
    assert signals.tolist() == [HOLD, HOLD, HOLD, LONG]
    free = ReturnPolicy(target="return", scaler=policy.scaler)
    assert free.signals(np.array([-0.1, 0.0, 0.1])).tolist() == [SHORT, HOLD, LONG]


# Judging


def test_results_are_strict_json_and_repeat(known):
    target, data, _, _, results = known
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    values = outputs(data, knows=0.3)
    assert judge(data, values, target=target, baseline_model=True)[2] == results
    assert list(results)[:3] == ["verdict", "claims", "warnings"]
    assert results["target"] == target
    assert results["target_scaler"] == data.target_scaler.to_dict()


def test_knowledge_is_found(known):
    _, _, _, _, results = known
    assert results["claims"] == {"skill": True, "direction": True, "edge": True}
    first, second, third, *_ = results["verdict"]
    assert first.startswith("Skill: yes. +0.4") and " vs persistence" in first
    assert second.startswith("In what: direction yes, ") and "p = 0.001" in second
    assert third.startswith("After costs: survives. ")
    assert all(len(line) <= 100 for line in results["verdict"])
    assert results["validation"]["trading"]["in_sample"] is True
    tried = results["thresholds"]["num_tried"]
    assert results["validation"]["trading"]["num_variants_tried"] == tried > 1
    assert results["test"]["trading"]["num_variants_tried"] == 1


def test_scores_by_hand(known):
    target, data, table, _, results = known
    rows = table[table["part"] == "test"]
    test, error = results["test"], rows["actual"] - rows["predicted"]
    assert test["mae"] == pytest.approx(error.abs().mean())
    reference = np.full(len(rows), data.target_scaler.center)
    if target == "price":
        reference = rows["known"] * np.exp(reference)
    expected = 1 - (error**2).mean() / ((rows["actual"] - reference) ** 2).mean()
    assert test["skill_mse_vs_train_mean"] == pytest.approx(expected, rel=1e-6)
    x = log_returns(rows, target)
    y = log_returns(rows, target, "actual")
    assert test["correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert test["slope"] == pytest.approx(np.polyfit(x, y, 1)[0])
    up, rises = (y > 0).mean(), (x > 0).mean()
    chance = up * rises + (1 - up) * (1 - rises)
    assert test["sign_expected"] == pytest.approx(chance)
    hits = (np.sign(x) == np.sign(y)).mean()
    assert test["sign_excess"] == pytest.approx(hits - chance)
    assert test["sign_accuracy"] == pytest.approx(hits)
    for name, found in test["intervals"].items():
        assert found["low"] < found["estimate"] < found["high"], name
        assert found["num_cosines"] in (4, 6, 8, 12)
    bins = test["bins"]
    assert sum(bins["count"]) == len(rows) and len(bins["count"]) == 10
    lowest = np.argsort(x)[: bins["count"][0]]
    assert bins["actual_bps"][0] == pytest.approx(1e4 * y[lowest].mean())
    counted = sum(test["residuals"]["count"]) + test["residuals"]["outside"]
    assert counted == len(rows)
    first = slice(0, -(-len(rows) // 40))
    for key, values in (
        ("mae_bps", np.abs(y - x)),
        ("mae_persistence_bps", np.abs(y)),
        ("bias_bps", y - x),
    ):
        assert test["errors"][key][0] == pytest.approx(1e4 * values[first].mean())
    assert test["residuals"]["mean_bps"] == pytest.approx(1e4 * (y - x).mean())
    still = rows["known"] if target == "price" else 0.0
    naive = ((rows["actual"] - still) ** 2).mean()
    expected = 1 - naive / rows["actual"].var(ddof=0)
    assert test["r2_persistence"] == pytest.approx(expected, rel=1e-6)


def test_baselines_stand_beside_the_model(known):
    _, _, _, _, results = known
    test = results["test"]
    assert list(test["baselines"]) == [
        "persistence",
        "train_mean",
        "trailing_7d",
        "last_known_return",
        "ridge_regression",
        "gradient_boosting",
        "buy_and_hold",
    ]
    persistence = test["baselines"]["persistence"]
    assert persistence["skill_mse_vs_persistence"] == 0
    assert persistence["sign_accuracy"] is None
    assert persistence["trading"]["num_trades"] == 0
    assert persistence["mae"] == test["mae_persistence"]
    errors = {
        name: scores["rmse"]
        for name, scores in test["baselines"].items()
        if "rmse" in scores
    }
    best = test["comparisons"]["best_baseline"]
    assert best["baseline"] == min(errors, key=errors.get)
    assert best["squared_error_difference"]["high"] < 0


@pytest.mark.parametrize(
    ("drift", "trades"), [(0.003, True), (-0.003, True), (0.0002, False)]
)
def test_a_baseline_trades_the_side_of_a_move_beyond_the_costs(drift, trades):
    data = load(market(drift=drift))
    mean = judge(data, outputs(data))[2]["test"]["baselines"]["train_mean"]["trading"]
    assert (mean["num_trades"] > 0) is trades
    if trades:  # the mean of training goes on: its side earns
        assert mean["mean_net_return_bps"] > 50


def test_the_list_of_trades_is_what_the_numbers_and_the_closes_say(known):
    target, data, table, policy, results = known
    config = SMALL.replace(target=target)
    model = Judged(table=table, policy=policy, choice={})
    made = report.tested_trades(model, data, config)
    trades, trading = made["trades"], results["test"]["trading"]
    assert len(trades) == trading["num_trades"] > 20
    assert trades["net_bps"].mean() == pytest.approx(trading["mean_net_return_bps"])
    total = 1 + trading["total_return_pct"] / 100
    assert trades["equity"].iloc[-1] == pytest.approx(total)
    assert set(trades["exit"]) == {"horizon"}
    assert (trades["bars_held"] == HORIZON).all()
    closes = made["prices"].set_index("time")
    entered = closes.loc[pd.to_datetime(trades["time_in"])]
    np.testing.assert_array_equal(trades["entry_price"], entered["close"])
    sides = entered["signal"].map({SHORT: "SHORT", LONG: "LONG"})
    assert list(trades["side"]) == list(sides)
    inside = trades[pd.to_datetime(trades["time_out"]) <= closes.index[-1]]
    left = closes.loc[pd.to_datetime(inside["time_out"]), "close"]
    np.testing.assert_allclose(inside["exit_price"], left)
    silent = Judged(table=table.assign(signal=HOLD), policy=policy, choice={})
    assert report.tested_trades(silent, data, config) == {}


def test_perfect_and_persistent_predictions():
    data = load(market())
    _, _, results = judge(data, outputs(data, knows=1.0))
    assert results["test"]["skill_mse_vs_persistence"] == pytest.approx(1.0)
    assert results["test"]["sign_accuracy"] == 1.0
    assert all(results["claims"].values())
    still = -data.target_scaler.center / data.target_scaler.scale
    same = {
        part: np.full((len(data.parts[part].targets), 1), still)
        for part in ("validation", "test")
    }
    _, _, results = judge(data, same)
    assert results["test"]["skill_mse_vs_persistence"] == pytest.approx(0, abs=1e-6)
    assert results["test"]["correlation"] is None
    assert not any(results["claims"].values())
    assert any("the model names a constant" in note for note in results["warnings"])


def test_naming_the_rising_side_of_a_rising_market_is_no_direction():
    data = load(market(drift=0.003))
    rng = np.random.default_rng(0)
    up = {
        part: 0.2 + 0.01 * rng.random(len(data.parts[part].targets))
        for part in ("validation", "test")
    }
    test = judge(data, up)[2]["test"]
    assert test["sign_accuracy"] > 0.8
    assert test["sign_excess"] == pytest.approx(0, abs=1e-12)
    assert verdict.claims_of(test, Numbers("return"))["direction"] is False
    assert test["sign_p_value"] == 1.0


def test_noise_shows_nothing():
    p_values, directions = [], 0
    for seed in range(20):
        data = load(market(seed=seed, num_rows=2000))
        results = judge(data, outputs(data, seed=100 + seed))[2]
        assert not results["claims"]["skill"] and not results["claims"]["edge"]
        directions += results["claims"]["direction"]
        p_values.append(results["test"]["sign_p_value"])
    # As in benchmarks/noise.py: 98 % of honest studies have no more.
    assert sum(p < 0.05 for p in p_values) <= 3 and directions <= 1
    assert np.mean(p_values) > 0.3


def test_predictions_that_are_too_large_are_called_so():
    data = load(market())
    notes = judge(data, outputs(data, size=2.0))[2]["warnings"]
    assert any(note.startswith("test: the predictions are too large") for note in notes)


def test_what_a_loss_predicts_is_said():
    data = load(market())
    values = outputs(data, knows=0.3)
    notes = judge(data, values, loss="quantile", quantile=0.9)[2]["warnings"]
    assert any("predicts the 0.9 quantile" in note for note in notes)
    notes = judge(data, values, loss="sharpe")[2]["warnings"]
    assert any("loss sharpe trains positions" in note for note in notes)
    notes = judge(data, values)[2]["warnings"]
    # So much knowledge is too good to be true, which another test holds.
    assert all(note.startswith("better than anything honest") for note in notes)


def test_a_file_without_closes_is_judged_without_trades():
    data = load(market()[["timestamp", *CORE8, "target"]])
    table, policy, results = judge(data, outputs(data, knows=0.3))
    assert "known" not in table and not policy.uses_thresholds
    returns = table["predicted"].to_numpy()
    np.testing.assert_array_equal(table["signal"], 1 + np.sign(returns))
    assert results["verdict"][2].startswith("After costs: not judged, the training")
    assert results["claims"] == {"skill": True, "direction": True, "edge": False}
    text = report.format_results(results)
    assert "trades not simulated" in text and "thresholds not searched" in text
    assert set(plot_results(results))


@pytest.mark.parametrize(
    ("path", "value", "lost"),
    [
        (("intervals", "skill_mse_vs_persistence", "low"), 0.0, "skill"),
        (("intervals", "skill_mse_vs_train_mean", "low"), -0.1, "skill"),
        (("intervals", "skill_mse_vs_trailing_7d", "low"), None, "skill"),
        (("intervals", "sign_excess", "low"), 0.0, "direction"),
        (("sign_p_value",), 0.05, "direction"),
        (("sign_p_value",), None, "direction"),
        (("trading", "deflated_sharpe"), 0.95, "edge"),
        (("trading",), {"skipped": "no returns"}, "edge"),
    ],
)
def test_each_claim_has_its_rule(known, path, value, lost):
    results = json.loads(json.dumps(known[4]))
    for name in ("verdict", "claims", "warnings"):
        del results[name]
    place = results["test"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    found = verdict.add_verdict(results, Numbers(known[0]))
    expected = {"skill": True, "direction": True, "edge": True}
    assert found["claims"] == expected | {lost: False}
    assert all(len(line) <= 100 for line in found["verdict"])
    if path[-2:] == ("skill_mse_vs_train_mean", "low"):
        assert found["verdict"][0].startswith("Skill: not beyond the train mean, ")


# Text and pictures


def test_the_text_says_the_numbers(known):
    target, _, _, _, results = known
    text = report.format_results(results)
    lines = text.splitlines()
    assert lines[:5] == results["verdict"]
    assert max(map(len, lines)) <= 100
    test = results["test"]
    assert f"signs right {test['sign_accuracy']:.1%}" in text
    assert wording.interval(test["intervals"]["skill_mse_vs_train_mean"]) in text
    assert f"{test['trading']['win_rate_pct']:.1f}% of them won" in text
    assert "take profit" not in text
    unit = f"{test['mape_pct']:.3f}% of the price" if target == "price" else " bps "
    assert unit in text
    limit = 1e4 * results["thresholds"]["long_threshold"]
    assert f"LONG +{limit:.2f} bps" in text


@pytest.mark.usefixtures("rendered_pictures")
def test_every_plot_is_a_figure_of_the_results(known, tmp_path):
    results = known[4]
    figures = plot_results(json.loads(json.dumps(results)))
    assert set(figures) == {
        "thresholds",
        "target_over_time",
        *(
            f"{name}_{part}"
            for part in ("validation", "test")
            for name in (
                "predicted_actual",
                "errors",
                "residuals",
                "baselines",
                "equity",
            )
        ),
    }
    for name, figure in figures.items():
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
    drawn = figures["predicted_actual_test"].axes[0].lines[-1]
    assert list(drawn.get_ydata()) == results["test"]["bins"]["actual_bps"]


# The whole run


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "cross_entropy"}, "loss: expected one for target 'return'"),
        ({"loss": "sharpe", "target": "price"}, "expected one for target 'price'"),
        ({"loss": "huber", "target": "signal"}, "expected one for target 'signal'"),
        ({"monitor": "val_accuracy"}, "monitor: expected 'val_loss'"),
        ({"class_balancing_method": "class_weights"}, "expected 'none' with a loss"),
        ({"position_sizing": "kelly"}, "Kelly sizes need probabilities"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(fields, message):
    with pytest.raises(ConfigError, match=message):
        Config(**{"target": "return"} | fields)


@pytest.fixture(scope="module", params=TARGETS)
def finished(request, tmp_path_factory):
    target = request.param
    frame = market(target, num_rows=1200)
    # What the LSTM can learn: the target of a row stands in its own features.
    frame["high_change"] = 100 * np.log(frame["close"].shift(-HORIZON) / frame["close"])
    frame = frame.iloc[:-HORIZON].reset_index(drop=True)
    settings = TINY | {"target": target, "timeframe": "1h", "epochs": 3}
    settings |= {"outputs_dir": str(tmp_path_factory.mktemp(target))}
    config = Config(
        **settings, dropout_rate=0.0, learning_rate=0.01, n_splits=2, test_split=0.25
    )
    run = StandaloneTrainer(config, frame=frame)
    run.run_training()
    return frame, run


def test_a_run_leaves_the_same_folder(finished):
    _, run = finished
    target, folder = run.config.target, run.artifact_dir
    names = {path.name for path in folder.iterdir()}
    tag = f"TESTUSDT_FW005_TARGET-{target}"
    assert names >= {
        "MANIFEST.json",
        f"calibrator_{tag}.json",
        "config.yaml",
        "confusion_matrix_report.json",
        f"history_{tag}.csv",
        f"metadata_{tag}.json",
        f"model_{tag}.keras",
        f"oof_predictions_{tag}.parquet",
        f"predictions_{tag}.parquet",
        "report.html",
        f"scaler_{tag}.json",
        f"trades_{tag}.csv",
    }
    plotted = {path.stem for path in (folder / "plots").iterdir()}
    assert plotted >= {"predicted_actual_test", "target_over_time", "folds_skill"}
    assert "label_mix" not in plotted
    results = json.loads((folder / "confusion_matrix_report.json").read_text())
    # The target stands in a feature: skill is there, and nothing is claimed of it.
    assert results["test"]["intervals"]["skill_mse_vs_persistence"]["low"] > 0
    assert results["test"]["correlation"] > 0.5
    assert results["verdict"][0].startswith("Leak: nothing is claimed, ")
    assert not any(results["claims"].values())
    folds = results["cross_validation"]["metrics"]
    assert folds["skill_mse_vs_persistence"]["mean"] > 0
    metadata = load_artifact(folder).metadata
    assert metadata["data"]["target"] == target
    assert metadata["data"]["target_scaler"] == results["target_scaler"]
    assert metadata["results"]["test"]["mae"] == results["test"]["mae"]
    assert metadata["model"]["outputs"].startswith("log return over the horizon")


def test_the_artifact_repeats_the_predictions(finished):
    frame, run = finished
    target = run.config.target
    table = pd.read_parquet(next(run.artifact_dir.glob("predictions_*.parquet")))
    raw = frame[list(CORE8)].to_numpy(np.float32)
    windows = cut_windows(raw, table["row"].to_numpy(), window_bars=8)
    opened = predictor.Predictor(run.artifact_dir)
    returns = opened.predict_windows(windows)
    expected = log_returns(table, target)
    np.testing.assert_allclose(returns, expected, atol=1e-6)
    assert opened.predict_window(windows[3]) == pytest.approx(expected[3], abs=1e-6)
    signals = opened.signals(expected)
    np.testing.assert_array_equal(signals, table["signal"])
    if target == "price":
        close = frame["close"].to_numpy()[table["row"]]
        np.testing.assert_allclose(table["predicted"], close * np.exp(expected))
        ahead = frame["close"].to_numpy()[table["row"][:-HORIZON] + HORIZON]
        np.testing.assert_allclose(table["actual"][:-HORIZON], ahead)
