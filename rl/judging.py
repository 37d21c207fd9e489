"""What an account came to, how sure that is, and what no agent would have earned.

In: one account of a part's rows and those of constant positions. Out: the account
itself (`accounts`), which agent it is of (`training`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.trading import DAYS_PER_YEAR, daily_metrics, equity_metrics
from metrics import significance
from metrics.intervals import Length, cosine_interval, paired_test
from rl.accounts import Account, account_of
from rl.simulator import Market

CONSTANT = {"always_short": -1.0, "flat": 0.0, "always_long": 1.0}
"""Baselines: the position that each holds. A long one is buy and hold."""

_MOST_ALIKE = 0.99


def judge(
    held: Account,
    market: Market,
    pieces: Sequence[tuple[int, int]],
    times: np.ndarray,
    *,
    cost: float,
    bar_seconds: float,
    num_trials: int = 1,
) -> dict[str, Any]:
    """Returns what an account came to beside constant positions.

    Args:
        held: The account, of all rows of the pieces.
        market: Their returns.
        pieces: From `accounts.stretches`.
        times: Open of each bar (num_bars,) datetime64.
        cost: Paid for each unit of position changed.
        bar_seconds: Of one bar.
        num_trials: Agents that were trained for this one: seeds, runs before it.

    Returns:
        Ready for JSON: `num_bars`, `first`, `last`; `net_bps`, `gross_bps`, `cost_bps`
        a bar, the first with an interval in `intervals`; `turnover` (mean change of
        position a bar), `exposure_pct`, `long_pct`, `short_pct`; the keys of
        `results.Equity`, the Sharpe ratio with an interval, too; `probabilistic_sharpe`
        and `deflated_sharpe`; `baselines`, the net of each of `CONSTANT`;
        `best_baseline`, and `against_best`, the paired difference of the net a bar,
        above 0 where the agent earned more; `warnings`.
    """
    net, num_bars = held.net, len(held.rows)
    length = Length.of(num_bars, horizon_bars=1, bar_seconds=bar_seconds)
    daily = daily_returns(net, times)
    constant = {
        name: account_of(np.full(num_bars, side), market, pieces, cost).net
        for name, side in CONSTANT.items()
    }
    best = max(constant, key=lambda name: float(constant[name].sum()))
    equity = np.exp(np.concatenate([[0.0], np.cumsum(net)]))
    return {
        "num_bars": num_bars,
        "first": str(times[0]),
        "last": str(times[-1]),
        "net_bps": 1e4 * float(net.mean()),
        "gross_bps": 1e4 * float(held.gross.mean()),
        "cost_bps": 1e4 * float(held.cost.mean()),
        "turnover": held.turnover,
        "exposure_pct": 100.0 * float(np.abs(held.position).mean()),
        "long_pct": 100.0 * float((held.position > 0).mean()),
        "short_pct": 100.0 * float((held.position < 0).mean()),
        **equity_metrics(equity, num_days=length.days),
        **daily_metrics(daily),
        "intervals": {
            "net_bps": cosine_interval(1e4 * net, length=length),
            "sharpe": significance.sharpe_interval(
                daily, periods_per_year=DAYS_PER_YEAR, length=length
            ),
        },
        "probabilistic_sharpe": significance.probabilistic_sharpe(daily),
        "deflated_sharpe": significance.deflated_sharpe(daily, num_trials=num_trials),
        "num_trials": num_trials,
        "baselines": {k: 1e4 * float(v.mean()) for k, v in constant.items()},
        "best_baseline": best,
        "against_best": _against(net, constant[best], length),
        "warnings": _warnings(held),
    }


def daily_returns(net: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Returns what log returns (num_bars,) come to on each UTC day (num_days,)."""
    days = times.astype("datetime64[D]").astype(np.int64)
    return np.expm1(np.bincount(days - days[0], weights=net))


def _against(net: np.ndarray, best: np.ndarray, length: Length) -> dict[str, Any]:
    """Returns the paired difference of net returns a bar, in basis points."""
    if np.array_equal(net, best):  # it is that baseline
        nothing = dict.fromkeys(("low", "high", "standard_error", "num_cosines"))
        return {"estimate": 0.0, **nothing, "p_value": None}
    # A loss is what was not earned: the first is better where the difference is below.
    return paired_test(-1e4 * best, -1e4 * net, length=length)


def _warnings(held: Account) -> list[str]:
    sides = {"SHORT": held.position < 0, "FLAT": held.position == 0}
    sides["LONG"] = held.position > 0
    return [
        f"{name} in {share:.1%} of the bars: a constant position"
        for name, share in ((k, float(v.mean())) for k, v in sides.items())
        if share > _MOST_ALIKE
    ]
