"""Twin delayed deep deterministic policy gradient: `TD3`.

Fujimoto et al. 2018, arXiv:1802.09477. Actions are positions in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rl.agent import AgentSettings, Episodes
from rl.off_policy import OffPolicyAgent

DELAY = 2
"""Batches of the critics for one of the actor."""
EXPLORATION, SMOOTHING, SMOOTHING_LIMIT = 0.1, 0.2, 0.5
"""Deviation of exploring, of the noise on the next action, and that one's limit."""


class TD3(OffPolicyAgent):
    """See `Agent`. Explores by noise on its position."""

    num_noises = 1

    def __init__(self, episodes: Episodes, settings: AgentSettings, *, seed: int = 0):
        super().__init__(episodes, settings, seed=seed)
        self._slow_actor = self._network("slow_actor")
        self._slow_actor.set_weights(self.actor.get_weights())

    def _network(self, name: str) -> keras.Model:
        size, position = self.episodes.observation_size, (1, 0.01, "tanh")
        return self.network(size, position, activation="relu", name=name)

    def create_actor(self) -> keras.Model:
        """Returns a network of positions, which is the policy."""
        self.policy = self._network("policy")
        return self.policy

    def variables(self) -> list[Any]:
        """Returns the slow actor's, too."""
        return [*super().variables(), *self._slow_actor.weights]

    def explore(self, seen: np.ndarray) -> np.ndarray:
        """Returns actions (num_envs, 1) with noise."""
        noise = self.generator.standard_normal((len(seen), 1), np.float32)
        return np.clip(self._policy(seen).numpy() + EXPLORATION * noise, -1.0, 1.0)

    def learn_batch(self, batch: Mapping[str, Any], noise: Any, number: Any) -> Any:
        """See `OffPolicyAgent`."""
        seen, following = batch["seen"], batch["following"]
        limits = (-SMOOTHING_LIMIT, SMOOTHING_LIMIT)
        noise = tf.clip_by_value(SMOOTHING * noise[0], *limits)
        after = tf.clip_by_value(self._slow_actor(following) + noise, -1.0, 1.0)
        worst = self.least(self.slow_critics, following, after)
        later = (1.0 - batch["is_end"]) * worst
        wanted = batch["earned"] + self.settings.gamma * later
        loss = self.learn_values(seen, batch["taken"], wanted)
        if number % DELAY == DELAY - 1:
            self._learn_actor(seen)
        return loss

    def _learn_actor(self, seen: Any) -> None:
        learned = self.actor.trainable_variables
        with tf.GradientTape() as tape:
            value = self.critics[0](tf.concat([seen, self.actor(seen)], axis=1))
            cost = -tf.reduce_mean(value)
        self._adam_actor.apply(tape.gradient(cost, learned), learned)
        self.follow([*self.slow_critics, self._slow_actor], [*self.critics, self.actor])
