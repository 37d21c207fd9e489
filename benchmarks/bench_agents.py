"""Agents of this project beside Stable-Baselines3's: speed, and what both learn.

The same environments, networks, batches, updates a step and seeds. PPO on the planted
market and on CartPole, SAC and TD3 on the planted market and on Pendulum; returns of
the policy without exploring. Declared beforehand: our mean over seeds is not below the
reference's lowest seed. Needs `requirements-bench.txt`: `make agents-reference`.

    python benchmarks/bench_agents.py [--seeds 5] [--picture docs/pictures/agents.png]
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.common import measure, parser, show

COST = 2e-4
PARTS = 10
CASES = {  # steps, environments side by side
    ("ppo", "market"): (100_000, 64),
    ("sac", "market"): (60_000, 64),
    ("td3", "market"): (60_000, 64),
    ("ppo", "cartpole"): (60_000, 16),
    ("sac", "pendulum"): (12_000, 4),
    ("td3", "pendulum"): (12_000, 4),
}
RATES = {"ppo": 3e-4, "sac": 1e-3, "td3": 1e-3}
HIDDEN = [64, 64]
BOTH = {  # constants of ours, which the reference is given
    "ppo": {"BARS": 64, "BATCH": 512, "EPOCHS": 4, "ENTROPY": 0.01},
    "off_policy": {"BATCH": 256, "UPDATES": 4, "WARM_UP": 4096, "CAPACITY": 200_000},
    "sac": {"TARGET_ENTROPY": -2.0},
    "td3": {"EXPLORATION": 0.1},
}


class GymEpisodes:
    """Gymnasium's environments side by side, as `rl.agent.Episodes`.

    A position in [-1, 1] is a torque in [-2, 2].
    """

    reward_scale = 1.0

    def __init__(self, name, num_envs, seed):
        import gymnasium

        self.envs = [gymnasium.make(name) for _ in range(num_envs)]
        self.num_envs, self._seed = num_envs, seed
        space = self.envs[0].action_space
        self._limit = getattr(space, "high", [1.0])[0]
        self.is_continuous = not hasattr(space, "n")
        self.num_actions = getattr(space, "n", 0)
        self.observation_size = self.envs[0].observation_space.shape[0]
        self._seen = np.zeros((num_envs, self.observation_size), np.float32)

    def reset(self, which=None):
        """Begins episodes."""
        is_first = which is None
        for k, env in enumerate(self.envs):
            if is_first or which[k]:
                seed = self._seed * 1000 + k if is_first else None
                self._seen[k], _ = env.reset(seed=seed)
        return self._seen.copy()

    def observe(self):
        """Returns all observations."""
        return self._seen.copy()

    def step(self, actions):
        """Takes a step in each."""
        found = np.zeros((3, self.num_envs))
        for k, env in enumerate(self.envs):
            action = actions[k]
            if self.is_continuous:
                action = np.array([self._limit * action], np.float32)
            self._seen[k], *found[:, k], _ = env.step(action)
        return found[0], found[1].astype(bool), found[2].astype(bool)


def as_vec_env(episodes):
    """Returns the same episodes behind Stable-Baselines3's face."""
    import gymnasium
    from stable_baselines3.common.vec_env import VecEnv

    boxes = gymnasium.spaces.Box
    size = episodes.observation_size
    actions = (
        boxes(-1.0, 1.0, (1,), np.float32)
        if episodes.is_continuous
        else gymnasium.spaces.Discrete(episodes.num_actions)
    )

    class Reference(VecEnv):
        def __init__(self):
            space = boxes(-np.inf, np.inf, (size,), np.float32)
            super().__init__(episodes.num_envs, space, actions)

        def reset(self):
            return episodes.reset()

        def step_async(self, actions):
            self._actions = actions

        def step_wait(self):
            flat = self._actions.reshape(episodes.num_envs)
            reward, terminated, truncated = episodes.step(flat)
            seen, is_over = episodes.observe(), terminated | truncated
            infos = [{} for _ in is_over]
            for k in np.flatnonzero(is_over):
                infos[k]["terminal_observation"] = seen[k]
                infos[k]["TimeLimit.truncated"] = bool(truncated[k] & ~terminated[k])
            if is_over.any():
                seen = episodes.reset(is_over)
            earned = (reward / episodes.reward_scale).astype(np.float32)
            return seen, earned, is_over, infos

        def close(self):
            pass

        def get_attr(self, name, indices=None):
            return [getattr(self, name, None)] * self.num_envs

        def set_attr(self, name, value, indices=None):
            pass

        def env_method(self, name, *arguments, indices=None, **options):
            return [None] * self.num_envs

        def env_is_wrapped(self, wrapper, indices=None):
            return [False] * self.num_envs

    return Reference()


def episodes_of(where, name, num_envs, seed):
    """Returns what an agent learns in, and what scores a policy."""
    from rl.simulator import TradingSimulator

    is_continuous = name != "ppo"
    if where != "market":
        gym_name = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1"}[where]
        return GymEpisodes(gym_name, num_envs, seed), lambda act: rollouts(
            act, gym_name
        )
    from benchmarks.agent_markets import TRAIN, VALIDATION, market
    from rl import accounts

    prices = market("planted", 7)
    options = {"cost": COST, "is_continuous": is_continuous}
    episodes = TradingSimulator(
        prices,
        prices.starts(TRAIN, 240),
        episode_bars=240,
        num_envs=num_envs,
        seed=seed,
        **options,
    )
    first = VALIDATION.start
    pieces = [(first, first + 2000)]

    def score(act):
        account = accounts.LiveAccount(
            act,
            scale=prices.scale,
            episode_bars=240,
            is_continuous=is_continuous,
            dead_band=0.1,
        )
        held = accounts.live(account, prices, pieces, cost=COST)
        return 1e4 * float(held.net.mean())

    return episodes, score


def rollouts(act, name):
    """Returns the mean return of ten episodes."""
    episodes = GymEpisodes(name, 10, 777)
    seen, total, alive = episodes.reset(), np.zeros(10), np.ones(10, bool)
    for _ in range(500):
        reward, terminated, truncated = episodes.step(act(seen))
        total += reward * alive
        is_over = terminated | truncated
        alive &= ~is_over
        if not alive.any():
            break
        seen = episodes.reset(is_over) if is_over.any() else episodes.observe()
    return float(total.mean())


def ours(name, where, seed):
    """Returns an agent of ours as (learn up to steps, act)."""
    import importlib

    import tensorflow as tf

    from rl.agent import AgentSettings
    from rl.training import ALGORITHMS

    for module, constants in BOTH.items():
        found = vars(importlib.import_module(f"rl.{module}"))
        assert constants == {key: found[key] for key in constants}, module

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    steps, num_envs = CASES[name, where]
    episodes, score = episodes_of(where, name, num_envs, seed)
    settings = AgentSettings(hidden=tuple(HIDDEN), num_steps=steps)
    agent = ALGORITHMS[name](episodes, settings, seed=seed)

    def learn(until):
        while agent.steps < until:
            agent.advance()

    return learn, agent.act, score


def reference(name, where, seed):
    """Returns the same of Stable-Baselines3, with the same settings.

    TensorFlow and PyTorch in one process crash; its writer of logs would bring both.
    """
    sys.modules["torch.utils.tensorboard"] = None
    import stable_baselines3
    import torch

    torch.set_num_threads(1)
    _, num_envs = CASES[name, where]
    episodes, score = episodes_of(where, name, num_envs, seed)
    options = {"learning_rate": RATES[name], "seed": seed, "device": "cpu"}
    options["policy_kwargs"] = {"net_arch": HIDDEN}
    if name == "ppo":
        own = BOTH["ppo"]
        options |= {"n_steps": own["BARS"], "batch_size": own["BATCH"]}
        options |= {"n_epochs": own["EPOCHS"], "ent_coef": own["ENTROPY"]}
    else:
        own = BOTH["off_policy"]
        options |= {"batch_size": own["BATCH"], "train_freq": 1}
        options |= {"gradient_steps": own["UPDATES"], "buffer_size": own["CAPACITY"]}
        options |= {"learning_starts": own["WARM_UP"]}
    if name == "sac":
        options["target_entropy"] = BOTH["sac"]["TARGET_ENTROPY"]
    if name == "td3":
        from stable_baselines3.common.noise import NormalActionNoise

        deviation = np.full(1, BOTH["td3"]["EXPLORATION"])
        options["action_noise"] = NormalActionNoise(np.zeros(1), deviation)
    make = getattr(stable_baselines3, name.upper())
    agent = make("MlpPolicy", as_vec_env(episodes), **options)

    def learn(until):
        left = until - agent.num_timesteps
        agent.learn(left, reset_num_timesteps=False)

    def act(seen):
        actions = agent.predict(seen, deterministic=True)[0]
        return actions.reshape(len(seen))

    return learn, act, score


def run(case):
    """Returns the learning curve of one agent and its steps per CPU second."""
    who, name, where, seed = case.split("-")
    make = ours if who == "ours" else reference
    learn, act, score = make(name, where, int(seed))
    steps, num_envs = CASES[name, where]
    learn(64 * num_envs)  # traced
    spent, begun = 0.0, 64 * num_envs
    curve = []
    for part in range(1, PARTS + 1):
        started = time.process_time()
        learn(steps * part // PARTS)
        spent += time.process_time() - started
        curve.append(score(act))
    return {"curve": curve, "steps_per_second": (steps - begun) / spent}


def draw(found, path):
    """Draws the learning curves of both side by side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    for axis, ((name, where), (steps, _)) in zip(axes.flat, CASES.items(), strict=True):
        for who, color in (("Stable-Baselines3", "0.6"), ("ours", "tab:blue")):
            curves = np.array([x["curve"] for x in found[who, name, where]])
            x = steps * np.arange(1, PARTS + 1) / PARTS
            axis.plot(x, curves.T, color=color, alpha=0.35, linewidth=0.8)
            axis.plot(x, curves.mean(axis=0), color=color, label=who)
        axis.set_title(f"{name.upper()}, {where}")
        axis.set_xlabel("steps")
        unit = "net bps a bar" if where == "market" else "return of an episode"
        axis.set_ylabel(unit)
    axes.flat[0].legend()
    figure.savefig(path, dpi=110)


def main():
    """Measures both in turn; 1 where ours is below the reference."""
    arguments = parser(__doc__.partition("\n")[0])
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--picture", type=Path)
    options = arguments.parse_args()
    if options.case:
        print(json.dumps(run(options.case)))
        return 0
    found, rows, failed = {}, [], 0
    for name, where in CASES:
        for seed in range(1, options.seeds + 1):
            for who in ("ours", "Stable-Baselines3"):
                case = f"{who.partition('-')[0]}-{name}-{where}-{seed}"
                each = measure(__file__, case)
                found.setdefault((who, name, where), []).append(each)
        both = [found[who, name, where] for who in ("ours", "Stable-Baselines3")]
        ends, beside = (np.array([x["curve"][-1] for x in one]) for one in both)
        speeds = [np.median([x["steps_per_second"] for x in one]) for one in both]
        is_level = ends.mean() >= beside.min()
        failed += not is_level
        rows.append(
            [
                f"{name} {where}",
                f"{ends.mean():.2f} ({ends.min():.2f} to {ends.max():.2f})",
                f"{beside.mean():.2f} ({beside.min():.2f} to {beside.max():.2f})",
                "yes" if is_level else "NO",
                f"{speeds[0]:,.0f}",
                f"{speeds[1]:,.0f}",
                f"{speeds[0] / speeds[1]:.2f}",
            ]
        )
        print(rows[-1], file=sys.stderr, flush=True)
    columns = ["", "ours", "Stable-Baselines3", "not below its lowest"]
    columns += ["steps/CPU s", "reference", "ratio"]
    figures = {"-".join(key): value for key, value in found.items()}
    title = f"Agents, {options.seeds} seeds: end of training, speed"
    show(title, columns, rows, figures, options.json)
    if options.picture:
        draw(found, options.picture)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
