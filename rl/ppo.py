"""Proximal policy optimization with a clipped objective: `PPO`.

Schulman et al. 2017, arXiv:1707.06347, with generalized advantage estimation (Schulman
et al. 2016, arXiv:1506.02438). Actions are ids.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from rl.agent import Agent, AgentSettings, Episodes

BARS = 64
"""Steps of each environment between two updates."""
BATCH, EPOCHS = 512, 4
LAMBDA, CLIP, ENTROPY, VALUE_WEIGHT = 0.95, 0.2, 0.01, 0.5
CLIP_NORM, EPSILON = 0.5, 1e-5


class PPO(Agent):
    """See `Agent`."""

    is_continuous = False
    learning_rate = 3e-4

    def __init__(self, episodes: Episodes, settings: AgentSettings, *, seed: int = 0):
        super().__init__(episodes, settings, seed=seed)
        size = episodes.observation_size
        actions = (episodes.num_actions, 0.01, "softmax")
        self.policy = self.network(size, actions, activation="tanh", name="policy")
        self.critic = self.network(
            size, (1, 1.0, None), activation="tanh", name="critic"
        )
        self._learned = [*self.policy.trainable_variables]
        self._learned += self.critic.trainable_variables
        self._adam = self.optimizer(
            self._learned, epsilon=EPSILON, global_clipnorm=CLIP_NORM
        )

    def variables(self) -> list[Any]:
        """Returns weights of policy and critic, and the optimizer's."""
        return [*self._learned, *self._adam.variables]

    def act(self, seen: np.ndarray) -> np.ndarray:
        """Returns the most probable actions (batch,)."""
        return self._look(seen)[0].numpy().argmax(axis=1)

    @tf.function(reduce_retracing=True)
    def _look(self, seen: Any) -> Any:
        """Returns log probabilities (batch, num_actions) and values (batch,)."""
        return self._log_probabilities(seen), self.critic(seen)[:, 0]

    def _log_probabilities(self, seen: Any) -> Any:
        # The policy ends in a softmax, as what is published; its last layer's inputs
        # give the logarithm without rounding a small probability to none.
        *_, last = self.policy.layers
        hidden = seen
        for layer in self.policy.layers[1:-1]:
            hidden = layer(hidden)
        return tf.nn.log_softmax(hidden @ last.kernel + last.bias)

    def advance(self) -> dict[str, float]:
        """Collects `BARS` steps of each environment, and learns from them."""
        batch, earned = self._collect()
        num_rows = len(batch[0])
        losses = []
        for _ in range(EPOCHS):
            order = self.generator.permutation(num_rows)
            for first in range(0, num_rows, BATCH):
                rows = order[first : first + BATCH]
                losses.append(self._learn(*(column[rows] for column in batch)))
        self.steps += num_rows
        return {"reward": earned, "loss": float(losses[-1])}

    def _collect(self) -> tuple[list[np.ndarray], float]:
        """Returns observations, actions, their log probabilities, advantages, values.

        Of each step of each environment, as rows; and the mean reward.
        """
        episodes, gamma = self.episodes, self.settings.gamma
        shape = (BARS, episodes.num_envs)
        seen = np.empty((*shape, episodes.observation_size), np.float32)
        taken = np.empty(shape, np.int32)
        logs, values, rewards, goes_on = (np.empty(shape, np.float32) for _ in range(4))
        each = np.arange(episodes.num_envs)
        for bar in range(BARS):
            log_p, value = (part.numpy() for part in self._look(self.seen))
            # Gumbel's maximum draws from the probabilities.
            action = (log_p + self.generator.gumbel(size=log_p.shape)).argmax(axis=1)
            seen[bar], taken[bar], values[bar] = self.seen, action, value
            logs[bar] = log_p[each, action]
            reward, is_terminated, is_truncated = episodes.step(action)
            reward = reward / episodes.reward_scale
            following = episodes.observe()
            if is_truncated.any():  # what comes next still has a value
                later = self._look(following)[1].numpy()
                reward = reward + np.where(is_truncated, gamma * later, 0.0)
            is_over = is_terminated | is_truncated
            if is_over.any():
                following = episodes.reset(is_over)
            rewards[bar], goes_on[bar], self.seen = reward, ~is_over, following
        last = self._look(self.seen)[1].numpy()
        advantages = np.empty(shape, np.float32)
        ahead = np.zeros(episodes.num_envs, np.float32)
        for bar in reversed(range(BARS)):
            later = last if bar == BARS - 1 else values[bar + 1]
            surprise = rewards[bar] + gamma * later * goes_on[bar] - values[bar]
            ahead = surprise + gamma * LAMBDA * goes_on[bar] * ahead
            advantages[bar] = ahead
        columns = (seen, taken, logs, advantages, advantages + values)
        rows = [column.reshape(-1, *column.shape[2:]) for column in columns]
        return rows, float(rewards.mean())

    @tf.function(reduce_retracing=True)
    def _learn(self, seen: Any, taken: Any, before: Any, ahead: Any, value: Any) -> Any:
        ahead = (ahead - tf.reduce_mean(ahead)) / (tf.math.reduce_std(ahead) + 1e-8)
        with tf.GradientTape() as tape:
            log_p = self._log_probabilities(seen)
            ratio = tf.exp(tf.gather(log_p, taken, batch_dims=1) - before)
            kept = tf.clip_by_value(ratio, 1.0 - CLIP, 1.0 + CLIP)
            gain = tf.reduce_mean(tf.minimum(ratio * ahead, kept * ahead))
            entropy = -tf.reduce_mean(tf.reduce_sum(tf.exp(log_p) * log_p, axis=1))
            error = tf.reduce_mean((self.critic(seen)[:, 0] - value) ** 2)
            loss = VALUE_WEIGHT * error - gain - ENTROPY * entropy
        self._adam.apply(tape.gradient(loss, self._learned), self._learned)
        return loss
