"""What a run builds on, and the agents that act on what is built.

In: the parents of a run, how an agent learns. Out: opening parents (`models.parents`),
which rows they leave to it (`preprocessing.inheritance`), learning (`rl.training`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from settings.label_fields import CLASS_TARGETS
from settings.network_fields import HYBRID, NETWORKS
from settings.part import Part, field
from settings.tree_fields import TABULAR_MODELS

AGENTS = ("ppo", "sac", "td3")
"""Model families that learn a position by acting in the market."""

STACK = "stack"
"""The one that weighs trained models."""

AGENT_CHECKPOINTS = 8
"""Times that validation looks at each seed of an agent, the last one at its end."""


_BUILT_IN = (*NETWORKS, *TABULAR_MODELS, *AGENTS, HYBRID, STACK)
_READ_BY = {
    "base_model": (*AGENTS, HYBRID),
    "rl_model": (HYBRID,),
    "init_from": NETWORKS,
    "members": (STACK,),
}


@dataclass(frozen=True, kw_only=True)
class StageFields(Part):
    """Stages that build on others.

    Attributes:
        base_model: Trained network whose embedding an agent sees and a hybrid starts
            from: a folder, or a registered model such as
            `cnn_lstm/ETHUSDT-1h-signal@champion`.
        rl_model: Trained agent that a hybrid starts from, named alike.
        init_from: Published network, named alike, whose weights a network begins
            with: of the same family, features, window and sizes, trained on rows before
            those that choose and test here.
        members: Trained models that `stack` weighs, named alike.
        stack_weights: How much each of them counts: all alike, those of the least loss
            on validation as far as they last, or chosen one after another.
        hybrid_class_weight: Weight of the classes' loss in a hybrid's; the rest is that
            of its position.
        hybrid_frozen_epochs: First epochs of a hybrid, in which its heads learn alone;
            then all layers do.
    """

    base_model: str | None = None
    rl_model: str | None = None
    init_from: str | None = None
    members: tuple[str, ...] = ()
    stack_weights: str = field("convex", choices=("convex", "equal", "greedy"))
    hybrid_class_weight: float = field(0.5, ge=0, le=1)
    hybrid_frozen_epochs: int = field(3, ge=0)

    def problems(self) -> list[str]:
        """Returns which member is named twice."""
        twice = [name for name in self.members if self.members.count(name) > 1]
        if not twice:
            return []
        return [f"members: expected each once. Received: {twice[0]!r} twice"]

    def stage_problems(
        self, values: Mapping[str, Any], *, has_folds: bool
    ) -> list[str]:
        """Returns what does not suit a model that is made from trained ones.

        Args:
            values: Fields of the run by name.
            has_folds: Whether it has folds.
        """
        model = values["model"]
        problems = [
            f"{name}: expected none with model {model!r}, which builds on no other "
            f"model so. Received: {values[name]!r}"
            for name, families in _READ_BY.items()
            if values[name] and model in _BUILT_IN and model not in families
        ]
        if values["init_from"] and has_folds:
            problems.append(
                "init_from: expected none with folds, whose tests it has learned from. "
                f"Received: {values['init_from']!r}"
            )
        if model != STACK:
            return problems
        loss = values["loss"]
        if has_folds:
            problems.append(
                "n_splits, cv_test_days: expected none with model 'stack', whose "
                "members have learned from the rows that folds are tested on"
            )
        if loss is not None:
            problems.append(
                f"loss: expected none with model 'stack'. Received: {loss!r}. Its "
                "weights are learned by log-loss, of numbers by squared error."
            )
        if values["sample_weights"] != "uniform":
            problems.append(
                "sample_weights: expected 'uniform' with model 'stack', whose members "
                f"are trained. Received: {values['sample_weights']!r}"
            )
        return problems


@dataclass(frozen=True, kw_only=True)
class AgentFields(Part):
    """Agents: ppo, sac, td3.

    Attributes:
        agent_steps: Bars that each seed learns from, of all environments together.
        agent_seeds: Trainings with seeds of their own, made from `seed`; validation
            chooses among all of them, and no position at all.
        agent_hidden: Units of the hidden layers of policy and critics; two of 64 as in
            Schulman et al. 2017.
        gamma: Weight of the next bar's value; 0.99 as in the papers of all three.
        agent_learning_rate: Step size of Adam. None: 0.0003 of ppo, 0.001 of sac and
            td3.
        agent_episode_bars: Bars of an episode; it begins at a random training bar.
        agent_envs: Episodes side by side: 64 are worth 26 times one, as networks answer
            a batch in the time of a row.
        agent_dead_band: Of sac and td3: a position smaller than this is none, and a
            change smaller than this is not made.
    """

    agent_steps: int = field(200_000, ge=1, le=10**9)
    agent_seeds: int = field(3, ge=1, le=100)
    agent_hidden: tuple[int, ...] = field((64, 64), ge=1, le=4096)
    gamma: float = field(0.99, ge=0, lt=1)
    agent_learning_rate: float | None = field(None, gt=0, le=1)
    agent_episode_bars: int = field(240, ge=2, le=100_000)
    agent_envs: int = field(64, ge=1, le=10_000)
    agent_dead_band: float = field(0.1, ge=0, lt=1)

    def problems(self) -> list[str]:
        """Returns that a policy without a hidden layer is none of these."""
        if self.agent_hidden:
            return []
        return ["agent_hidden: expected at least one layer. Received: ()"]

    def agent_problems(
        self, values: Mapping[str, Any], *, has_folds: bool
    ) -> list[str]:
        """Returns what an agent, which learns from its own account, cannot do.

        Args:
            values: Fields of the run by name.
            has_folds: Whether it has folds.
        """
        model, target = values["model"], values["target"]
        if model not in AGENTS:
            return []
        wanted: dict[str, tuple[Any, str]] = {
            "loss": (None, "none, because it learns from what its account earns"),
            "monitor": ("val_loss", "'val_loss', minus the net return on validation"),
            "position_sizing": ("full", "'full', because it chooses its positions"),
            "funding_bps_per_day": (0.0, "0, because its account pays no funding"),
            "sample_weights": ("uniform", "'uniform', because it learns from episodes"),
        }
        problems = [
            f"{name}: expected {words}, of model {model!r}. Received: {values[name]!r}"
            for name, (only, words) in wanted.items()
            if values[name] != only
        ]
        if target not in CLASS_TARGETS:
            problems.append(
                f"target: expected one with classes for model {model!r}, whose "
                f"positions are shares of SHORT, HOLD, LONG. Received: {target!r}"
            )
        if has_folds:
            problems.append(
                f"n_splits, cv: expected no folds of model {model!r}, whose seeds are "
                "its repetitions. Received: folds"
            )
        return problems
