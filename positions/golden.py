"""What a policy took of some observations of validation, to prove a model by.

In: windows, what the account held before them, the positions taken. Out: golden rows of
models without an account (`signals.golden`), opening (`predictor`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from artifacts.manifest import refuse_broken
from artifacts.run_folder import RunFolder
from data_loader import TrainingData
from evaluation.policies import Policy, PositionPolicy
from files.strict import write_json
from rl.accounts import Account
from rl.simulator import ACCOUNT_NUMBERS, Holdings
from signals.golden import TOLERANCE, GoldenRows

if TYPE_CHECKING:
    from rl.adapter import AgentAdapter


def write_golden(
    run: RunFolder, data: TrainingData, adapter: AgentAdapter, held: Account
) -> None:
    """Writes `golden_{tag}.json`: what was held after some rows of validation."""
    if data.golden_windows is None:
        return
    numbers = numbers_of(
        held,
        adapter.market_of(data).returns,
        scale=adapter.market_of(data).scale,
        episode_bars=adapter.trained.around.episode_bars,
    )
    at = np.searchsorted(held.rows, data.golden_rows)
    position = held.position[at]
    golden = GoldenObservations(
        times=pd.DatetimeIndex(data.timeline.at(data.golden_rows), tz="UTC"),
        windows=data.golden_windows,
        raw=PositionPolicy().scores(position),
        answers=position[:, None],
        signals=PositionPolicy().signals(position),
        numbers=numbers[at],
    )
    write_json(run.file("golden", ".json"), golden.to_dict())


def numbers_of(
    held: Account, returns: np.ndarray, *, scale: float, episode_bars: int
) -> np.ndarray:
    """Returns what an account saw of itself before each decision (num_bars, 3).

    Args:
        held: Positions it took.
        returns: Log returns of all rows of the market.
        scale: See `Holdings.seen`.
        episode_bars: The same.
    """
    holdings = Holdings(1)
    found = np.empty((len(held.rows), ACCOUNT_NUMBERS), np.float32)
    last = None
    for k, row in enumerate(held.rows):
        if last is not None and row != last + 1:
            holdings.clear()
        found[k] = holdings.seen(scale=scale, episode_bars=episode_bars)[0]
        holdings.hold(held.position[k : k + 1])
        holdings.unrealised += held.position[k] * returns[row]
        last = row
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenObservations(GoldenRows):
    """Golden rows whose answers follow from an account, too.

    Args:
        numbers: What the account saw of itself (num_windows, 3) float32.
    """

    numbers: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns strict JSON; see `GoldenRows.to_dict`."""
        numbers = [[float(each).hex() for each in row] for row in self.numbers]
        return super().to_dict() | {"account": numbers}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: object) -> Self:
        """Restores golden observations from `to_dict`.

        Raises:
            RefusedArtifactError: If the values are not those of golden observations.
        """
        rows = GoldenRows.from_dict(values, where)
        with refuse_broken(f"{where}: expected golden rows of an account"):
            numbers = np.array(
                [[float.fromhex(x) for x in row] for row in values["account"]],
                np.float32,
            )
            if numbers.shape != (len(rows.windows), ACCOUNT_NUMBERS):
                raise ValueError(f"account numbers of shape {numbers.shape}")
            if not np.isfinite(numbers).all():
                raise ValueError("expected rows of finite numbers")
        return cls(
            times=rows.times,
            windows=rows.windows,
            raw=rows.raw,
            answers=rows.answers,
            signals=rows.signals,
            numbers=numbers,
        )

    def check(
        self,
        say: Callable[..., np.ndarray],
        policy: Policy,
        where: object,
        *,
        tolerance: float = TOLERANCE,
    ) -> float:
        """Returns how far positions are at most from those of the run.

        Args:
            say: Returns shares of SHORT, HOLD, LONG for windows that are not scaled,
                and what the account saw of itself.
            policy: As in `GoldenRows.check`.
            where: Named in the refusal.
            tolerance: Most that is allowed.

        Raises:
            RefusedArtifactError: If one is further.
        """
        seen = iter(self.numbers)

        def say_next(window: np.ndarray) -> np.ndarray:
            return say(window, next(seen)[None])

        return super().check(say_next, policy, where, tolerance=tolerance)
