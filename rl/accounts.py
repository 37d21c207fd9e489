"""What a policy earns on rows of a market, one account, in order: `Account`.

In: positions of a policy bar after bar, what they earn and cost. Out: learning
(`agent`), whether it is sure (`judging`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rl.simulator import Market, TradingSimulator

Act = Callable[[np.ndarray], np.ndarray]
"""From observations (batch, observation_size) to actions (batch,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Account:
    """Positions held from each row's close to the next, and what they came to.

    Attributes:
        rows: (num_bars,) rows of the market, ascending.
        position: (num_bars,) in [-1, 1].
        gross: (num_bars,) log returns before costs.
        cost: (num_bars,) costs; those of closing count to the last bar of a stretch.
    """

    rows: np.ndarray
    position: np.ndarray
    gross: np.ndarray
    cost: np.ndarray

    @property
    def net(self) -> np.ndarray:
        """Log returns after costs (num_bars,); their running sum is the log equity."""
        return self.gross - self.cost

    @property
    def turnover(self) -> float:
        """Mean change of position a bar, that of closing included."""
        return float(np.abs(self.changes()).sum() / max(1, len(self.rows)))

    def changes(self) -> np.ndarray:
        """Returns every change of position (num_changes,)."""
        pieces = np.split(self.position, np.flatnonzero(np.diff(self.rows) > 1) + 1)
        return np.concatenate([np.diff(piece, prepend=0, append=0) for piece in pieces])


def stretches(market: Market, rows: slice) -> list[tuple[int, int]]:
    """Returns first row and row after the last of what can be held without a gap."""
    is_known = np.isfinite(market.returns[rows]).astype(np.int8)
    edges = np.flatnonzero(np.diff(is_known, prepend=0, append=0)) + (rows.start or 0)
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]


def account_of(
    position: np.ndarray, market: Market, pieces: Sequence[tuple[int, int]], cost: float
) -> Account:
    """Returns what given positions came to.

    Args:
        position: (num_bars,) positions of all rows of the pieces.
        market: Returns.
        pieces: First row and row after the last of each stretch (`stretches`).
        cost: Paid for each unit of position changed.
    """
    rows = np.concatenate([np.arange(*piece) for piece in pieces] or [np.empty(0, int)])
    position = np.asarray(position, np.float64)
    paid, first = np.empty(len(rows)), 0
    for start, stop in pieces:
        part = slice(first, first + stop - start)
        paid[part] = cost * np.abs(np.diff(position[part], prepend=0.0))
        first = part.stop
        paid[first - 1] += cost * abs(position[first - 1])
    gross = position * market.returns[rows]
    return Account(rows=rows, position=position, gross=gross, cost=paid)


def live(
    act: Act,
    market: Market,
    pieces: Sequence[tuple[int, int]],
    *,
    cost: float,
    is_continuous: bool,
    dead_band: float,
) -> Account:
    """Returns what a policy came to, that sees its account after each bar."""
    held = [
        _live_one(act, market, piece, cost, is_continuous, dead_band)
        for piece in pieces
    ]
    return account_of(np.concatenate(held or [np.empty(0)]), market, pieces, cost)


def _live_one(
    act: Act,
    market: Market,
    piece: tuple[int, int],
    cost: float,
    is_continuous: bool,
    dead_band: float,
) -> np.ndarray:
    first, stop = piece
    simulator = TradingSimulator(
        market,
        np.array([first]),
        episode_bars=stop - first,
        cost=cost,
        is_continuous=is_continuous,
        dead_band=dead_band,
    )
    simulator.reset()
    position = np.empty(stop - first)
    for bar in range(stop - first):
        actions = act(simulator.observe())
        position[bar] = simulator.targets(actions)[0]
        simulator.step(actions)
    return position


def plain_policy(weights: Sequence[np.ndarray], *, is_continuous: bool) -> Act:
    """Returns the policy of a network as NumPy arithmetic, for one bar after another.

    A call takes 20 microseconds where one of TensorFlow takes 200. The same bits for
    one observation as for many.

    Args:
        weights: Kernel and bias of each layer, as `policy.get_weights()` has them.
        is_continuous: Hidden layers are rectified and actions are positions; else they
            are tanh and actions are the most probable ids.
    """
    layers = list(zip(weights[::2], weights[1::2], strict=True))

    def act_on(seen: np.ndarray) -> np.ndarray:
        hidden = seen
        for kernel, bias in layers[:-1]:
            hidden = hidden @ kernel + bias
            hidden = np.maximum(hidden, 0.0) if is_continuous else np.tanh(hidden)
        kernel, bias = layers[-1]
        said = hidden @ kernel + bias
        return np.tanh(said[:, 0]) if is_continuous else said.argmax(axis=1)

    return act_on
