"""Agents: what each learns from a market that it can read, and the same bits again."""

import json

import keras
import numpy as np
import pytest

from rl import training
from rl.accounts import plain_policy
from rl.agent import AgentSettings
from rl.checkpoints import Candidate
from rl.simulator import Market, TradingSimulator
from rl.training import ALGORITHMS, MarketSettings

BARS = 3000
SMALL = {"hidden": (16,), "num_steps": 4096 + 1024}
BATCHES = {"sac": (256, 256), "td3": (256, 128)}  # of critics, of the actor


def readable_market(knows=1.0, num_rows=BARS, seed=7):
    """One feature is the next return with noise; `knows` 0 is noise alone."""
    generator = np.random.Generator(np.random.PCG64(seed))
    returns = 1e-3 * generator.standard_normal(num_rows)
    features = generator.standard_normal((num_rows, 3))
    noise = np.sqrt(1 - knows**2) * features[:, 0]
    features[:, 0] = knows * returns / 1e-3 + noise
    returns[-1] = np.nan
    return Market(features=features.astype("f4"), returns=returns, scale=1e-3)


def agent_of(name, seed=3, **settings):
    market, make = readable_market(), ALGORITHMS[name]
    episodes = TradingSimulator(
        market,
        market.starts(slice(0, BARS), 60),
        episode_bars=60,
        cost=1e-4,
        num_envs=16,
        seed=seed,
        is_continuous=make.is_continuous,
    )
    return make(episodes, AgentSettings(**SMALL | settings), seed=seed)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_restored_agent_ends_with_the_same_bytes(name):
    whole = agent_of(name)
    while whole.steps < 4096:
        whole.advance()
    arrays = {key: np.array(value) for key, value in whole.arrays().items()}
    state = json.loads(json.dumps(whole.state()))
    again = agent_of(name, seed=8)  # everything comes from the state
    again.restore(arrays, state)
    for each in (whole, again):
        each.advance()
    assert whole.steps == again.steps == 5120
    if name in BATCHES:
        learned = (whole._adam_critics.iterations, whole._adam_actor.iterations)
        assert tuple(map(int, learned)) == BATCHES[name]
    for one, other in zip(whole.variables(), again.variables(), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert any(
        not np.array_equal(arrays[f"variable_{index}"], np.asarray(variable))
        for index, variable in enumerate(whole.variables())
    )


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_policy_of_arrays_is_that_of_the_network(name, tmp_path):
    agent = agent_of(name)
    agent.policy.save(tmp_path / "agent.keras")
    opened = keras.models.load_model(tmp_path / "agent.keras", safe_mode=True)
    seen = np.random.Generator(np.random.PCG64(0)).standard_normal((50, 6))
    act = plain_policy(opened.get_weights(), is_continuous=agent.is_continuous)
    found, expected = act(seen.astype("f4")), agent.act(seen.astype("f4"))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "name, num_steps", [("ppo", 50_000), ("sac", 36_864), ("td3", 20_480)]
)
def test_an_agent_that_sees_the_next_return_takes_nearly_all_of_it(name, num_steps):
    market = readable_market(num_rows=6000)
    found = training.train(
        name,
        market,
        train=slice(0, 4000),
        validation=slice(4000, 5000),
        settings=AgentSettings(hidden=(32,), num_steps=num_steps),
        around=MarketSettings(cost=0.0, episode_bars=60),
        seeds=[1],
    )
    held = found.live(market, slice(5000, 6000))
    oracle = np.abs(market.returns[5000:5999]).mean()
    assert held.net.mean() > 0.95 * oracle
    assert found.chosen.t_value > found.needed


def test_an_agent_that_learned_from_noise_stays_flat():
    market = readable_market(knows=0.0)
    found = training.train(
        "ppo",
        market,
        train=slice(0, 2000),
        validation=slice(2000, 2500),
        settings=AgentSettings(**SMALL),
        around=MarketSettings(cost=5e-4, episode_bars=60),
        seeds=[1],
    )
    assert len(found.candidates) == training.CHECKPOINTS and found.chosen is None
    assert not found.live(market, slice(2500, 3000)).position.any()


class Killed(Exception):
    """What stands for a kill."""


def short_training(folder=None):
    return training.train(
        "ppo",
        readable_market(num_rows=1200),
        train=slice(0, 800),
        validation=slice(800, 1000),
        settings=AgentSettings(hidden=(8,), num_steps=8 * 256),
        around=MarketSettings(cost=0.0, episode_bars=60, num_envs=4),
        seeds=[1, 2],
        folder=folder,
        minutes=0.0,
    )


@pytest.fixture(scope="module")
def whole():
    return short_training()


@pytest.mark.parametrize("after", [3, 9])
def test_a_killed_training_ends_with_the_same_bytes(
    after, tmp_path, monkeypatch, whole
):
    def advance(agent):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return learn(agent)

    learn, left = ALGORITHMS["ppo"].advance, after
    monkeypatch.setattr(ALGORITHMS["ppo"], "advance", advance)
    with pytest.raises(Killed):
        short_training(tmp_path)
    left = 99
    again = short_training(tmp_path)
    assert 99 - left == 16 - after  # nothing is learned twice
    for one, other in zip(whole.candidates, again.candidates, strict=True):
        assert (one.seed, one.steps) == (other.seed, other.steps)
        assert one.mean_bps.hex() == other.mean_bps.hex()
        assert all(map(np.array_equal, one.weights, other.weights))


def test_the_state_of_another_training_is_not_taken(tmp_path, caplog):
    from rl.checkpoints import KeptTraining

    agent = agent_of("ppo")
    first = KeptTraining(tmp_path, owner="a", minutes=0.0)
    first.offer(agent, 1)
    assert KeptTraining(tmp_path, owner="a", minutes=0.0).candidates == []
    assert not caplog.text
    KeptTraining(tmp_path, owner="b", minutes=0.0)
    assert "begins anew" in caplog.text


def test_the_best_on_validation_is_kept_only_where_it_is_sure():
    def candidate(mean_bps, t_value):
        facts = {"mean_bps": mean_bps, "t_value": t_value}
        return Candidate(seed=1, steps=1, weights=[], **facts)

    others = [candidate(0.1, 0.2), candidate(0.4, 5.0)]
    assert training.choose([*others, candidate(0.5, 2.0)]) is None  # needs 2.12 of 3
    sure = candidate(0.5, 2.2)
    assert training.choose([*others, sure]) is sure
    assert training.choose([candidate(-0.5, -9.0)]) is None


def test_bars_that_go_together_make_nobody_surer():
    steady = np.tile(np.repeat([2e-4, -1e-4], 60), 10)
    assert training.t_value_of(steady, block_bars=1) == pytest.approx(11.547, abs=1e-3)
    assert training.t_value_of(steady, block_bars=60) == pytest.approx(1.491, abs=1e-3)
    shuffled = np.tile([2e-4, -1e-4], 600)  # blocks alone would be sure of it
    assert training.t_value_of(shuffled, block_bars=60) == pytest.approx(11.547, 1e-3)
    assert training.t_value_of(np.zeros(200), block_bars=60) == 0.0


def test_more_candidates_must_be_surer():
    assert training.needed_t_value(1) == pytest.approx(1.6449, abs=1e-4)
    assert training.needed_t_value(24) == pytest.approx(2.8575, abs=1e-4)
