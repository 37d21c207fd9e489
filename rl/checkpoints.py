"""The complete state of a training of agents, in one file, restored bit for bit.

In: which candidates there are, which seed is in training, all of its agent. Out: what
an agent's state is (`agent`), the file's form (`artifacts.array_files`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from artifacts.array_files import read_checkpoint, write_checkpoint
from artifacts.manifest import parse_json, refuse_broken
from files.strict import sha256_json
from rl.agent import Agent
from rl.simulator import Market
from utils import RefusedArtifactError

logger = logging.getLogger(__name__)

FILE = "agents.ckpt"


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """The weights of a policy at a checkpoint, and what validation says of it.

    Attributes:
        seed: Of its training.
        steps: Of its training so far.
        mean_bps: Mean net return a bar on validation, basis points.
        t_value: That mean over its standard error.
        weights: Of its policy.
        reward: Mean reward a bar of the newest episodes, in units of a bar's deviation.
        loss: Of the newest batch; None where none was learned from yet.
    """

    seed: int
    steps: int
    mean_bps: float
    t_value: float
    weights: Sequence[np.ndarray]
    reward: float | None = None
    loss: float | None = None

    def facts(self) -> dict[str, Any]:
        """Returns all but the weights, ready for JSON."""
        return {name: getattr(self, name) for name in _FACTS}


def owner_of(market: Market, *settings: Any) -> str:
    """Returns a digest of all that decides what a training comes to."""
    content = hashlib.sha256(np.ascontiguousarray(market.features).view(np.uint8).data)
    content.update(np.ascontiguousarray(market.returns).view(np.uint8).data)
    return sha256_json([content.hexdigest(), market.scale, *settings])


class KeptTraining:
    """What an earlier process did of a training, and where this one writes it.

    Args:
        folder: Of the file; None keeps nothing.
        owner: Whose training it is (`owner_of`); None looks at anyone's.
        minutes: Least time between two states.

    Attributes:
        candidates: Those that are there.
    """

    def __init__(
        self, folder: Path | None, *, owner: str | None, minutes: float = 0.0
    ) -> None:
        self._path = None if folder is None else folder / FILE
        self._owner, self._minutes = owner, minutes
        self._saved_at = monotonic()
        self._state: Mapping[str, Any] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self.candidates: list[Candidate] = []
        if self._path is not None and self._path.is_file():
            self._read(self._path)

    def _read(self, path: Path) -> None:
        try:
            with refuse_broken(f"{path}: expected the state of this training"):
                found = read_checkpoint(path)
                state = parse_json(str(found.pop("state")).encode(), path)
                if self._owner not in (None, state["owner"]):
                    raise ValueError("that of another one")
                candidates = [
                    Candidate(
                        **facts,
                        weights=[found.pop(f"weights_{k}_{j}") for j in range(count)],
                    )
                    for k, (count, facts) in enumerate(state["candidates"])
                ]
        except RefusedArtifactError as error:
            logger.warning("%s. The training begins anew.", str(error).rstrip("."))
            return
        self.candidates, self._state, self._arrays = candidates, state, found

    def restore(self, agent: Agent, seed: int) -> None:
        """Gives the agent of a seed what was kept of it, if that was in training."""
        if self._state.get("seed") == seed:
            agent.restore(self._arrays, self._state["agent"])
        self._arrays = {}  # the memory is wanted

    def offer(self, agent: Agent, seed: int, *, is_due: bool = False) -> None:
        """Writes the state down, when it is time or `is_due`."""
        is_due |= monotonic() - self._saved_at >= 60 * self._minutes
        if self._path is None or not is_due:
            return
        told = [[len(each.weights), each.facts()] for each in self.candidates]
        state = {"owner": self._owner, "seed": seed, "agent": agent.state()}
        content = dict(agent.arrays())
        for k, each in enumerate(self.candidates):
            for j, weight in enumerate(each.weights):
                content[f"weights_{k}_{j}"] = weight
        content["state"] = np.asarray(json.dumps(state | {"candidates": told}))
        write_checkpoint(self._path, content)
        self._saved_at = monotonic()


_FACTS = ("seed", "steps", "mean_bps", "t_value", "reward", "loss")
