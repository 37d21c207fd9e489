"""The market of a training file, and what an account of it came to."""

import numpy as np
import pandas as pd
import pytest
from world.classes import SMALL, hours, load, market

from rl import accounts, judging
from rl.accounts import account_of
from rl.markets import Embedding, known_rows, market_of
from rl.simulator import Market
from utils import DataError


def wandering(seed=0):
    frame = market(seed)
    steps = np.random.default_rng(seed).normal(0.0, 0.002, len(frame))
    frame["close"] = 1000.0 * np.exp(np.cumsum(steps))
    return frame


def test_a_return_is_known_where_a_target_looks_at_it():
    frame = wandering()
    data = load(frame)
    found = market_of(data)
    close = frame["close"].to_numpy()
    for part in data.parts.values():
        first, last = part.targets[0], part.targets[-1] + SMALL.future_window
        rows = np.arange(first, min(last, len(close) - 1))
        np.testing.assert_allclose(
            found.returns[rows], np.log(close[rows + 1] / close[rows]), rtol=1e-9
        )
        assert np.isnan(found.returns[first - 1])
        assert np.isnan(found.returns[last : last + 1]).all()
    assert np.isnan(found.returns[-1])
    train = found.returns[: data.parts["train"].stop]
    assert found.scale == pytest.approx(np.nanstd(train))
    assert found.features is data.features


def test_no_return_crosses_a_gap():
    frame = wandering()
    times = hours(len(frame))
    frame["timestamp"] = times[:300].append(times[300:] + pd.Timedelta("5h"))
    seen = known_rows(load(frame))
    assert seen[298] and not seen[299] and seen[300]


def test_embeddings_are_in_units_of_the_training_part():
    data = load(wandering())
    embedding = Embedding(lambda windows: 3.0 + windows[:, -1, :2])
    found = market_of(data, embedding=embedding)
    part = data.parts["train"]
    rows = np.flatnonzero(np.isfinite(found.returns))
    train = found.features[rows[(rows >= part.start) & (rows < part.stop)]]
    np.testing.assert_allclose(train.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1.0, atol=1e-5)
    assert found.features.shape == (data.num_rows, 2)


def test_a_file_without_closes_or_moves_is_refused():
    with pytest.raises(DataError, match="column close"):
        market_of(load(wandering().drop(columns="close")))
    with pytest.raises(DataError, match="price moves"):
        market_of(load(market()))


def judged(position, returns, cost=0.0005):
    count = len(returns)
    where = Market(
        features=np.zeros((count, 1), np.float32), returns=returns, scale=0.01
    )
    pieces = accounts.stretches(where, slice(0, count))
    held = account_of(np.asarray(position), where, pieces, cost)
    times = np.datetime64("2024-01-01T00:00") + np.arange(count) * np.timedelta64(
        1, "h"
    )
    return judging.judge(
        held, where, pieces, times, cost=cost, bar_seconds=3600.0, num_trials=3
    )


def test_an_account_is_held_against_constant_positions():
    generator = np.random.default_rng(5)
    returns = generator.normal(0.0, 0.004, 24 * 40)
    found = judged(np.sign(returns), returns)
    changes = np.abs(np.diff(np.sign(returns), prepend=0.0, append=0.0)).sum()
    expected = np.abs(returns).sum() - 0.0005 * changes
    assert found["net_bps"] == pytest.approx(1e4 * expected / len(returns))
    assert found["turnover"] == pytest.approx(changes / len(returns))
    equity = np.expm1(expected) * 100
    assert found["total_return_pct"] == pytest.approx(equity)
    baselines = found["baselines"]
    assert baselines["flat"] == 0.0
    both = baselines["always_long"] + baselines["always_short"]
    assert both == pytest.approx(-1e4 * 4 * 0.0005 / len(returns))
    assert found["best_baseline"] == max(baselines, key=baselines.get)
    against = found["against_best"]
    assert against["low"] > 0 and against["p_value"] < 0.01
    assert found["intervals"]["net_bps"]["low"] > 0 and found["warnings"] == []
    assert found["exposure_pct"] == 100.0


def test_a_constant_position_is_that_baseline_and_told():
    returns = np.full(24 * 15, 0.0001)
    found = judged(np.ones(len(returns)), returns)
    assert found["best_baseline"] == "always_long"
    assert found["against_best"]["estimate"] == 0.0
    assert found["against_best"]["p_value"] is None
    assert found["warnings"] == ["LONG in 100.0% of the bars: a constant position"]
    assert found["value_at_risk_95_pct"] < 0  # every day earned


def test_log_returns_are_summed_by_day():
    times = np.array(["2024-01-01T22", "2024-01-01T23", "2024-01-03T00"], "M8[h]")
    found = judging.daily_returns(np.array([0.01, 0.02, -0.03]), times)
    np.testing.assert_allclose(found, np.expm1([0.03, 0.0, -0.03]), rtol=1e-12)
