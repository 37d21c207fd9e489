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
from rl.off_policy import BATCH, OffPolicyAgent

DELAY = 2
"""Batches of the critics for one of the actor."""
EXPLORATION, SMOOTHING, SMOOTHING_LIMIT = 0.1, 0.2, 0.5
"""Deviation of exploring, of the noise on the next action, and that one's limit."""


class TD3(OffPolicyAgent):
    """See `Agent`. Explores by noise on its position."""

    def __init__(self, episodes: Episodes, settings: AgentSettings, *, seed: int = 0):
        super().__init__(episodes, settings, seed=seed)
        self._slow_actor = self._network("slow_actor")
        self._slow_actor.set_weights(self.actor.get_weights())
        self._batches = 0

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

    def state(self) -> dict[str, Any]:
        """Returns the number of batches, too."""
        return super().state() | {"batches": self._batches}

    def restore(
        self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]
    ) -> None:
        """Goes on from what `arrays` and `state` returned."""
        super().restore(arrays, state)
        self._batches = int(state["batches"])

    def explore(self, seen: np.ndarray) -> np.ndarray:
        """Returns actions (num_envs, 1) with noise."""
        noise = self.generator.standard_normal((len(seen), 1), np.float32)
        return np.clip(self._policy(seen).numpy() + EXPLORATION * noise, -1.0, 1.0)

    def learn_batch(self, batch: tuple[np.ndarray, ...]) -> Any:
        """Learns from transitions; returns the critics' loss."""
        self._batches += 1
        noise = self.generator.standard_normal((BATCH, 1), np.float32)
        loss = self._learn_critics(*batch, noise)
        if self._batches % DELAY == 0:
            self._learn_actor(batch[0])
        return loss

    @tf.function
    def _learn_critics(
        self,
        seen: Any,
        taken: Any,
        earned: Any,
        following: Any,
        is_end: Any,
        noise: Any,
    ) -> Any:
        limits = (-SMOOTHING_LIMIT, SMOOTHING_LIMIT)
        noise = tf.clip_by_value(SMOOTHING * noise, *limits)
        after = tf.clip_by_value(self._slow_actor(following) + noise, -1.0, 1.0)
        worst = self.least(self.slow_critics, following, after)
        wanted = earned + self.settings.gamma * (1.0 - is_end) * worst
        return self.learn_values(seen, taken, wanted)

    @tf.function
    def _learn_actor(self, seen: Any) -> None:
        learned = self.actor.trainable_variables
        with tf.GradientTape() as tape:
            value = self.critics[0](tf.concat([seen, self.actor(seen)], axis=1))
            cost = -tf.reduce_mean(value)
        self._adam_actor.apply(tape.gradient(cost, learned), learned)
        self.follow([*self.slow_critics, self._slow_actor], [*self.critics, self.actor])
