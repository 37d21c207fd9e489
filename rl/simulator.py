"""Episodes of one market, many side by side: `TradingSimulator`.

In: what an agent sees, what its position earns and costs, where an episode begins and
ends. Out: gymnasium's face (`environment`), learning (`ppo`, `sac`, `td3`).

Row `t` is known at the close of bar `t`. The position chosen there is held from that
close to the next one:

    reward[t] = position[t] * log(close[t + 1] / close[t])
                - cost * |position[t] - position[t - 1]|

An episode begins and ends without a position, and pays for closing it. Its end is not
an end of the market (gymnasium: truncated): what comes next still has a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ACCOUNT_NUMBERS = 3
"""Numbers of an observation beside the features: position, unrealised log return in
units of a bar's deviation, bars in position as a share of an episode. Neither of these
leaves what episodes show, however long an account goes on."""

NUM_ACTIONS, FLAT = 3, 1
"""SHORT, FLAT, LONG of a discrete agent, in the order of their ids; that of FLAT."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Market:
    """What episodes are cut from.

    Attributes:
        features: (num_rows, num_features) float32, scaled; known at the row's close.
        returns: (num_rows,) float64 log returns from the row's close to the next one;
            NaN where no next bar belongs to the same segment.
        scale: Deviation of a bar's log return, of training rows: the unit of rewards.
    """

    features: np.ndarray
    returns: np.ndarray
    scale: float

    def __post_init__(self) -> None:
        """Checks shapes and scale.

        Raises:
            ValueError: If they do not fit.
        """
        if len(self.features) != len(self.returns):
            raise ValueError(
                f"returns: expected {len(self.features)} rows. "
                f"Received: {len(self.returns)}"
            )
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale: expected above 0. Received: {self.scale}")

    def starts(self, rows: slice, episode_bars: int) -> np.ndarray:
        """Returns rows that an episode inside `rows` and one segment can begin at."""
        is_known = np.isfinite(self.returns[rows])
        known = np.concatenate([[0], np.cumsum(is_known)])
        whole = known[episode_bars:] - known[:-episode_bars] == episode_bars
        return np.flatnonzero(whole) + (rows.start or 0)


def position_after(
    actions: np.ndarray,
    position: np.ndarray,
    *,
    is_continuous: bool,
    dead_band: float,
) -> np.ndarray:
    """Returns the positions (num_envs,) that actions lead to from others.

    Args:
        actions: (num_envs,) ids of SHORT, FLAT, LONG, or positions.
        position: (num_envs,) before.
        is_continuous: Actions are positions.
        dead_band: See `TradingSimulator`.
    """
    if not is_continuous:
        return actions.astype(np.float64) - 1.0
    wanted = np.clip(actions.astype(np.float64), -1.0, 1.0)
    wanted[np.abs(wanted) < dead_band] = 0.0
    is_small = (np.abs(wanted - position) < dead_band) & (wanted != 0.0)
    return np.where(is_small, position, wanted)


class Holdings:
    """What accounts side by side hold, and what each sees of that.

    Attributes:
        position: (num_accounts,) in [-1, 1].
        unrealised: (num_accounts,) log returns since the position was opened, before
            costs.
        bars_held: (num_accounts,) bars since then.
    """

    def __init__(self, num_accounts: int) -> None:
        self.position = np.zeros(num_accounts)
        self.unrealised = np.zeros(num_accounts)
        self.bars_held = np.zeros(num_accounts, np.int64)

    def clear(self, which: np.ndarray | slice = slice(None)) -> None:
        """Leaves accounts without a position."""
        for column in (self.bars_held, self.position, self.unrealised):
            column[which] = 0

    def seen(self, *, scale: float, episode_bars: int) -> np.ndarray:
        """Returns `ACCOUNT_NUMBERS` (num_accounts, 3) float32.

        Args:
            scale: Unit of log returns.
            episode_bars: Unit of bars; who holds on for longer sees 1.
        """
        found = np.empty((len(self.position), ACCOUNT_NUMBERS), np.float32)
        found[:, 0] = self.position
        # In an episode a random walk comes to its root; more was hardly learned from.
        most = episode_bars**0.5
        found[:, 1] = np.clip(self.unrealised / scale, -most, most)
        found[:, 2] = np.minimum(self.bars_held / episode_bars, 1.0)
        return found

    def hold(self, target: np.ndarray) -> np.ndarray:
        """Takes positions for the next bar; returns how far each changed."""
        change = np.abs(target - self.position)
        is_new = np.sign(target) != np.sign(self.position)
        self.bars_held = np.where(is_new, 0, self.bars_held) + (target != 0.0)
        self.unrealised = np.where(is_new, 0.0, self.unrealised)
        self.position = target
        return change


class TradingSimulator:
    """Steps `num_envs` accounts through episodes of a market at once.

    Args:
        market: Features and returns.
        starts: Rows that episodes begin at (num_starts,).
        episode_bars: Bars of an episode.
        cost: Paid for each unit of position changed, a fraction of the amount.
        num_envs: Episodes side by side.
        seed: Of the starts.
        is_continuous: Actions are positions in [-1, 1], not ids of SHORT, FLAT, LONG.
        dead_band: Of continuous actions: a position smaller than this is none, and a
            change smaller than this is not made.

    Attributes:
        observation_size: Numbers of an observation.
        num_actions: Of a discrete agent.
        reward_scale: What rewards are learned in units of.
    """

    num_actions = NUM_ACTIONS

    def __init__(
        self,
        market: Market,
        starts: np.ndarray,
        *,
        episode_bars: int,
        cost: float,
        num_envs: int = 1,
        seed: int = 0,
        is_continuous: bool = False,
        dead_band: float = 0.1,
    ) -> None:
        if not len(starts):
            raise ValueError(
                f"starts: expected rows with {episode_bars} bars of one segment behind "
                "them. Received: none"
            )
        self.market, self.starts = market, np.asarray(starts, np.int64)
        self.episode_bars, self.cost = episode_bars, cost
        self.num_envs, self.is_continuous = num_envs, is_continuous
        self.dead_band = dead_band
        self.reward_scale = market.scale
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.rows = np.zeros(num_envs, np.int64)
        self.bars_left = np.zeros(num_envs, np.int64)
        self.holdings = Holdings(num_envs)
        self._num_features = market.features.shape[1]
        self.observation_size = self._num_features + ACCOUNT_NUMBERS

    def reset(self, which: np.ndarray | None = None) -> np.ndarray:
        """Begins new episodes; returns the observations (num_envs, observation_size).

        Args:
            which: (num_envs,) bool; None begins all.
        """
        which = np.ones(self.num_envs, bool) if which is None else which
        drawn = self.generator.integers(len(self.starts), size=int(which.sum()))
        self.rows[which] = self.starts[drawn]
        self.bars_left[which] = self.episode_bars
        self.holdings.clear(which)
        return self.observe()

    def observe(self) -> np.ndarray:
        """Returns what each account sees (num_envs, observation_size) float32."""
        seen = np.empty((self.num_envs, self.observation_size), np.float32)
        features = self.market.features
        seen[:, :-ACCOUNT_NUMBERS] = features[self.rows]
        seen[:, -ACCOUNT_NUMBERS:] = self.holdings.seen(
            scale=self.market.scale, episode_bars=self.episode_bars
        )
        return seen

    def targets(self, actions: np.ndarray) -> np.ndarray:
        """Returns the positions (num_envs,) that actions lead to."""
        return position_after(
            np.asarray(actions).reshape(self.num_envs),
            self.holdings.position,
            is_continuous=self.is_continuous,
            dead_band=self.dead_band,
        )

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Holds the positions that actions lead to for one bar.

        Args:
            actions: (num_envs,) ids, or positions.

        Returns:
            Log returns after costs (num_envs,), whether each episode terminated (none
            does) and whether it was truncated; `reset` those before the next step.
        """
        target = self.targets(actions)
        earned = target * self.market.returns[self.rows]
        cost = self.cost * self.holdings.hold(target)
        self.holdings.unrealised += earned
        self.rows += 1
        self.bars_left -= 1
        is_over = self.bars_left == 0
        cost += np.where(is_over, self.cost * np.abs(target), 0.0)
        self.holdings.clear(is_over)
        return earned - cost, np.zeros(self.num_envs, bool), is_over

    # Exact resume

    def state(self) -> dict[str, Any]:
        """Returns everything that decides what comes, ready for JSON."""
        return {
            "generator": self.generator.bit_generator.state,
            "rows": self.rows.tolist(),
            "bars_left": self.bars_left.tolist(),
            "bars_held": self.holdings.bars_held.tolist(),
            "position": [float(each).hex() for each in self.holdings.position],
            "unrealised": [float(each).hex() for each in self.holdings.unrealised],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` returned."""
        self.generator.bit_generator.state = state["generator"]
        self.rows, self.bars_left, self.holdings.bars_held = (
            np.array(state[name], np.int64)
            for name in ("rows", "bars_left", "bars_held")
        )
        self.holdings.position, self.holdings.unrealised = (
            np.array([float.fromhex(x) for x in state[name]])
            for name in ("position", "unrealised")
        )
