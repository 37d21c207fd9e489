"""Positions of an agent for candles: its account begins, goes on and is closed."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from world.signals import (
    LATER,
    make_broken_candles,
    make_candles,
    make_recipe,
    make_rules,
)

from evaluation.policies import PositionPolicy, policy_from_dict
from positions.answers import PositionRules
from rl.accounts import LiveAccount
from signals.answers import to_table
from signals.stream import SignalStream

SEEN = []
"""What the agent of the newest rules saw of its account, bar after bar."""


def act(seen):
    """A position that follows the features, and what the account came to."""
    SEEN.append(seen[0, -3:].tolist())
    wave = np.sin(300 * seen[:, :-3].sum(axis=1))
    return wave - 0.1 * seen[:, -2] - 0.3 * seen[:, -1] + 0.3 * seen[:, -3]


def rules_of(recipe, **fields):
    SEEN.clear()
    units = {"scale": 0.01, "episode_bars": 12}
    agent = SimpleNamespace(
        seen_of=lambda windows: windows[:, -1],
        live_account=lambda: LiveAccount(
            act, **units, is_continuous=True, dead_band=0.1
        ),
    )
    given = dict(vars(make_rules(recipe, **fields)))
    given["policy"] = PositionPolicy()
    return PositionRules(**given, agent=agent)


def feed(rules, table, history=None):
    stream = SignalStream(rules.pipeline, rules.begin(history), history)
    rows = [stream.update(candle, now=LATER) for candle in table.to_dict("records")]
    return pd.DataFrame(rows).reset_index(drop=True)


def answer(rules, table, last=10**6):
    return to_table(rules.answer(table, last, LATER))


def assert_same(found, expected):
    for name in ("timestamp", "status", "signal"):
        assert list(found[name]) == list(expected[name])
    # As bytes: equal to the last bit, NaN included.
    one, other = (table["position"].to_numpy(float) for table in (found, expected))
    assert one.tobytes() == other.tobytes()


def test_a_stream_holds_what_a_table_holds_across_gap_fill_and_restart():
    recipe = make_recipe()
    candles, gap = make_broken_candles(recipe)
    whole = answer(rules_of(recipe), candles)
    is_candle = whole["timestamp"].isin(candles["timestamp"])
    expected = whole[is_candle].reset_index(drop=True)
    assert {"warming_up", "gap", "ok"} == set(expected["status"])
    held = expected["position"].dropna()
    assert held.min() < -0.2 and held.max() > 0.2 and held.nunique() > 20
    assert_same(feed(rules_of(recipe), candles), expected)
    for first in (5, gap - 5, gap + 2, len(candles) - 18):
        found = feed(rules_of(recipe), candles[first : first + 15], candles[:first])
        assert_same(found, expected[first : first + 15])
    assert_same(answer(rules_of(recipe), candles, last=9), whole[-9:])


def test_an_account_begins_flat_holds_on_over_filled_bars_and_ends_at_a_gap():
    recipe = make_recipe()
    candles, gap = make_broken_candles(recipe)
    rows = answer(rules_of(recipe), candles)
    is_ok = (rows["status"] == "ok").to_numpy()
    seen = pd.DataFrame(SEEN, index=np.flatnonzero(is_ok))
    after_gap = int(np.flatnonzero(is_ok & ~np.r_[False, is_ok[:-1]])[1])
    first = int(np.flatnonzero(is_ok)[0])
    assert rows["timestamp"][after_gap] > candles["timestamp"][gap]
    for row in (first, after_gap):
        assert seen.loc[row].tolist() == [0, 0, 0]
    filled = np.flatnonzero(rows["status"] == "filled")
    assert rows["position"][filled].isna().all() and len(filled) == 3
    before, behind = filled[0] - 1, filled[0] + 2  # two bars are missing
    position = rows["position"][before]
    moved = np.log(rows["close"][behind] / rows["close"][before])
    opened = seen.loc[before, 1] if seen.loc[before, 0] * position > 0 else 0.0
    np.testing.assert_allclose(
        seen.loc[behind, :1], [position, opened + position * moved / 0.01], rtol=1e-5
    )
    bars = seen.loc[before, 2] if seen.loc[before, 0] * position > 0 else 0.0
    assert seen.loc[behind, 2] == pytest.approx(min(bars + 3 / 12, 1.0))


def test_an_open_bar_leaves_the_account_alone():
    recipe = make_recipe()
    candles = make_candles(recipe.pipeline.min_candles + 6)
    rules = rules_of(recipe)
    stream = SignalStream(rules.pipeline, rules.begin(None))
    expected = answer(rules_of(recipe), candles)
    for k, candle in enumerate(candles.to_dict("records")):
        now = candle["timestamp"] + pd.Timedelta("1min")
        row = stream.update(candle, now=now)
        assert row["status"] == "open_bar" and np.isnan(row["position"])
        row = stream.update(candle, now=LATER)
        np.testing.assert_equal(row["position"], expected["position"][k])
    assert expected["status"].iloc[-1] == "ok"


def test_a_bar_that_is_unlike_closes_the_account():
    class Odd:
        def unlikeness(self, rows, scaler):
            return np.where(np.arange(len(rows)) == len(rows) - 3, 9.0, 0.0)

    recipe = make_recipe()
    candles = make_candles(recipe.pipeline.min_candles + 8)
    rows = answer(rules_of(recipe, reference=Odd()), candles)
    assert rows["status"].tolist()[-3:] == ["unlike", "ok", "ok"]
    assert np.isnan(rows["position"].iloc[-3]) and rows["signal"].iloc[-3] == 1
    assert SEEN[-2] == [0, 0, 0]


def test_a_position_has_a_side_and_goes_through_json():
    policy = policy_from_dict(PositionPolicy().to_dict())
    position = np.array([-0.25, 0.0, 1.0])
    shares = policy.scores(position)
    assert shares.tolist() == [[0.25, 0.75, 0], [0, 1, 0], [0, 0, 1]]
    answers, signals = policy.decide(shares)
    assert answers.tolist() == position.tolist() and signals.tolist() == [0, 1, 2]
