"""What an account came to beside positions that need no agent, and what is claimed."""

import numpy as np
import pytest

from positions import claims, judging
from rl import accounts
from rl.simulator import Market


def stretch_of(returns, cost=0.0005):
    """Bars of an hour; a return of NaN is the last of its segment."""
    count = len(returns)
    where = Market(
        features=np.zeros((count, 1), np.float32), returns=returns, scale=0.01
    )
    pieces = accounts.stretches(where, slice(0, count))
    rows = np.concatenate([np.arange(*piece) for piece in pieces])
    close = 100.0 * np.exp(np.concatenate([[0.0], np.cumsum(np.nan_to_num(returns))]))
    hours = np.datetime64("2024-01-01T00:00") + np.arange(count) * np.timedelta64(
        1, "h"
    )
    return judging.Stretch(
        market=where,
        pieces=pieces,
        times=hours[rows],
        close=close[[*rows, rows[-1] + 1]],
        cost=cost,
        bar_seconds=3600.0,
    )


def judged(position, returns, cost=0.0005, **options):
    stretch = stretch_of(returns, cost)
    held = stretch.account(np.asarray(position, float))
    return judging.judge(held, stretch, **{"num_trials": 3} | options)


def results_of(test):
    found = {
        "trials": {
            **dict.fromkeys(("num_earlier", "num_planned", "num_unreadable"), 0),
            "num_trials": 1,
        },
        "test": test,
    }
    claims.add_verdict(found)
    return found


def wandering(days, seed=5):
    return np.random.default_rng(seed).normal(0.0, 0.004, 24 * days)


def test_an_account_is_held_against_constant_positions():
    returns = wandering(40)
    found = judged(np.sign(returns), returns)
    changes = np.abs(np.diff(np.sign(returns), prepend=0.0, append=0.0)).sum()
    expected = np.abs(returns).sum() - 0.0005 * changes
    assert found["net_bps"] == pytest.approx(1e4 * expected / len(returns))
    assert found["turnover"] == pytest.approx(changes / len(returns))
    equity = np.expm1(expected) * 100
    assert found["total_return_pct"] == pytest.approx(equity)
    baselines = {name: each["net_bps"] for name, each in found["baselines"].items()}
    assert baselines["flat"] == 0.0
    both = baselines["always_long"] + baselines["always_short"]
    assert both == pytest.approx(-1e4 * 4 * 0.0005 / len(returns))
    best = found["comparisons"]["best_baseline"]
    assert best["baseline"] == max(baselines, key=baselines.get)
    against = best["net_difference"]
    assert against["low"] > 0 and against["p_value"] < 0.01
    assert found["intervals"]["net_bps"]["low"] > 0
    assert found["exposure_pct"] == 100.0
    told = results_of(found)
    assert told["claims"] == {"edge": True}
    assert told["verdict"][1].startswith("Against: better than ")
    assert told["verdict"][2].startswith("After costs: survives. P(Sharpe > 0) 1.00")


def test_a_plain_loop_earns_the_same_to_the_last_digit():
    """The judge's log equity, position by position, trade by trade."""
    returns = wandering(20, seed=8)
    returns[[100, 479]] = np.nan
    generator = np.random.default_rng(1)
    position = np.where(generator.random(478) < 0.4, 0.0, generator.uniform(-1, 1, 478))
    found, total, held = judged(position, returns, cost=0.0007), 0.0, 0.0
    taken = iter(position)
    for each in returns:
        if np.isnan(each):  # a gap: it is closed before
            total, held = total - 0.0007 * abs(held), 0.0
            continue
        wanted = float(next(taken))
        total -= 0.0007 * abs(wanted - held)
        held = wanted
        total += held * each
    assert abs(np.log1p(found["total_return_pct"] / 100) - total) < 1e-9
    assert abs(found["net_bps"] * 478 / 1e4 - total) < 1e-9
    assert found["curve"]["equity"][-1] == pytest.approx(np.exp(total), rel=1e-12)


def test_who_buys_once_pays_twice_and_earns_what_gaps_bring():
    returns = wandering(20)
    returns[[100, 479]] = np.nan
    stretch = stretch_of(returns)
    stretch.close[101:] *= 1.05  # over the gap
    held = stretch.constant()["buy_and_hold"]
    assert held.net.sum() == pytest.approx(
        np.log(stretch.close[-1] / stretch.close[0]) - 2 * 0.0005, rel=1e-12
    )


def test_a_constant_position_is_that_baseline_and_told():
    returns = np.full(24 * 15, 0.0001)
    found = judged(np.ones(len(returns)), returns)
    best = found["comparisons"]["best_baseline"]
    assert best["baseline"] == "always_long"
    assert best["net_difference"]["estimate"] == 0.0
    assert best["net_difference"]["p_value"] is None
    assert found["value_at_risk_95_pct"] < 0  # every day earned
    told = results_of(found)
    assert "LONG in 100.0% of the bars: a constant position" in told["warnings"]
    assert told["claims"] == {"edge": False}
    assert told["verdict"][1] == (
        "Against: the same as always long, the best constant position"
    )


def test_no_position_earns_nothing_and_claims_nothing():
    told = results_of(judged(np.zeros(24 * 15), wandering(15)))
    assert told["verdict"][0] == "Earned: nothing, it holds no position"
    assert told["claims"] == {"edge": False}
    assert "FLAT in 100.0% of the bars: a constant position" in told["warnings"]


@pytest.mark.parametrize(
    ("low", "deflated", "is_claimed"),
    [
        (0.01, 0.951, True),
        (0.0, 0.999, False),
        (None, 0.999, False),
        (0.01, 0.95, False),
        (0.01, None, False),
    ],
)
def test_an_edge_needs_both_more_than_a_constant_and_a_sure_ratio(
    low, deflated, is_claimed
):
    best = {"baseline": "flat", "net_difference": {"low": low}}
    test = {"comparisons": {"best_baseline": best}, "deflated_sharpe": deflated}
    assert claims.claims_of(test) == {"edge": is_claimed}


def test_what_is_no_better_than_chance_is_never_claimed():
    """Positions that know nothing, without costs: told apart once in forty at most."""
    generator = np.random.default_rng(3)
    claimed = 0
    for seed in range(40):
        returns = wandering(30, seed=seed)
        position = np.repeat(generator.choice([-1.0, 0.0, 1.0], 60), 12)
        test = judged(position, returns, cost=0.0, num_trials=3)
        claimed += claims.claims_of(test)["edge"]
    assert claimed <= 1


def test_leaking_data_claim_nothing():
    returns = wandering(40)
    told = results_of(judged(np.sign(returns), returns))
    leak = {"check": "future prices", "outcome": "leak", "words": "a column knows them"}
    told["audit"] = {"findings": [leak]}
    claims.heed_audit(told)
    assert told["claims"] == {"edge": False}
    assert (
        told["verdict"][0] == "Leak: nothing is claimed, the data leak (future prices)"
    )
    assert told["warnings"][0] == "leak: future prices: a column knows them"


def test_log_returns_are_summed_by_day():
    times = np.array(["2024-01-01T22", "2024-01-01T23", "2024-01-03T00"], "M8[h]")
    found = judging.daily_returns(np.array([0.01, 0.02, -0.03]), times)
    np.testing.assert_allclose(found, np.expm1([0.03, 0.0, -0.03]), rtol=1e-12)
