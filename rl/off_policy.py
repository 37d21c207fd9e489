"""What SAC and TD3 share: a replay, two critics with slow copies, the loop.

In: what happened, values of actions. Out: how an actor explores and learns (`sac`,
`td3`).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from rl.agent import Agent, AgentSettings, Episodes

BARS = 64
"""Steps of each environment in one `advance`."""
UPDATES = 4
"""Batches learned from after a step of all environments."""
BATCH = 256
WARM_UP, CAPACITY = 4096, 200_000
"""Transitions of actions at random before the first batch, and at most."""
TAU = 0.005


class Replay:
    """The newest transitions, of which batches are drawn at random.

    Args:
        capacity: Transitions that are kept.
        observation_size: Numbers of an observation.
    """

    def __init__(self, capacity: int, observation_size: int) -> None:
        shapes: dict[str, tuple[int, ...]] = {
            "seen": (observation_size,),
            "taken": (1,),
            "earned": (),
            "following": (observation_size,),
            "is_end": (),
        }
        self.columns = {
            name: np.zeros((capacity, *shape), np.float32)
            for name, shape in shapes.items()
        }
        self.capacity, self.count = capacity, 0

    def __len__(self) -> int:
        """Transitions that are there."""
        return min(self.count, self.capacity)

    def add(self, **columns: np.ndarray) -> None:
        """Takes one transition of each environment, over the oldest ones."""
        size = len(columns["earned"])
        places = (self.count + np.arange(size)) % self.capacity
        for name, values in columns.items():
            self.columns[name][places] = values
        self.count += size

    def sample(
        self, generator: np.random.Generator, shape: tuple[int, ...]
    ) -> dict[str, np.ndarray]:
        """Returns so many drawn transitions, by column."""
        chosen = generator.integers(len(self), size=shape)
        return {name: column[chosen] for name, column in self.columns.items()}


class OffPolicyAgent(Agent):
    """Learns positions from a replay, with the lower of two critics' values."""

    is_continuous = True
    learning_rate = 1e-3

    num_noises: ClassVar[int]
    """Standard normal numbers that learning from one transition takes."""

    actor: keras.Model
    """From observations to what `policy` ends in."""

    def __init__(self, episodes: Episodes, settings: AgentSettings, *, seed: int = 0):
        super().__init__(episodes, settings, seed=seed)
        self.actor = self.create_actor()
        self.critics = [self._critic(f"critic_{index}") for index in range(2)]
        self.slow_critics = [self._critic(f"slow_critic_{index}") for index in range(2)]
        for slow, critic in zip(self.slow_critics, self.critics, strict=True):
            slow.set_weights(critic.get_weights())
        self._of_critics = [v for each in self.critics for v in each.trainable_weights]
        self._adam_actor = self.optimizer(self.actor.trainable_variables)
        self._adam_critics = self.optimizer(self._of_critics)
        self.replay = Replay(
            min(CAPACITY, settings.num_steps), episodes.observation_size
        )

    @abc.abstractmethod
    def create_actor(self) -> keras.Model:
        """Returns what acts; sets `policy`."""

    @abc.abstractmethod
    def explore(self, seen: np.ndarray) -> np.ndarray:
        """Returns actions (num_envs, 1) to learn from."""

    @abc.abstractmethod
    def learn_batch(self, batch: Mapping[str, Any], noise: Any, number: Any) -> Any:
        """Learns from transitions; returns the critics' loss.

        Args:
            batch: Columns of the replay (batch, ..).
            noise: (num_noises, batch, 1) standard normal.
            number: Of the batch, counted from 0 after each step.
        """

    def _critic(self, name: str) -> keras.Model:
        size = self.episodes.observation_size + 1
        return self.network(size, (1, 1.0, None), activation="relu", name=name)

    def act(self, seen: np.ndarray) -> np.ndarray:
        """Returns positions (batch,) without exploring."""
        return self._policy(seen).numpy()[:, 0]

    @tf.function(reduce_retracing=True)
    def _policy(self, seen: Any) -> Any:
        return self.policy(seen)

    def advance(self) -> dict[str, float]:
        """Takes `BARS` steps of each environment, learning after each."""
        total, loss = 0.0, math.nan
        for _ in range(BARS):
            if self.steps < WARM_UP:
                shape = (self.episodes.num_envs, 1)
                total += self._step(self.generator.uniform(-1.0, 1.0, shape))
                continue
            total += self._step(self.explore(self.seen))
            batches = self.replay.sample(self.generator, (UPDATES, BATCH))
            noises = self.generator.standard_normal(
                (UPDATES, self.num_noises, BATCH, 1), np.float32
            )
            loss = self._learn(batches, noises)
        return {"reward": total / BARS, "loss": float(loss)}

    @tf.function
    def _learn(self, batches: Mapping[str, Any], noises: Any) -> Any:
        """Learns from all batches of a step in one call; returns the last loss."""
        loss = 0.0
        for number in tf.range(UPDATES):
            batch = {name: column[number] for name, column in batches.items()}
            loss = self.learn_batch(batch, noises[number], number)
        return loss

    def _step(self, taken: np.ndarray) -> float:
        episodes = self.episodes
        reward, is_terminated, is_truncated = episodes.step(taken[:, 0])
        earned, following = reward / episodes.reward_scale, episodes.observe()
        self.replay.add(
            seen=self.seen,
            taken=taken,
            earned=earned,
            following=following,
            is_end=is_terminated,  # behind a truncated one there is still a value
        )
        is_over = is_terminated | is_truncated
        self.seen = episodes.reset(is_over) if is_over.any() else following
        self.steps += episodes.num_envs
        return float(earned.mean())

    # Values

    def least(self, critics: list[keras.Model], seen: Any, action: Any) -> Any:
        """Returns the lowest value (batch,) that critics give to actions (batch, 1)."""
        inputs = tf.concat([seen, action], axis=1)
        return tf.reduce_min(tf.concat([each(inputs) for each in critics], 1), axis=1)

    def learn_values(self, seen: Any, taken: Any, wanted: Any) -> Any:
        """Moves the critics towards values (batch,); returns their loss."""
        inputs = tf.concat([seen, taken], axis=1)
        with tf.GradientTape() as tape:
            loss = tf.add_n(
                [
                    tf.reduce_mean((critic(inputs)[:, 0] - wanted) ** 2)
                    for critic in self.critics
                ]
            )
        gradients = tape.gradient(loss, self._of_critics)
        self._adam_critics.apply(gradients, self._of_critics)
        return loss

    def follow(self, slow: list[keras.Model], fast: list[keras.Model]) -> None:
        """Moves each slow network a little towards its fast one."""
        for old, new in zip(slow, fast, strict=True):
            for before, now in zip(old.weights, new.weights, strict=True):
                before.assign_add(TAU * (now - before))

    # Exact resume

    def variables(self) -> list[Any]:
        """Returns weights of actor, critics and their slow copies, the optimizers'."""
        found = [*self.actor.weights, *self._of_critics]
        found += [weight for each in self.slow_critics for weight in each.weights]
        return [*found, *self._adam_actor.variables, *self._adam_critics.variables]

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the replay, too."""
        filled = {f"replay_{k}": v[: len(self.replay)] for k, v in self._replayed()}
        return super().arrays() | filled

    def state(self) -> dict[str, Any]:
        """Returns the number of transitions, too."""
        return super().state() | {"transitions": self.replay.count}

    def restore(
        self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]
    ) -> None:
        """Goes on from what `arrays` and `state` returned."""
        super().restore(arrays, state)
        self.replay.count = int(state["transitions"])
        for name, column in self._replayed():
            column[: len(self.replay)] = arrays[f"replay_{name}"]

    def _replayed(self) -> Any:
        return self.replay.columns.items()
