import json

import numpy as np
import pytest

from evaluation import thresholds
from evaluation.calibration import CALIBRATORS, create_calibrator
from evaluation.policies import SignalPolicy
from evaluation.thresholds import search_thresholds, threshold_signals
from evaluation.trading import TradeOutcomes, TradeRules
from utils import DataError

SHORT, HOLD, LONG = range(3)


def outcomes(long_return, short_return):
    """One-bar trades, one a row, on gapless minutes."""
    count = len(long_return)
    start = np.datetime64("2024-01-01", "ns")
    ones = np.ones(count, dtype=np.int32)
    return TradeOutcomes(
        timestamps=start + np.arange(count) * np.timedelta64(60, "s"),
        close=np.full(count, 100.0),
        long_return=np.asarray(long_return, dtype=float),
        short_return=np.asarray(short_return, dtype=float),
        long_exit_bars=ones,
        short_exit_bars=ones,
        long_exit=ones.astype(np.int8),
        short_exit=ones.astype(np.int8),
    )


def probabilities(p_long, p_short=None):
    p_long = np.asarray(p_long, dtype=float)
    p_short = np.zeros(len(p_long)) if p_short is None else np.asarray(p_short)
    return np.stack([p_short, 1 - p_short - p_long, p_long], axis=1)


def test_signals_at_thresholds():
    table = probabilities([0.1, 0.4, 0.5, 0.3, 0.4], [0.5, 0.1, 0.4, 0.3, 0.4])
    signals = threshold_signals(table, short=0.4, long=0.4)
    assert signals.tolist() == [SHORT, LONG, LONG, HOLD, HOLD]
    assert threshold_signals(table, short=None, long=0.4).tolist() == [1, 2, 2, 1, 2]
    assert threshold_signals(table, short=None, long=None).tolist() == [1] * 5


def test_search_finds_the_rows_that_pay():
    # The 100 most confident of 1000 rows gain 1 %, the others lose 1 %.
    p_long = np.arange(1000) / 2000
    gains = np.where(np.arange(1000) >= 900, 0.01, -0.01)
    result = search_thresholds(
        probabilities(p_long),
        outcomes(gains, np.full(1000, -0.01)),
        rules=TradeRules(bar_seconds=60, fee_bps=0, slippage_bps=0),
        min_trades=30,
    )
    assert result["long_threshold"] == 0.45
    assert result["short_threshold"] is None
    assert result["best_objective"] == pytest.approx(100 * (1.01**100 - 1))
    assert result["is_flat"] is False
    # Ten candidates and never for LONG; SHORT is always 0: one candidate and never.
    assert result["num_tried"] == len(result["tried"]) == 2 * 11 - 1
    assert "best of 21 pairs tried" in result["statement"]


def test_costs_beyond_the_gain_mean_no_trade():
    p_long = np.arange(1000) / 2000
    gains = np.where(np.arange(1000) >= 900, 0.01, -0.01)
    result = search_thresholds(
        probabilities(p_long),
        outcomes(gains, np.full(1000, -0.01)),
        rules=TradeRules(bar_seconds=60, fee_bps=60, slippage_bps=0),
    )
    assert result["long_threshold"] is result["short_threshold"] is None
    assert result["best_objective"] < 0
    assert result["statement"] == (
        "no trade: no pair of thresholds was profitable (21 tried)"
    )
    # The same as a penalty, which is charged in the search only.
    penalised = search_thresholds(
        probabilities(p_long),
        outcomes(gains, np.full(1000, -0.01)),
        rules=TradeRules(bar_seconds=60, fee_bps=0, slippage_bps=0),
        turnover_penalty_bps=60,
    )
    assert penalised["long_threshold"] is None
    assert penalised["best_objective"] == pytest.approx(result["best_objective"])


def test_too_few_trades_are_said():
    result = search_thresholds(
        probabilities(np.arange(20) / 40),
        outcomes(np.full(20, 0.01), np.full(20, -0.01)),
        rules=TradeRules(bar_seconds=60),
        min_trades=30,
    )
    assert result["num_eligible"] == 0
    assert result["statement"].startswith("no trade: no pair of thresholds gave 30")


def test_flat_optimum_is_said():
    rng = np.random.default_rng(3)
    p_long = rng.random(4000) / 2
    gains = 0.0001 + 0.01 * rng.standard_normal(4000)
    result = search_thresholds(
        probabilities(p_long),
        outcomes(gains, -gains),
        rules=TradeRules(bar_seconds=60, fee_bps=0, slippage_bps=0),
        objective="mean_net_return",
        min_trades=300,
    )
    assert result["is_flat"] is True
    assert "flat:" in result["statement"]
    assert result["num_near_best"] >= result["num_eligible"] / 2


@pytest.mark.parametrize("objective", thresholds.OBJECTIVES)
def test_objectives_choose_by_their_own_number(objective):
    rng = np.random.default_rng(0)
    p_long = rng.random(3000) / 2
    gains = 0.02 * (p_long - 0.2) + 0.002 * rng.standard_normal(3000)
    result = search_thresholds(
        probabilities(p_long),
        outcomes(gains, -gains),
        rules=TradeRules(bar_seconds=60, fee_bps=0, slippage_bps=0),
        objective=objective,
    )
    best = max(
        pair["objective"]
        for pair in result["tried"]
        if pair["num_trades"] >= 30 and pair["objective"] is not None
    )
    assert result["best_objective"] == best > 0
    assert result["long_threshold"] is not None


def test_unknown_objective():
    with pytest.raises(ValueError, match="objective.*net_return.*Received: 'profit'"):
        search_thresholds(
            probabilities([0.1]),
            outcomes([0.1], [0.1]),
            rules=TradeRules(bar_seconds=60),
            objective="profit",
        )


def test_sizes_of_a_side():
    signals = np.array([SHORT, HOLD, LONG])
    sizes = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    assert thresholds.side_sizes(signals, sizes).tolist() == [0.1, 0.3, 0.6]
    assert thresholds.side_sizes(signals, None) is None


@pytest.mark.parametrize("method", [None, *CALIBRATORS])
def test_policy_survives_json(method):
    rng = np.random.default_rng(1)
    raw = rng.dirichlet([1, 2, 1], size=500)
    labels = rng.integers(0, 3, 500)
    fitted = create_calibrator(method).fit(raw, labels) if method else None
    policy = SignalPolicy(calibrator=fitted, uses_thresholds=True, short_threshold=0.3)
    text = json.dumps(policy.to_dict(), allow_nan=False)
    again = SignalPolicy.from_dict(json.loads(text))
    calibrated = again.calibrate(raw)
    assert np.array_equal(calibrated, policy.calibrate(raw))
    assert np.array_equal(again.signals(calibrated), policy.signals(calibrated))
    assert set(again.signals(calibrated)) <= {SHORT, HOLD}


def test_policy_without_thresholds_names_the_most_probable_class():
    raw = np.array([[0.2, 0.5, 0.3], [0.5, 0.2, 0.3]])
    assert SignalPolicy().signals(raw).tolist() == [HOLD, SHORT]


@pytest.mark.parametrize(
    "change",
    [{"short_threshold": "0.5"}, {"uses_thresholds": 1}, {"extra": 0}],
)
def test_broken_policies_are_refused(change):
    with pytest.raises(DataError, match="expected a signal policy"):
        SignalPolicy.from_dict(SignalPolicy().to_dict() | change)


def test_the_standard_error_of_a_sharpe_ratio_is_that_of_its_days():
    rng = np.random.default_rng(0)
    gains = 1e-4 + 1e-3 * rng.standard_normal(20 * 1440)
    result = search_thresholds(
        probabilities(rng.random(len(gains)) / 2),
        outcomes(gains, -gains),
        rules=TradeRules(bar_seconds=60, fee_bps=0, slippage_bps=0),
        objective="sharpe",
    )
    # Lo (2002): a year's variance of 1 + S^2 / 2 of a day, over 20 days.
    for pair in result["tried"]:
        expected = np.sqrt((365 + pair["objective"] ** 2 / 2) / 20)
        assert pair["objective_standard_error"] == pytest.approx(expected, rel=0.03)
