"""Agents of this project beside Stable-Baselines3's: speed, and what both learn.

The same environments, networks, batches, updates a step and seeds; the temperature of
SAC begins at each one's own default, 0.1 of ours and 1 of theirs. PPO on the planted
market and on CartPole, SAC and TD3 on the planted market and on Pendulum; returns of
the policy without exploring, in episodes that are the same for all. Declared
beforehand: our mean over seeds is not below the reference's lowest seed. Speed is that
of learning: neither compiling nor actions at random before it. Needs
`requirements-bench.txt`: `make agents-reference`.

    python benchmarks/bench_agents.py [--seeds 5] [--picture docs/pictures/agents.png]
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.common import measure, parser, show

COST, EPISODE_BARS = 2e-4, 240
PARTS = 8
SCORED, SCORED_SEED = 20, 777
ROUND = 64
"""Steps of each environment between two looks at how many were taken."""
CASES = {  # rounds of each part, environments side by side
    ("ppo", "market"): (2, 64),
    ("sac", "market"): (1, 64),
    ("td3", "market"): (1, 64),
    ("ppo", "cartpole"): (7, 16),
    ("sac", "pendulum"): (1, 4),
    ("td3", "pendulum"): (1, 4),
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
        self.num_actions = int(getattr(space, "n", 0))
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
    """Returns episodes to learn in, or to be scored in."""
    from benchmarks.agent_markets import TRAIN, VALIDATION, market
    from rl.simulator import TradingSimulator

    if where != "market":
        gym_name = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1"}[where]
        return GymEpisodes(gym_name, num_envs, seed)
    prices = market("planted", 7)
    rows = VALIDATION if seed == SCORED_SEED else TRAIN
    return TradingSimulator(
        prices,
        prices.starts(rows, EPISODE_BARS),
        episode_bars=EPISODE_BARS,
        cost=COST,
        num_envs=num_envs,
        seed=seed,
        is_continuous=name != "ppo",
    )


def score(act, name, where):
    """Returns the mean return of an episode; on a market, basis points a bar."""
    episodes = episodes_of(where, name, SCORED, SCORED_SEED)
    seen, total, alive = episodes.reset(), 0.0, np.ones(SCORED, bool)
    while alive.any():
        reward, terminated, truncated = episodes.step(act(seen))
        total += float((reward * alive).mean())
        is_over = terminated | truncated
        alive &= ~is_over
        seen = episodes.reset(is_over) if is_over.any() else episodes.observe()
    return 1e4 * total / EPISODE_BARS if where == "market" else total


def points(name, where):
    """Returns the steps at which learning is under way, and those of the curve."""
    rounds, num_envs = CASES[name, where]
    at_random = 0 if name == "ppo" else BOTH["off_policy"]["WARM_UP"]
    begun = at_random + ROUND * num_envs
    return [begun + part * rounds * ROUND * num_envs for part in range(PARTS + 1)]


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
    episodes = episodes_of(where, name, CASES[name, where][1], seed)
    steps = points(name, where)[-1]
    settings = AgentSettings(hidden=tuple(HIDDEN), num_steps=steps)
    agent = ALGORITHMS[name](episodes, settings, seed=seed)

    def learn(until):
        while agent.steps < until:
            agent.advance()

    return learn, agent.act


def reference(name, where, seed):
    """Returns the same of Stable-Baselines3, with the same settings.

    TensorFlow and PyTorch in one process crash; its writer of logs would bring both.
    """
    sys.modules["torch.utils.tensorboard"] = None
    import stable_baselines3
    import torch

    torch.set_num_threads(1)
    episodes = episodes_of(where, name, CASES[name, where][1], seed)
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

    return learn, act


def run(case, seeds):
    """Returns for each seed the learning curve and the steps per CPU second."""
    who, name, where = case.split("-")
    make = ours if who == "ours" else reference
    begun, *ends = points(name, where)
    found = []
    for seed in range(1, seeds + 1):
        learn, act = make(name, where, seed)
        learn(begun)
        spent, curve = 0.0, []
        for until in ends:
            started = time.process_time()
            learn(until)
            spent += time.process_time() - started
            curve.append(score(act, name, where))
        speed = (ends[-1] - begun) / spent
        found.append({"curve": curve, "steps_per_second": speed})
    return found


def draw(found, path):
    """Draws the learning curves of both side by side."""
    import matplotlib.pyplot as plt

    cases = list(dict.fromkeys((name, where) for _, name, where in found))
    rows = math.ceil(len(cases) / 3)
    options = {"squeeze": False, "layout": "constrained"}
    figure, axes = plt.subplots(rows, 3, figsize=(11, 3 * rows), **options)
    for axis in axes.flat[len(cases) :]:
        axis.set_axis_off()
    for axis, (name, where) in zip(axes.flat, cases, strict=False):
        for who, color in (("Stable-Baselines3", "0.6"), ("ours", "tab:blue")):
            curves = np.array([x["curve"] for x in found[who, name, where]])
            x = np.array(points(name, where)[1:]) / 1000
            axis.plot(x, curves.T, color=color, alpha=0.35, linewidth=0.8)
            axis.plot(x, curves.mean(axis=0), color=color, label=who)
        axis.set_title(f"{name.upper()}, {where}")
        axis.set_xlabel("thousand steps")
        unit = "net bps a bar" if where == "market" else "return of an episode"
        axis.set_ylabel(unit)
    axes.flat[0].legend()
    figure.savefig(path, dpi=110)


def main():
    """Measures both in turn; 1 where ours is below the reference."""
    arguments = parser(__doc__.partition("\n")[0])
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--picture", type=Path)
    names = ["-".join(each) for each in CASES]
    arguments.add_argument("--only", nargs="+", choices=names, default=names)
    options = arguments.parse_args()
    if options.case:
        print(json.dumps(run(options.case, options.seeds)))
        return 0
    found, rows, failed = {}, [], 0
    for chosen in options.only:
        name, where = chosen.split("-")
        both = []
        for who in ("ours", "Stable-Baselines3"):
            case = f"{who.partition('-')[0]}-{name}-{where}"
            both.append(measure(__file__, case, "--seeds", options.seeds))
            found[who, name, where] = both[-1]
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
