"""What a policy earns on rows of a market, one account, in order: `Account`.

In: positions of a policy bar after bar, what they earn and cost. Out: learning
(`agent`), whether it is sure (`positions.judging`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl.simulator import Holdings, Market, position_after

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


class LiveAccount:
    """One account of a policy, that sees after each bar what it holds.

    Args:
        act: The policy.
        scale: Unit of log returns, as in `Market`.
        episode_bars: Bars of an episode of its training: the unit of bars held.
        is_continuous: Actions are positions.
        dead_band: See `TradingSimulator`.
    """

    def __init__(
        self,
        act: Act,
        *,
        scale: float,
        episode_bars: int,
        is_continuous: bool,
        dead_band: float,
    ) -> None:
        self._act, self._holdings = act, Holdings(1)
        self._units: dict[str, Any] = {"scale": scale, "episode_bars": episode_bars}
        self._rules: dict[str, Any]
        self._rules = {"is_continuous": is_continuous, "dead_band": dead_band}

    @property
    def numbers(self) -> np.ndarray:
        """What it sees of what it holds (3,) float32; see `ACCOUNT_NUMBERS`."""
        return self._holdings.seen(**self._units)[0]

    def decide(self, features: np.ndarray) -> float:
        """Returns the position that it holds from this close on.

        Args:
            features: (num_features,) float32, of the bar that closed.
        """
        seen = np.concatenate([features, self.numbers], dtype=np.float32)
        actions = np.asarray(self._act(seen[None])).reshape(1)
        target = position_after(actions, self._holdings.position, **self._rules)
        self._holdings.hold(target)
        return float(target[0])

    def earn(self, log_return: float, *, num_bars: int = 1) -> None:
        """Takes what the price did until the next bar, or until one some bars on."""
        held = self._holdings
        held.unrealised += held.position * log_return
        held.bars_held += (num_bars - 1) * (held.position != 0.0)

    def close(self) -> None:
        """Leaves it without a position."""
        self._holdings.clear()


def live(
    account: LiveAccount,
    market: Market,
    pieces: Sequence[tuple[int, int]],
    *,
    cost: float,
) -> Account:
    """Returns what an account of a policy came to, without a position at each start."""
    held = [np.empty(0)]
    for first, stop in pieces:
        account.close()
        position = np.empty(stop - first)
        for bar, row in enumerate(range(first, stop)):
            position[bar] = account.decide(market.features[row])
            account.earn(market.returns[row])
        held.append(position)
    return account_of(np.concatenate(held), market, pieces, cost)


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
