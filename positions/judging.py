"""What an account came to, how sure that is, and what no agent would have earned.

In: accounts of a part's rows, an agent's and those of baselines. Out: the accounts
themselves (`rl.accounts`), what is claimed (`claims`), the types (`results`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.trading import DAYS_PER_YEAR, daily_metrics, equity_metrics
from metrics import significance
from metrics.intervals import Length, cosine_interval, paired_test
from rl.accounts import Account, account_of
from rl.simulator import Market

CONSTANT = {"flat": 0.0, "always_long": 1.0, "always_short": -1.0}
"""Baselines: the position that each holds, closed where a stretch of rows ends."""

BUY_AND_HOLD = "buy_and_hold"
"""Long from the first close to the last, through gaps, too."""

_CURVE_POINTS = 300


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Rows of a part that can be held, and what holding costs there.

    Attributes:
        market: Returns of all rows.
        pieces: From `accounts.stretches`.
        times: Open of each of their bars (num_bars,) datetime64.
        close: (num_bars + 1,) their closes, and that behind the last one.
        cost: Paid for each unit of position changed.
        bar_seconds: Of one bar.
    """

    market: Market
    pieces: list[tuple[int, int]]
    times: np.ndarray
    close: np.ndarray
    cost: float
    bar_seconds: float

    @property
    def length(self) -> Length:
        """How long it is; what a position earns looks one bar ahead."""
        return Length.of(len(self.times), horizon_bars=1, bar_seconds=self.bar_seconds)

    def account(self, position: np.ndarray) -> Account:
        """Returns what positions (num_bars,) came to."""
        return account_of(position, self.market, self.pieces, self.cost)

    def constant(self) -> dict[str, Account]:
        """Returns the accounts of `CONSTANT`, and of buying once."""
        found = {
            name: self.account(np.full(len(self.times), side))
            for name, side in CONSTANT.items()
        }
        rows, paid = found["flat"].rows, np.zeros(len(self.times))
        paid[0] += self.cost
        paid[-1] += self.cost
        ones, gross = np.ones(len(paid)), np.diff(np.log(self.close.astype(np.float64)))
        held = Account(rows=rows, position=ones, gross=gross, cost=paid)
        return found | {BUY_AND_HOLD: held}


def judge(
    held: Account,
    stretch: Stretch,
    *,
    beside: Mapping[str, Account] | None = None,
    num_trials: int = 1,
) -> dict[str, Any]:
    """Returns what an account came to beside others of the same rows.

    Args:
        held: The account, of all rows of the stretch.
        stretch: Where it lived.
        beside: Accounts of other policies, by name; constant ones are always there.
        num_trials: Agents that were trained for this one: seeds, runs before it.

    Returns:
        The keys of `results.AgentPart` but `spread`, ready for JSON.
    """
    others = {**stretch.constant(), **(beside or {})}
    net, length = held.net, stretch.length
    daily = daily_returns(net, stretch.times)
    best = max(CONSTANT, key=lambda name: float(others[name].net.sum()))
    least = significance.minimum_detectable_sharpe(length, num_trials=num_trials)
    moved = held.position != 0
    return {
        "first": f"{stretch.times[0]}Z",
        "last": f"{stretch.times[-1]}Z",
        "length": {"days": length.days, "horizons": length.horizons},
        "num_samples": len(net),
        **came_to(held, stretch),
        "gross_bps": 1e4 * float(held.gross.mean()),
        "cost_bps": 1e4 * float(held.cost.mean()),
        "num_changes": int(np.count_nonzero(held.changes())),
        "long_pct": 100.0 * float((held.position > 0).mean()),
        "flat_pct": 100.0 * float((~moved).mean()),
        "short_pct": 100.0 * float((held.position < 0).mean()),
        "intervals": {
            "net_bps": cosine_interval(1e4 * net, length=length),
            "sharpe": significance.sharpe_interval(
                daily, periods_per_year=DAYS_PER_YEAR, length=length
            ),
        },
        "probabilistic_sharpe": significance.probabilistic_sharpe(daily),
        "deflated_sharpe": significance.deflated_sharpe(daily, num_trials=num_trials),
        "num_variants_tried": num_trials,
        "minimum_detectable_sharpe": None
        if least is None
        else math.sqrt(DAYS_PER_YEAR) * least,
        "baselines": {name: came_to(each, stretch) for name, each in others.items()},
        "comparisons": {
            key: {
                "baseline": name,
                "net_difference": _against(net, others[name].net, length),
            }
            for key, name in ({"best_baseline": best} | {k: k for k in others}).items()
        },
        "curve": _curve(held, others, stretch),
    }


def came_to(held: Account, stretch: Stretch) -> dict[str, Any]:
    """Returns the keys of `results.Beside`."""
    net = held.net
    equity = np.exp(np.concatenate([[0.0], np.cumsum(net)]))
    of_days = daily_metrics(daily_returns(net, stretch.times))
    return {
        **equity_metrics(equity, num_days=stretch.length.days),
        # A loss of -0 is none.
        **{
            key: None if value is None else value + 0.0
            for key, value in of_days.items()
        },
        "net_bps": 1e4 * float(net.mean()),
        "turnover": held.turnover,
        "exposure_pct": 100.0 * float(np.abs(held.position).mean()),
    }


def daily_returns(net: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns what log returns (num_bars,) come to on each UTC day (num_days,)."""
    days = times.astype("datetime64[D]").astype(np.int64)
    return np.expm1(np.bincount(days - days[0], weights=net))


def _against(net: np.ndarray, other: np.ndarray, length: Length) -> dict[str, Any]:
    """Returns the paired difference of net returns a bar, in basis points."""
    if np.array_equal(net, other):  # it is that baseline
        nothing = dict.fromkeys(("low", "high", "standard_error", "num_cosines"))
        return {"estimate": 0.0, **nothing, "p_value": None}
    # A loss is what was not earned: the first is better where the difference is below.
    return paired_test(-1e4 * other, -1e4 * net, length=length)


def _curve(
    held: Account, others: Mapping[str, Account], stretch: Stretch
) -> dict[str, Any]:
    """Returns equity and position at evenly spaced closes."""
    count = min(_CURVE_POINTS, len(held.rows))
    rows = np.linspace(0, len(held.rows) - 1, count).round().astype(np.int64)
    # Held from this close on: what it came to is known one bar later.
    known = stretch.times[rows].astype("M8[s]") + round(2 * stretch.bar_seconds)
    equity = np.exp(np.cumsum(held.net))
    peaks = np.maximum.accumulate(np.maximum(equity, 1.0))
    firsts = np.concatenate([[0], rows[:-1] + 1])
    sums = np.add.reduceat(held.position, firsts)
    return {
        "time": [f"{moment}Z" for moment in known],
        "close": stretch.close[rows + 1],
        "position": sums / np.diff(np.concatenate([firsts, [len(held.rows)]])),
        "equity": equity[rows],
        "equity_before_costs": np.exp(np.cumsum(held.gross))[rows],
        "drawdown_pct": 100.0 * (1.0 - equity / peaks)[rows],
        "baselines": {
            name: np.exp(np.cumsum(each.net))[rows] for name, each in others.items()
        },
    }
