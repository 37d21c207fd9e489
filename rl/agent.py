"""What the algorithms share: the episodes they ask for, their networks, exact state.

In: one face for PPO, SAC and TD3, plain feed-forward networks. Out: what each
learns from (`ppo`, `off_policy`), the market (`simulator`).

Every random number comes from one NumPy generator, never from TensorFlow: a restored
agent draws what the first would have drawn.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import keras
import numpy as np


class Episodes(Protocol):
    """Environments side by side; see `TradingSimulator`."""

    num_envs: int
    observation_size: int
    num_actions: int
    reward_scale: float

    def reset(self, which: np.ndarray | None = None) -> np.ndarray:
        """Begins episodes; returns all observations."""

    def observe(self) -> np.ndarray:
        """Returns all observations."""

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rewards, which episodes terminated, which were truncated."""

    def state(self) -> dict[str, Any]:
        """Returns everything that decides what comes."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """What an agent is, apart from its algorithm.

    Attributes:
        hidden: Units of the hidden layers.
        learning_rate: Of Adam; None takes the algorithm's own.
        gamma: Weight of the next bar's value.
        num_steps: Steps of all environments together that will be learned from.
    """

    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float | None = None
    gamma: float = 0.99
    num_steps: int = 200_000


class Agent(abc.ABC):
    """Learns to act in episodes; the policy is what is published.

    Args:
        episodes: Where it acts.
        settings: Its sizes.
        seed: Of weights, exploration and the order of what it learns from.

    Attributes:
        policy: Keras network from observations (batch, observation_size) to
            probabilities of actions, or positions (batch, 1).
        steps: Steps of all environments together so far.
        told: What can be told of the newest `advance`.
    """

    is_continuous: ClassVar[bool]
    """Whether actions are positions in [-1, 1], not ids."""

    learning_rate: ClassVar[float]
    """Where the settings say none."""

    policy: keras.Model

    def __init__(self, episodes: Episodes, settings: AgentSettings, *, seed: int = 0):
        self.episodes, self.settings = episodes, settings
        self.generator = np.random.Generator(np.random.PCG64([seed, 1]))
        self.steps = 0
        self.told: dict[str, float | None] = {}
        self.seen = episodes.reset()

    @abc.abstractmethod
    def advance(self) -> dict[str, float]:
        """Acts for a while and learns from it; returns what can be told of it."""

    @abc.abstractmethod
    def variables(self) -> list[Any]:
        """Returns every variable that learning changes, optimizers' too, in order."""

    @abc.abstractmethod
    def act(self, seen: np.ndarray) -> np.ndarray:
        """Returns the actions (batch,) that it takes without exploring."""

    def learn(self) -> None:
        """Advances until `num_steps`."""
        while self.steps < self.settings.num_steps:
            self.advance()

    # Exact resume: arrays and JSON

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns arrays that decide what comes, by name."""
        found = {
            f"variable_{index}": np.asarray(variable)
            for index, variable in enumerate(self.variables())
        }
        return found | {"seen": self.seen}

    def state(self) -> dict[str, Any]:
        """Returns the rest, ready for JSON."""
        return {
            "steps": self.steps,
            "told": self.told,
            "episodes": self.episodes.state(),
            "generator": self.generator.bit_generator.state,
        }

    def restore(
        self, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]
    ) -> None:
        """Goes on from what `arrays` and `state` returned."""
        for index, variable in enumerate(self.variables()):
            variable.assign(arrays[f"variable_{index}"])
        self.seen, self.steps = arrays["seen"], int(state["steps"])
        self.told = dict(state["told"])
        self.episodes.restore(state["episodes"])
        self.generator.bit_generator.state = state["generator"]

    # Parts

    def network(
        self, num_inputs: int, *outputs: Any, activation: str, name: str
    ) -> keras.Model:
        """Returns a feed-forward network whose weights the agent's generator draws.

        Args:
            num_inputs: Numbers of an input.
            *outputs: For each output its units, the gain of its orthogonal weights, and
                its activation.
            activation: Of the hidden layers.
            name: Of the network and its layers.
        """

        def dense(units: int, gain: float, function: str | None, layer: str) -> Any:
            seed = int(self.generator.integers(2**31))
            weights = keras.initializers.Orthogonal(gain, seed=seed)
            return keras.layers.Dense(
                units, function, kernel_initializer=weights, name=layer
            )

        inputs = hidden = keras.Input((num_inputs,), name=f"{name}_input")
        for index, units in enumerate(self.settings.hidden):
            layer = dense(units, 2**0.5, activation, f"{name}_hidden_{index}")
            hidden = layer(hidden)
        said = [
            dense(units, gain, function, f"{name}_output_{index}")(hidden)
            for index, (units, gain, function) in enumerate(outputs)
        ]
        return keras.Model(inputs, said[0] if len(said) == 1 else said, name=name)

    def optimizer(self, variables: list[Any], **options: Any) -> keras.Optimizer:
        """Returns Adam for some variables, built."""
        rate = self.settings.learning_rate or self.learning_rate
        adam = keras.optimizers.Adam(rate, **options)
        adam.build(variables)
        return adam
