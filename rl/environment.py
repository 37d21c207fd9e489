"""One account of the market behind gymnasium's face: `TradingEnv`.

In: spaces, `reset` and `step` as gymnasium's libraries call them. Out: what happens in
them (`simulator`). Needs requirements-agents.txt.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rl.simulator import NUM_ACTIONS, Market, TradingSimulator


class TradingEnv(gymnasium.Env[np.ndarray, Any]):
    """Episodes of a market, one at a time; see `TradingSimulator`.

    Rewards are in units of `Market.scale`. Actions are 0, 1, 2 (SHORT, FLAT, LONG), or
    a position (1,) in [-1, 1]. Every episode is truncated, none terminates.

    Args:
        market: Features and returns.
        starts: Rows that episodes begin at.
        **options: As `TradingSimulator`, without `num_envs`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - gymnasium's own

    def __init__(self, market: Market, starts: np.ndarray, **options: Any) -> None:
        self.simulator = TradingSimulator(market, starts, num_envs=1, **options)
        size = self.simulator.observation_size
        boxes = gymnasium.spaces.Box
        self.observation_space = boxes(-np.inf, np.inf, (size,), np.float32)
        self.action_space = (
            boxes(-1.0, 1.0, (1,), np.float32)
            if self.simulator.is_continuous
            else gymnasium.spaces.Discrete(NUM_ACTIONS)
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode at a random start; see gymnasium."""
        super().reset(seed=seed)
        if seed is not None:
            self.simulator.generator = np.random.Generator(np.random.PCG64(seed))
        return self.simulator.reset()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Holds a position for one bar; see gymnasium."""
        earned, _, is_over = self.simulator.step(np.asarray(action))
        reward = float(earned[0]) / self.simulator.market.scale
        return self.simulator.observe()[0], reward, False, bool(is_over[0]), {}
