"""Episodes of a market: what a position earns, costs and sees; gymnasium's checker."""

import json
import warnings

import numpy as np
import pytest

from rl import accounts
from rl.accounts import LiveAccount
from rl.environment import TradingEnv
from rl.simulator import Market, TradingSimulator

RETURNS = np.array([0.01, -0.02, 0.03, 0.01, -0.01, 0.02, np.nan])


def market(returns=RETURNS, num_features=2, scale=0.01):
    rows = np.arange(len(returns) * num_features, dtype=np.float32)
    features = rows.reshape(len(returns), num_features)
    return Market(features=features, returns=np.asarray(returns), scale=scale)


def simulator(**options):
    base = {"episode_bars": 6, "cost": 0.001} | options
    return TradingSimulator(market(), np.array([0]), **base)


def test_a_position_earns_the_next_bar_and_pays_for_each_change():
    episodes = simulator()
    episodes.reset()
    earned = [episodes.step(np.array([each]))[0][0] for each in (2, 2, 0, 1, 0, 0)]
    expected = [
        0.01 - 0.001,  # opened LONG
        -0.02,
        -0.03 - 0.002,  # from LONG to SHORT
        0.0 - 0.001,  # closed
        0.01 - 0.001,
        -0.02 - 0.001,  # the end closes, too
    ]
    np.testing.assert_allclose(earned, expected, atol=1e-15)


def test_an_account_is_seen_and_an_end_is_flat():
    episodes = simulator()
    assert episodes.reset()[0].tolist() == [0, 1, 0, 0, 0]
    episodes.step(np.array([2]))
    episodes.step(np.array([2]))
    seen = episodes.observe()[0]
    np.testing.assert_allclose(seen, [4, 5, 1, -1.0, 2 / 6], rtol=1e-6)
    episodes.step(np.array([0]))  # another side counts anew
    np.testing.assert_allclose(
        episodes.observe()[0, 2:], [-1, -(6**0.5), 1 / 6], rtol=1e-6
    )
    for _ in range(3):
        _, terminated, truncated = episodes.step(np.array([0]))
    assert not terminated.any() and truncated.all()
    assert episodes.observe()[0, 2:].tolist() == [0, 0, 0]


def test_small_positions_and_small_changes_are_none():
    episodes = simulator(is_continuous=True, dead_band=0.1)
    episodes.reset()
    found = []
    for action in (0.05, 0.5, 0.55, 0.61, -0.02, 2.0):
        found.append(float(episodes.targets(np.array([action]))[0]))
        episodes.step(np.array([action]))
    assert found == [0.0, 0.5, 0.5, 0.61, 0.0, 1.0]


def test_episodes_lie_inside_rows_and_segments():
    returns = np.full(20, 0.01)
    returns[[9, 19]] = np.nan  # row 9 is the last of its segment
    assert market(returns).starts(slice(2, 20), 4).tolist() == [
        *range(2, 6),
        *range(10, 16),
    ]
    assert market(returns).starts(slice(2, 8), 10).tolist() == []
    with pytest.raises(ValueError, match="Received: none"):
        TradingSimulator(market(), np.array([], int), episode_bars=9, cost=0.0)


def test_the_sum_of_rewards_is_the_log_equity_of_the_judge():
    generator = np.random.Generator(np.random.PCG64(3))
    returns = 0.01 * generator.standard_normal(300)
    returns[[120, 299]] = np.nan
    wide = market(returns)
    pieces = accounts.stretches(wide, slice(20, 300))
    assert pieces == [(20, 120), (121, 299)]
    total, held = 0.0, []
    for first, stop in pieces:
        options = {"is_continuous": True, "cost": 0.0007}
        episodes = TradingSimulator(
            wide, np.array([first]), episode_bars=stop - first, **options
        )
        episodes.reset()
        for _ in range(stop - first):
            action = generator.uniform(-1, 1, 1)
            held.append(episodes.targets(action)[0])
            total += episodes.step(action)[0][0]
    account = accounts.account_of(np.array(held), wide, pieces, 0.0007)
    assert abs(account.net.sum() - total) < 1e-9
    paid = 0.0007 * account.turnover * len(account.rows)
    assert account.cost.sum() == pytest.approx(paid, rel=1e-12)


@pytest.mark.parametrize("is_continuous", [False, True])
def test_an_account_sees_in_any_stretch_what_it_saw_in_training(is_continuous):
    generator = np.random.Generator(np.random.PCG64(4))
    wide = market(np.append(0.01 * generator.standard_normal(9), np.nan))
    rules = {"is_continuous": is_continuous, "dead_band": 0.1}
    actions = (
        generator.uniform(-1, 1, 9) if is_continuous else [2, 2, 0, 0, 0, 1, 2, 2, 2]
    )
    shown = []

    def act(seen):
        shown.append(seen[0])
        return np.array([actions[len(shown) - 1]])

    account = LiveAccount(act, scale=wide.scale, episode_bars=4, **rules)
    held = accounts.live(account, wide, [(0, 9)], cost=0.001)
    episodes = TradingSimulator(
        wide, np.array([0]), episode_bars=9, cost=0.001, **rules
    )
    episodes.reset()
    for bar, action in enumerate(actions):
        expected = episodes.observe()[0]
        expected[-1] = min(episodes.holdings.bars_held[0] / 4, 1.0)
        expected[-2] = np.clip(expected[-2], -2.0, 2.0)
        assert shown[bar].tobytes() == expected.tobytes()
        assert held.position[bar] == episodes.targets(np.array([action]))[0]
        episodes.step(np.array([action]))


def test_an_account_that_goes_on_sees_no_more_than_an_episode_shows():
    account = LiveAccount(
        lambda seen: np.array([2]),
        scale=0.01,
        episode_bars=9,
        is_continuous=False,
        dead_band=0.1,
    )
    for _ in range(50):
        account.decide(np.zeros(2, np.float32))
        account.earn(0.01)
    assert account.numbers.tolist() == [1.0, 3.0, 1.0]


def test_state_goes_through_json():
    first, second = simulator(num_envs=3), simulator(num_envs=3, seed=9)
    first.reset()
    first.step(np.array([0, 1, 2]))
    second.restore(json.loads(json.dumps(first.state())))
    first.step(np.array([2, 1, 1]))
    second.step(np.array([2, 1, 1]))
    assert first.state() == second.state()


@pytest.mark.parametrize("is_continuous", [False, True])
def test_gymnasium_accepts_the_environment(is_continuous):
    from gymnasium.utils.env_checker import check_env

    options = {"episode_bars": 6, "cost": 0.001, "is_continuous": is_continuous}
    env = TradingEnv(market(), np.array([0]), **options)
    with warnings.catch_warnings():
        # It asks for limits of observations, and for a registered name.
        warnings.simplefilter("ignore", UserWarning)
        check_env(env, skip_render_check=True)
    assert env.reset(seed=5)[0].shape == (5,)
    action = np.array([1.0], np.float32) if is_continuous else 2
    _, reward, *_ = env.step(action)
    assert reward == pytest.approx((0.01 - 0.001) / 0.01)
