"""Soft actor-critic with a learned temperature: `SAC`.

Haarnoja et al. 2018, arXiv:1812.05905. Actions are positions in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rl.agent import AgentSettings, Episodes
from rl.off_policy import OffPolicyAgent

LOG_STD = (-20.0, 2.0)
FIRST_ALPHA = 0.1
"""Temperature at first. At 1, 16,000 steps bring an agent that sees the next return to
0.69 of what there is, at 0.1 to 0.96; it falls no faster than the learning rate lets
it."""
TARGET_ENTROPY = -2.0
"""Twice below the paper's, minus the number of actions: one that sees the next return
ends at 0.98 of what there is, with the paper's at 0.94 (100,000 steps)."""


class SAC(OffPolicyAgent):
    """See `Agent`. Explores by what its own deviation draws."""

    num_noises = 2

    def __init__(self, episodes: Episodes, settings: AgentSettings, *, seed: int = 0):
        super().__init__(episodes, settings, seed=seed)
        self._log_alpha = keras.Variable(math.log(FIRST_ALPHA), name="log_alpha")
        self._adam_alpha = self.optimizer([self._log_alpha])

    def create_actor(self) -> keras.Model:
        """Returns a network of mean and log deviation; the policy is tanh of a mean."""
        size, outputs = self.episodes.observation_size, ((1, 0.01, None),) * 2
        actor = self.network(size, *outputs, activation="relu", name="actor")
        position = keras.layers.Activation("tanh", name="position")(actor.outputs[0])
        self.policy = keras.Model(actor.input, position, name="policy")
        return actor

    def variables(self) -> list[Any]:
        """Returns the temperature's, too."""
        return [*super().variables(), self._log_alpha, *self._adam_alpha.variables]

    def explore(self, seen: np.ndarray) -> np.ndarray:
        """Returns actions (num_envs, 1) drawn from the actor."""
        noise = self.generator.standard_normal((len(seen), 1), np.float32)
        return self._draw(seen, noise).numpy()

    @tf.function(reduce_retracing=True)
    def _draw(self, seen: Any, noise: Any) -> Any:
        return self._sample(seen, noise)[0]

    def _sample(self, seen: Any, noise: Any) -> tuple[Any, Any]:
        """Returns positions (batch, 1) and their log densities (batch,)."""
        mean, log_std = self.actor(seen)
        log_std = tf.clip_by_value(log_std, *LOG_STD)
        raw = mean + tf.exp(log_std) * noise
        log_p = -0.5 * (noise**2 + math.log(2.0 * math.pi)) - log_std
        # The density of tanh(raw), in a form that does not round to log 0.
        log_p -= 2.0 * (math.log(2.0) - raw - tf.nn.softplus(-2.0 * raw))
        return tf.tanh(raw), log_p[:, 0]

    def learn_batch(self, batch: Mapping[str, Any], noise: Any, number: Any) -> Any:
        """See `OffPolicyAgent`."""
        seen, following = batch["seen"], batch["following"]
        alpha = tf.exp(self._log_alpha)
        after, log_p_after = self._sample(following, noise[1])
        worst = self.least(self.slow_critics, following, after)
        later = (1.0 - batch["is_end"]) * (worst - alpha * log_p_after)
        wanted = batch["earned"] + self.settings.gamma * later
        loss = self.learn_values(seen, batch["taken"], wanted)
        learned = self.actor.trainable_variables
        with tf.GradientTape() as tape:
            action, log_p = self._sample(seen, noise[0])
            value = self.least(self.critics, seen, action)
            cost = tf.reduce_mean(alpha * log_p - value)
        self._adam_actor.apply(tape.gradient(cost, learned), learned)
        surplus = -tf.reduce_mean(log_p + TARGET_ENTROPY)
        self._adam_alpha.apply([surplus], [self._log_alpha])
        self.follow(self.slow_critics, self.critics)
        return loss
