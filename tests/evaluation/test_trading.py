import dataclasses
import json
import math

import numpy as np
import pytest

from config import HOLD, LONG, SHORT
from evaluation import backtest, trading
from evaluation.trading import TradeOutcomes, TradeRules
from metrics.position_sizes import kelly_sizes, volatility_target_sizes

RULES = TradeRules(bar_seconds=60, fee_bps=10.0, slippage_bps=5.0)
FREE = dataclasses.replace(RULES, fee_bps=0.0, slippage_bps=0.0)


def make_outcomes(num_rows=12, *, bars=2, start="2024-01-01T00:00", **columns):
    """Minute bars; a long wins 1 % and a short loses 0.5 %, each after `bars`."""
    rows = np.arange(num_rows)
    default = {
        "timestamps": np.datetime64(start, "ns") + rows * np.timedelta64(60, "s"),
        "close": np.full(num_rows, 100.0),
        "long_return": np.full(num_rows, 0.01),
        "short_return": np.full(num_rows, -0.005),
        "long_exit_bars": np.full(num_rows, bars),
        "short_exit_bars": np.full(num_rows, bars),
        "long_exit": np.full(num_rows, 1),
        "short_exit": np.full(num_rows, 2),
    }
    return TradeOutcomes(**(default | columns))


def random_market(num_rows=5000, seed=0, bars=30):
    """Outcomes without an edge, random signals, five days and a half of minutes."""
    rng = np.random.default_rng(seed)
    moves = rng.choice([0.01, -0.005, 0.002], (2, num_rows), p=[0.3, 0.5, 0.2])
    codes = np.select([moves == 0.01, moves == -0.005], [1, 2], 0)
    outcomes = make_outcomes(
        num_rows,
        close=100 * np.exp(np.cumsum(rng.normal(0, 1e-3, num_rows))),
        long_return=moves[0],
        short_return=moves[1],
        long_exit_bars=rng.integers(1, bars + 1, num_rows),
        short_exit_bars=rng.integers(1, bars + 1, num_rows),
        long_exit=codes[0],
        short_exit=codes[1],
    )
    return outcomes, rng.integers(-1, 3, num_rows)


# Simulation


def test_trades_by_hand():
    signals = np.array([1, 2, 2, 0, 1, 0, 1, 1, 1, 1, 1, 2])
    trades = trading.simulate_trades(signals, make_outcomes(), rules=RULES)
    # The signal at 2 comes during the first trade; the one at 3 as it ends.
    assert trades["row"].tolist() == [1, 3, 5, 11]
    assert trades["side"].tolist() == [1, -1, -1, 1]
    assert trades["exit_code"].tolist() == [1, 2, 2, 1]
    assert trades["gross_return"].tolist() == [0.01, -0.005, -0.005, 0.01]
    np.testing.assert_allclose(trades["net_return"], [0.007, -0.008, -0.008, 0.007])
    np.testing.assert_allclose(
        trades["equity"], np.cumprod([1.007, 0.992, 0.992, 1.007]), rtol=1e-14
    )
    # Entry at the close of bar 1, exit by the close of bar 3.
    assert trades["entry_time"][0] == np.datetime64("2024-01-01T00:02:00")
    assert trades["exit_time"][0] == np.datetime64("2024-01-01T00:04:00")


@pytest.mark.parametrize("bars", [1, 5, 60])
def test_trades_never_overlap_and_equal_a_loop(bars):
    outcomes, signals = random_market(bars=bars)
    # Rows that skip bars: time decides, not the position.
    kept = np.flatnonzero(np.random.default_rng(1).random(len(signals)) < 0.6)
    outcomes = TradeOutcomes(
        **{
            field.name: getattr(outcomes, field.name)[kept]
            for field in dataclasses.fields(outcomes)
        }
    )
    signals = signals[kept]
    trades = trading.simulate_trades(signals, outcomes, rules=RULES)
    expected, free_at = [], -1
    for k, bar in enumerate(kept):
        if signals[k] in (SHORT, LONG) and bar >= free_at:
            side = "long" if signals[k] == LONG else "short"
            free_at = bar + getattr(outcomes, f"{side}_exit_bars")[k]
            expected.append(k)
    assert trades["row"].tolist() == expected
    assert (trades["entry_time"][1:] >= trades["exit_time"][:-1]).all()


def test_sizes_scale_what_equity_feels():
    sizes = np.zeros(12)
    sizes[[3, 6]] = [0.5, 2.0]
    signals = np.full(12, LONG)
    trades = trading.simulate_trades(signals, make_outcomes(), rules=FREE, sizes=sizes)
    assert trades["row"].tolist() == [3, 6]
    np.testing.assert_allclose(trades["equity"], [1.005, 1.005 * 1.02])


def test_ruin_is_zero_not_less():
    outcomes = make_outcomes(short_return=np.full(12, -0.6))
    trades = trading.simulate_trades(
        np.full(12, SHORT), outcomes, rules=FREE, sizes=np.full(12, 2.0)
    )
    metrics = trading.trading_metrics(trades, outcomes, rules=FREE)
    assert trades["equity"].tolist() == [0.0] * 6
    assert metrics["total_return_pct"] == -100.0
    assert metrics["max_drawdown_pct"] == 100.0
    assert metrics["annualised_return_pct"] == -100.0


@pytest.mark.parametrize(
    ("signals", "sizes", "message"),
    [
        (np.full(3, LONG), None, "one entry for each outcome"),
        (np.full(12, LONG), np.ones(3), "one entry for each outcome"),
        (np.full(12, LONG), np.full(12, -1.0), "not negative"),
        (np.full(12, LONG), np.full(12, np.nan), "finite"),
    ],
)
def test_simulation_refuses(signals, sizes, message):
    with pytest.raises(ValueError, match=message):
        trading.simulate_trades(signals, make_outcomes(), rules=RULES, sizes=sizes)


def test_a_signal_needs_an_outcome():
    bars, returns = np.full(12, 2), np.full(12, 0.01)
    bars[7], returns[7] = -1, np.nan
    outcomes = make_outcomes(long_exit_bars=bars, long_return=returns)
    signals = np.full(12, HOLD)
    trading.simulate_trades(signals, outcomes, rules=RULES)
    signals[7] = LONG
    with pytest.raises(ValueError, match="Received: row 7"):
        trading.simulate_trades(signals, outcomes, rules=RULES)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"close": np.ones(3)}, "one length"),
        ({"timestamps": np.arange(12)}, "datetime64"),
        ({"timestamps": np.full(12, np.datetime64("2024-01-01"))}, "increasing"),
    ],
)
def test_outcomes_check_themselves(columns, message):
    with pytest.raises(ValueError, match=message):
        make_outcomes(**columns)


# Metrics


def test_metrics_by_hand():
    signals = np.array([1, 2, 2, 0, 1, 0, 1, 1, 1, 1, 1, 2])
    outcomes = make_outcomes()
    trades = trading.simulate_trades(signals, outcomes, rules=RULES)
    scores = trading.trading_metrics(trades, outcomes, rules=RULES)
    assert scores["num_trades"] == 4
    assert (scores["num_long"], scores["num_short"]) == (2, 2)
    assert scores["exits"] == {"timeout": 0, "tp": 2, "sl": 2}
    assert scores["win_rate_pct"] == 50.0
    assert scores["trade_precision_pct"] == 50.0
    # (0.5 + 0.3) / (1 + 0.5), the example of an honest break-even.
    assert scores["break_even_precision_pct"] == pytest.approx(100 * 0.8 / 1.5)
    assert scores["profit_factor"] == pytest.approx(0.014 / 0.016)
    assert scores["mean_gross_return_bps"] == pytest.approx(25.0)
    assert scores["mean_net_return_bps"] == pytest.approx(-5.0)
    assert scores["break_even_cost_bps"] == pytest.approx(12.5)
    assert scores["cost_bps"] == 15.0
    # Bars 0..11 and the two that the last trade needs.
    assert scores["num_days"] == pytest.approx(14 / 1440)
    assert scores["exposure_pct"] == pytest.approx(100 * 8 / 14)
    assert scores["turnover_per_day"] == pytest.approx(8 / (14 / 1440))
    assert scores["mean_holding_bars"] == 2.0
    total = 1.007 * 0.992 * 0.992 * 1.007
    assert scores["total_return_pct"] == pytest.approx(100 * (total - 1))
    assert scores["max_drawdown_pct"] == pytest.approx(100 * (1 - 0.992**2))


def test_costs_at_break_even_leave_nothing():
    outcomes, signals = random_market(seed=3)
    sizes = np.random.default_rng(2).random(len(signals))
    trades = trading.simulate_trades(signals, outcomes, rules=FREE, sizes=sizes)
    cost = trading.trading_metrics(trades, outcomes, rules=FREE)["break_even_cost_bps"]
    rules = dataclasses.replace(FREE, fee_bps=cost)
    trades = trading.simulate_trades(signals, outcomes, rules=rules, sizes=sizes)
    assert (trades["size"] * trades["net_return"]).sum() == pytest.approx(0, abs=1e-12)


def test_break_even_precision_leaves_nothing():
    rules = dataclasses.replace(RULES, long_tp_pct=1.2, long_sl_pct=0.4)
    cost = 100 * rules.round_trip_cost
    outcomes = make_outcomes()
    trades = trading.simulate_trades(np.full(12, LONG), outcomes, rules=rules)
    scores = trading.trading_metrics(trades, outcomes, rules=rules)
    precision = scores["break_even_precision_pct"] / 100
    net = precision * (1.2 - cost) - (1 - precision) * (0.4 + cost)
    assert net == pytest.approx(0.0, abs=1e-12)


def test_everything_re_adds():
    outcomes, signals = random_market()
    trades = trading.simulate_trades(signals, outcomes, rules=RULES)
    scores = trading.trading_metrics(trades, outcomes, rules=RULES)
    days = trading.daily_returns(trades, outcomes, rules=RULES)
    growth = np.prod(1 + trades["size"] * trades["net_return"])
    assert scores["total_return_pct"] == pytest.approx(100 * (growth - 1), abs=1e-9)
    assert trading.equity_curve(trades)[-1] == pytest.approx(growth, abs=1e-12)
    assert days.sum() == pytest.approx(trades["net_return"].sum(), abs=1e-12)
    assert len(days) == math.ceil(5000 / 1440)
    assert scores["num_trades"] == sum(scores["exits"].values())
    assert scores["num_trades"] == scores["num_long"] + scores["num_short"]
    assert 0 < scores["exposure_pct"] <= 100
    assert 0 <= scores["max_drawdown_pct"] <= 100
    json.dumps(scores, allow_nan=False)


def test_days_without_a_trade_count():
    outcomes = make_outcomes(4 * 1440, bars=1)
    signals = np.full(4 * 1440, HOLD)
    # The first trade's exit bar closes at midnight: it belongs to the first day.
    signals[[1438, 1439, 3 * 1440]] = LONG
    trades = trading.simulate_trades(signals, outcomes, rules=FREE)
    days = trading.daily_returns(trades, outcomes, rules=FREE)
    np.testing.assert_allclose(days, [0.01, 0.01, 0.0, 0.01])


def test_no_trade_is_a_result():
    outcomes = make_outcomes(3000)
    trades = trading.simulate_trades(np.full(3000, HOLD), outcomes, rules=RULES)
    scores = trading.trading_metrics(trades, outcomes, rules=RULES)
    assert scores["num_trades"] == 0
    assert scores["total_return_pct"] == 0.0
    assert scores["max_drawdown_pct"] == 0.0
    for name in ("sharpe", "sortino", "calmar", "win_rate_pct", "profit_factor"):
        assert scores[name] is None
    for name in ("mean_net_return_bps", "break_even_cost_bps", "trade_precision_pct"):
        assert scores[name] is None
    json.dumps(scores, allow_nan=False)


def test_drawdown_includes_the_start():
    scores = trading.equity_metrics([0.9, 0.8, 1.2], num_days=365)
    assert scores["max_drawdown_pct"] == pytest.approx(20.0)
    assert scores["annualised_return_pct"] == pytest.approx(20.0)
    assert scores["calmar"] == pytest.approx(1.0)


def test_annualising_a_moment_is_none_not_infinite():
    scores = trading.equity_metrics([1.0, 2.0], num_days=0.01)
    assert scores["annualised_return_pct"] is None
    assert scores["calmar"] is None


def test_daily_metrics_by_hand():
    days = np.array([0.02, -0.01, 0.0, 0.03])
    scores = trading.daily_metrics(days)
    assert scores["sharpe"] == pytest.approx(0.01 / days.std(ddof=1) * math.sqrt(365))
    downside = math.sqrt(0.0001 / 4)
    assert scores["sortino"] == pytest.approx(0.01 / downside * math.sqrt(365))
    assert scores["value_at_risk_95_pct"] == pytest.approx(1.0)
    assert scores["cvar_95_pct"] == pytest.approx(1.0)


@pytest.mark.parametrize("num_days", [1, 2, 19, 20, 21, 40, 100, 365])
def test_daily_metrics_agree_with_skfolio(num_days):
    other = pytest.importorskip(
        "skfolio.measures", reason="skfolio is in requirements-dev.txt"
    )
    days = np.random.default_rng(num_days).normal(0.001, 0.02, num_days)
    scores = trading.daily_metrics(days)
    root = math.sqrt(365)
    assert scores["value_at_risk_95_pct"] == pytest.approx(
        100 * other.value_at_risk(days, beta=0.95), abs=1e-9
    )
    assert scores["cvar_95_pct"] == pytest.approx(
        100 * other.cvar(days, beta=0.95), abs=1e-9
    )
    if num_days == 1:
        assert scores["sharpe"] is None
        return
    mean = other.mean(days)
    sharpe = root * mean / other.standard_deviation(days)
    downside = other.semi_deviation(days, min_acceptable_return=0.0, biased=True)
    assert scores["sharpe"] == pytest.approx(sharpe, abs=1e-9)
    if downside > 0:
        assert scores["sortino"] == pytest.approx(root * mean / downside, abs=1e-9)


def test_drawdown_and_return_agree_with_skfolio():
    other = pytest.importorskip(
        "skfolio.measures", reason="skfolio is in requirements-dev.txt"
    )
    outcomes, signals = random_market(seed=5)
    trades = trading.simulate_trades(signals, outcomes, rules=RULES)
    scores = trading.trading_metrics(trades, outcomes, rules=RULES)
    net = trades["net_return"]
    worst = other.max_drawdown(other.get_drawdowns(net, compounded=True))
    assert scores["max_drawdown_pct"] == pytest.approx(100 * worst, abs=1e-9)
    final = other.get_cumulative_returns(net, compounded=True)[-1]
    assert scores["total_return_pct"] == pytest.approx(100 * (final - 1), abs=1e-9)


def test_buy_and_hold_by_hand():
    close = np.repeat([100.0, 110.0, 99.0], 1440)
    outcomes = make_outcomes(len(close), close=close)
    scores = trading.buy_and_hold_metrics(outcomes, rules=FREE)
    assert scores["total_return_pct"] == pytest.approx(-1.0)
    assert scores["max_drawdown_pct"] == pytest.approx(10.0)
    days = trading.daily_metrics([0.0, 0.1, -0.1])
    assert scores["sharpe"] == pytest.approx(days["sharpe"])
    costly = trading.buy_and_hold_metrics(outcomes, rules=RULES)
    expected = 0.99 * (1 - 0.0015) ** 2 - 1
    assert costly["total_return_pct"] == pytest.approx(100 * expected)


# Sizes


def test_kelly_maximises_growth():
    probability, gain, loss = 0.45, 0.009, 0.006
    size = kelly_sizes(
        [probability], tp_pct=1.0, sl_pct=0.5, cost_pct=0.1, fraction=1.0, cap=100.0
    )[0]
    sizes = np.linspace(0, 30, 30_001)
    growth = probability * np.log1p(gain * sizes)
    growth += (1 - probability) * np.log1p(-loss * sizes)
    assert size == pytest.approx(sizes[growth.argmax()], abs=1e-3)


def test_kelly_has_a_floor_and_a_cap():
    sizes = kelly_sizes([0.1, 0.4, 0.41, 0.9], tp_pct=1.0, sl_pct=0.5,
                                cost_pct=0.1)  # fmt: skip
    # The break-even precision is 0.4.
    assert sizes[0] == 0.0
    assert sizes[1] == pytest.approx(0.0, abs=1e-12)
    assert sizes[2] == pytest.approx(0.25 * (0.41 / 0.006 - 0.59 / 0.009))
    assert sizes[3] == 1.0
    assert kelly_sizes([0.9], tp_pct=0.3, sl_pct=0.5, cost_pct=0.3)[0] == 0.0
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        kelly_sizes([1.1], tp_pct=1.0, sl_pct=0.5)


def test_volatility_target():
    sizes = volatility_target_sizes([0.0, 10.0, 40.0, 80.0], target_pct=20.0)
    np.testing.assert_allclose(sizes, [1.0, 1.0, 0.5, 0.25])
    with pytest.raises(ValueError, match="finite"):
        volatility_target_sizes([np.nan], target_pct=20.0)


def test_funding_follows_the_time_held():
    outcomes = make_outcomes(8, long_exit_bars=np.array([3, 1, 1, 1, 1, 1, 1, 1]))
    signals = np.array([2, 2, 2, 2, 1, 1, 1, 1])
    rules = dataclasses.replace(FREE, funding_bps_per_day=1440.0)  # a bp a minute
    trades = trading.simulate_trades(signals, outcomes, rules=rules)
    np.testing.assert_allclose(trades["net_return"], [0.0097, 0.0099])
    found = trading.trading_metrics(trades, outcomes, rules=rules)
    assert found["mean_funding_bps"] == pytest.approx(2.0)
    assert found["mean_gross_return_bps"] == pytest.approx(100.0)
    # 98 bp are left for two sides.
    assert found["break_even_cost_bps"] == pytest.approx(49.0)
    # A stop of 0.5 % and costs of 0.02 % against 1.5 % between the barriers.
    assert found["break_even_precision_pct"] == pytest.approx(100 * 0.52 / 1.5)


# Over time


def hours(num_rows, start, **columns):
    stamps = np.datetime64(start, "ns") + np.arange(num_rows) * np.timedelta64(1, "h")
    return make_outcomes(num_rows, timestamps=stamps, **columns)


BY_HOUR = TradeRules(bar_seconds=3600, fee_bps=0.0, slippage_bps=0.0)


def test_months_by_hand():
    close = np.concatenate([np.full(24, 100.0), np.full(24, 110.0)])
    outcomes = hours(48, "2024-01-31", close=close)
    signals = np.full(48, HOLD)
    # The first leaves at midnight: still January. The second leaves a row later.
    signals[[21, 22, 30]] = LONG, LONG, SHORT
    trades = trading.simulate_trades(signals, outcomes, rules=BY_HOUR)
    january, february = backtest.months(trades, outcomes, BY_HOUR)
    assert january == {
        "month": "2024-01",
        "return_pct": pytest.approx(1.0),
        "buy_and_hold_pct": 0.0,
        "num_trades": 1,
    }
    assert february["return_pct"] == pytest.approx(-0.5)
    assert february["buy_and_hold_pct"] == pytest.approx(10.0)


def test_months_and_drawdowns_equal_a_loop():
    moves = np.random.default_rng(3).normal(0, 0.01, 3000)
    outcomes = hours(3000, "2023-11-20", long_return=moves, short_return=-moves)
    signals = np.random.default_rng(4).integers(0, 3, 3000)
    trades = trading.simulate_trades(signals, outcomes, rules=BY_HOUR)
    equity, peak, since, growth = 1.0, 1.0, outcomes.timestamps[0], {}
    spells, deepest = [], {}
    for trade in trades:
        equity *= 1 + trade["net_return"]
        month = str(trade["exit_time"] - np.timedelta64(1, "s"))[:7]
        growth[month] = growth.get(month, 1.0) * (1 + trade["net_return"])
        if equity >= peak:
            spells.append((trade["exit_time"] - since, since))
            peak, since = equity, trade["exit_time"]
        else:
            deepest[since] = max(deepest.get(since, 0), 1 - equity / peak)
    end = outcomes.timestamps[-1] + np.timedelta64(1, "h")
    spells.append((max(end, trades["exit_time"][-1]) - since, since))
    under = {since: spell for spell, since in spells if since in deepest}
    found = backtest.months(trades, outcomes, BY_HOUR)
    assert {item["month"]: item["return_pct"] for item in found} == pytest.approx(
        {month: 100 * (value - 1) for month, value in growth.items()}
    )
    assert sum(item["num_trades"] for item in found) == len(trades)
    day = np.timedelta64(1, "D")
    assert backtest.drawdown_days(trades, outcomes, BY_HOUR) == pytest.approx(
        {
            "max_drawdown_days": under[max(deepest, key=deepest.get)] / day,
            "longest_drawdown_days": max(under.values()) / day,
        }
    )


def test_without_a_trade_no_month_earns_and_nothing_is_drawn_down():
    outcomes = hours(30 * 24, "2024-01-15")
    trades = trading.simulate_trades(np.full(720, HOLD), outcomes, rules=BY_HOUR)
    found = backtest.months(trades, outcomes, BY_HOUR)
    assert [(item["month"], item["return_pct"]) for item in found] == [
        ("2024-01", 0.0),
        ("2024-02", 0.0),
    ]
    assert set(backtest.drawdown_days(trades, outcomes, BY_HOUR).values()) == {0.0}
