"""What is said of an agent: its settings, history, choice; and taken back from there.

In: `Described`, the section `agent` of a model's description, checked in full when it
is read. Out: files (`adapter`), learning (`training`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from artifacts.array_models import expect
from config import Config
from files.progress import in_words
from rl.simulator import ACCOUNT_NUMBERS, NUM_ACTIONS, Market
from utils import counted

if TYPE_CHECKING:
    from rl.agent import AgentSettings
    from rl.markets import Embedding
    from rl.training import MarketSettings, TrainedAgent

_MOST_CANDIDATES = 10_000
_MOST_INPUTS = 100_000


def settings(config: Config) -> AgentSettings:
    """Returns the sizes of a run's agents."""
    from rl.agent import AgentSettings

    return AgentSettings(
        hidden=config.agent_hidden,
        learning_rate=config.agent_learning_rate,
        gamma=config.gamma,
        num_steps=config.agent_steps,
    )


def surroundings(config: Config) -> MarketSettings:
    """Returns what a run's agents act in."""
    from rl.training import MarketSettings

    return MarketSettings(
        cost=1e-4 * (config.fee_bps + config.slippage_bps),
        episode_bars=config.agent_episode_bars,
        num_envs=config.agent_envs,
        dead_band=config.agent_dead_band,
    )


def history_of(trained: TrainedAgent) -> dict[str, list[float]]:
    """Returns a value for each checkpoint, seed after seed; NaN is not known."""
    rows = [
        {
            "loss": math.nan if each.loss is None else each.loss,
            "val_loss": -each.mean_bps,
            "reward": math.nan if each.reward is None else each.reward,
            "val_net_bps": each.mean_bps,
            "val_t_value": each.t_value,
            "seed": float(each.seed),
            "steps": float(each.steps),
        }
        for each in trained.candidates
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def words_of(trained: TrainedAgent, seconds: float) -> str:
    """Returns what came of a training, for its log."""
    best, seeds = trained.best, len(trained.best_of_seeds())
    found = f"{best.mean_bps:+.3f} bps a bar on validation, t {best.t_value:+.2f}"
    if trained.chosen is None:
        end = f"not sure enough (t {trained.needed:.2f} needed): it stays flat"
    else:
        end = f"seed {best.seed} after {best.steps:,} steps is kept"
    return (
        f"trained {counted(seeds, 'agent', 'agents')} in {in_words(seconds)}; best of "
        f"{len(trained.candidates)} checkpoints: {found}; {end}"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingUnits:
    """Units of what a frozen network sees.

    Attributes:
        family: Of the network.
        center: (num_inputs,) float32; see `Embedding`.
        spread: (num_inputs,) float32.
    """

    family: str
    center: np.ndarray
    spread: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Described:
    """What an agent needs beside its weights, and what is told of it.

    Attributes:
        algorithm: Name of the family.
        num_inputs: Numbers that it sees beside its account.
        scale: Unit of rewards.
        around: Of `MarketSettings`, by name.
        needed: See `TrainedAgent`.
        candidates: Facts of each checkpoint.
        published: Place of the one whose weights are published.
        is_flat: Whether these say no position, whatever they see.
        embedding: Units of what a frozen network sees; None where it sees the rows.
    """

    algorithm: str
    num_inputs: int
    scale: float
    around: Mapping[str, Any]
    needed: float
    candidates: list[dict[str, Any]]
    published: int
    is_flat: bool
    embedding: EmbeddingUnits | None

    @classmethod
    def of(
        cls,
        trained: TrainedAgent,
        market: Market,
        embedding: Embedding | None,
        *,
        family: str,
    ) -> Self:
        """Describes what was trained on a market, below it a network of a family."""
        units = None
        if embedding is not None and embedding.center is not None:
            assert embedding.spread is not None  # noqa: S101
            units = EmbeddingUnits(
                family=family, center=embedding.center, spread=embedding.spread
            )
        return cls(
            algorithm=trained.algorithm,
            num_inputs=market.features.shape[1],
            scale=market.scale,
            around=asdict(trained.around),
            needed=trained.needed,
            candidates=[each.facts() for each in trained.candidates],
            published=trained.candidates.index(trained.best),
            is_flat=trained.chosen is None,
            embedding=units,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON, what decides bits as hexadecimal floats."""
        units = None
        if self.embedding is not None:
            units = {
                "family": self.embedding.family,
                "center": _hexadecimal(self.embedding.center),
                "spread": _hexadecimal(self.embedding.spread),
            }
        return {
            "is_flat": self.is_flat,
            "agent": {
                "num_inputs": self.num_inputs,
                "scale": self.scale.hex(),
                "around": dict(self.around),
                "needed_t_value": self.needed,
                "published": self.published,
                "candidates": self.candidates,
                "embedding": units,
            },
        }

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """Restores what `to_dict` said.

        Raises:
            ValueError: Or what else hostile values raise, if it is nothing of the kind.
        """
        from rl.training import ALGORITHMS

        agent, family = description["agent"], description["family"]
        expect(family in ALGORITHMS, f"one of {', '.join(ALGORITHMS)}")
        count = agent["num_inputs"]
        expect(type(count) is int and 0 < count <= _MOST_INPUTS, "numbers that it sees")
        scale = float.fromhex(agent["scale"])
        expect(math.isfinite(scale) and scale > 0, "a scale above 0")
        candidates = agent["candidates"]
        expect(0 < len(candidates) <= _MOST_CANDIDATES, "checkpoints")
        published = agent["published"]
        expect(type(published) is int and 0 <= published < len(candidates), "one")
        expect(type(description["is_flat"]) is bool, "whether it is flat")
        units = agent["embedding"]
        return cls(
            algorithm=family,
            num_inputs=count,
            scale=scale,
            around=_read_surroundings(agent["around"]),
            needed=float(agent["needed_t_value"]),
            candidates=candidates,
            published=published,
            is_flat=description["is_flat"],
            embedding=None if units is None else _read_units(units, count),
        )

    def trained(self, policy: Any) -> TrainedAgent:
        """Returns the agent, with the weights of its published policy.

        Raises:
            ValueError: If the network has other layers or sizes.
        """
        from rl.checkpoints import Candidate
        from rl.training import ALGORITHMS, MarketSettings, TrainedAgent

        is_continuous = ALGORITHMS[self.algorithm].is_continuous
        weights = policy.get_weights()
        require_policy(policy, self.num_inputs, is_continuous=is_continuous)
        expect(all(np.isfinite(each).all() for each in weights), "finite weights")
        expect(not self.is_flat or not any(map(np.any, weights[-2:-1])), "no position")
        candidates = [
            Candidate(**facts, weights=weights if k == self.published else [])
            for k, facts in enumerate(self.candidates)
        ]
        return TrainedAgent(
            algorithm=self.algorithm,
            candidates=candidates,
            chosen=None if self.is_flat else candidates[self.published],
            needed=self.needed,
            around=MarketSettings(**self.around),
        )


def require_policy(policy: Any, num_inputs: int, *, is_continuous: bool) -> None:
    """Refuses a network that is not the arithmetic of `accounts.plain_policy`.

    Raises:
        ValueError: If it has other layers, activations or sizes.
    """
    num_outputs = 1 if is_continuous else NUM_ACTIONS
    sizes = ((None, num_inputs + ACCOUNT_NUMBERS), (None, num_outputs))
    expect((policy.input_shape, policy.output_shape) == sizes, f"sizes {sizes}")
    kinds = [type(layer).__name__ for layer in policy.layers]
    functions = [layer.activation.__name__ for layer in policy.layers if layer.weights]
    ends = ["Activation"] * (kinds[-1] == "Activation")
    expect(
        kinds == ["InputLayer", *["Dense"] * len(functions), *ends],
        "dense layers, one after another",
    )
    last = policy.layers[-1].activation.__name__
    hidden, end = ("relu", "tanh") if is_continuous else ("tanh", "softmax")
    expect(all(x == hidden for x in functions[:-1]), f"hidden layers of {hidden}")
    expect(last == end and (not ends or functions[-1] == "linear"), f"{end} at its end")


def _read_surroundings(values: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "cost": float(values["cost"]),
        "episode_bars": values["episode_bars"],
        "num_envs": values["num_envs"],
        "dead_band": float(values["dead_band"]),
    }
    expect(all(0 <= found[name] < 1 for name in ("cost", "dead_band")), "shares")
    for name in ("episode_bars", "num_envs"):
        value = found[name]
        expect(type(value) is int and 0 < value <= 10**6, f"a number of {name}")
    return found


def _read_units(values: Mapping[str, Any], count: int) -> EmbeddingUnits:
    center, spread = (
        np.array([float.fromhex(x) for x in values[name]], np.float32)
        for name in ("center", "spread")
    )
    is_finite = np.isfinite(center).all() and np.isfinite(spread).all()
    expect(center.shape == spread.shape == (count,) and is_finite, "units of each")
    expect((spread > 0).all(), "deviations above 0")
    return EmbeddingUnits(family=str(values["family"]), center=center, spread=spread)


def _hexadecimal(values: np.ndarray) -> list[str]:
    return [float(value).hex() for value in values]
