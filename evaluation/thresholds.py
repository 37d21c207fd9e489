"""Choosing when to trade: a threshold for each side's probability or predicted return.

In: signals of given thresholds, and the search for these. Out: what else a run learns
on validation (`policies`), on which rows (`evaluate`), what a trade earns (`trading`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, NotRequired, TypedDict

import numpy as np

from config import HOLD, LONG, SHORT
from evaluation import trading
from evaluation.trading import TradeOutcomes, TradeRules

OBJECTIVES = ("net_return", "mean_net_return", "sharpe")
SIGNALLED_SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
"""Candidates of a side: thresholds that this share of the rows reaches; and never."""


class Pair(TypedDict):
    """What one pair of thresholds came to on validation."""

    short_share: float  # of the rows that reach it; 0: never
    long_share: float
    short_threshold: float | None  # None: never
    long_threshold: float | None
    num_trades: int
    objective: float | None
    objective_standard_error: float
    total_return_pct: float
    mean_net_return_bps: float | None


class Search(TypedDict):
    """The search for thresholds; the rest is missing where it was `skipped`."""

    statement: str  # how it ended, in words
    num_tried: int
    skipped: NotRequired[str]  # why there was none
    objective: NotRequired[str]
    turnover_penalty_bps: NotRequired[float]  # charged a side, in the search only
    min_trades: NotRequired[int]  # fewest of an eligible pair
    num_eligible: NotRequired[int]
    num_near_best: NotRequired[int]  # within a standard error of the best
    is_flat: NotRequired[bool]  # at least half of the eligible ones are
    short_threshold: NotRequired[float | None]  # None: never
    long_threshold: NotRequired[float | None]
    best_objective: NotRequired[float | None]
    tried: NotRequired[list[Pair]]


def threshold_signals(
    probabilities: np.ndarray, *, short: float | None, long: float | None
) -> np.ndarray:
    """Returns SHORT, HOLD or LONG for each row (num_rows,) int8.

    A side is signalled where its probability, or its score, reaches its threshold;
    where both do, the more probable side, and HOLD if they are equal. A threshold of
    None is never reached.
    """
    p_short, p_long = probabilities[:, SHORT], probabilities[:, LONG]
    wants_short = p_short >= (math.inf if short is None else short)
    wants_long = p_long >= (math.inf if long is None else long)
    signals = np.full(len(probabilities), HOLD, dtype=np.int8)
    signals[wants_short & (~wants_long | (p_short > p_long))] = SHORT
    signals[wants_long & (~wants_short | (p_long > p_short))] = LONG
    return signals


def search_thresholds(
    probabilities: np.ndarray,
    outcomes: TradeOutcomes,
    *,
    rules: TradeRules,
    sizes: np.ndarray | None = None,
    objective: str = "net_return",
    turnover_penalty_bps: float = 0.0,
    min_trades: int = 30,
) -> dict[str, Any]:
    """Tries every pair of candidate thresholds and chooses the best, or no trade.

    A pair with fewer than `min_trades` trades is not eligible. Nothing is traded unless
    the best eligible objective is above 0. The optimum is called flat where at least
    half of the eligible pairs lie within one standard error of the best.
    Source of the standard error of a Sharpe ratio: Lo (2002), "The statistics of
    Sharpe ratios", for independent returns.

    Args:
        probabilities: From `Policy.scores`, in time order (num_rows, 3).
        outcomes: What came of each row.
        rules: Bar length and costs.
        sizes: Fraction of equity for a SHORT and a LONG at each row (num_rows, 2).
        objective: One of `OBJECTIVES`: total net return, net return a trade, or the
            annualised Sharpe ratio of daily sums.
        turnover_penalty_bps: Charged a side on top of the costs, in the search only.
        min_trades: Fewest trades of an eligible pair.

    Returns:
        The keys of `results.Search`.
    """
    if objective not in OBJECTIVES:
        raise ValueError(
            f"`objective` must be one of {', '.join(OBJECTIVES)}. "
            f"Received: {objective!r}"
        )
    charged = dataclasses.replace(
        rules, slippage_bps=rules.slippage_bps + turnover_penalty_bps
    )
    tried = []
    for pair in _candidate_pairs(probabilities):
        signals = threshold_signals(
            probabilities, short=pair["short_threshold"], long=pair["long_threshold"]
        )
        trades = trading.simulate_trades(
            signals, outcomes, rules=charged, sizes=side_sizes(signals, sizes)
        )
        tried.append(pair | _score(trades, outcomes, charged, objective))
    settings = {
        "objective": objective,
        "turnover_penalty_bps": turnover_penalty_bps,
        "min_trades": min_trades,
        "num_tried": len(tried),
    }
    return settings | _choose(tried, min_trades) | {"tried": tried}


def side_sizes(signals: np.ndarray, sizes: np.ndarray | None) -> np.ndarray | None:
    """Returns the size of each signal (num_rows,) out of those of both sides."""
    if sizes is None:
        return None
    return np.where(signals == LONG, sizes[:, 1], sizes[:, 0])


def _candidate_pairs(probabilities: np.ndarray) -> list[dict[str, Any]]:
    """Returns every pair of candidates of both sides, but never-never."""
    shorts, longs = (
        [(0.0, None), *_candidates(probabilities[:, side])] for side in (SHORT, LONG)
    )
    return [
        {
            "short_share": short_share,
            "long_share": long_share,
            "short_threshold": short,
            "long_threshold": long,
        }
        for (short_share, short), (long_share, long) in itertools.product(shorts, longs)
        if short is not None or long is not None
    ]


def _candidates(probabilities: np.ndarray) -> list[tuple[float, float]]:
    """Returns (share of rows that reach it, threshold), the rarest first."""
    levels = 1.0 - np.array(SIGNALLED_SHARES)
    limits = np.unique(np.quantile(probabilities, levels, method="higher"))[::-1]
    limits = limits[limits >= 0]  # below are sides that no row speaks for
    return [(float((probabilities >= limit).mean()), float(limit)) for limit in limits]


def _score(
    trades: np.ndarray, outcomes: TradeOutcomes, rules: TradeRules, objective: str
) -> dict[str, Any]:
    """Returns what one pair came to, with the standard error of its objective."""
    count = len(trades)
    net = trades["net_return"]
    spread = float(net.std(ddof=1)) if count > 1 else 0.0
    mean_bps = 1e4 * float(net.mean()) if count else None
    total_pct = 100.0 * (float(trades["equity"][-1]) - 1.0) if count else 0.0
    value: float | None
    if objective == "net_return":
        earned = trades["size"] * net
        scatter = float(earned.std(ddof=1)) if count > 1 else 0.0
        growth = 1.0 + total_pct / 100.0
        value, error = total_pct, 100.0 * growth * scatter * math.sqrt(count)
    elif objective == "mean_net_return":
        value, error = mean_bps, 1e4 * spread / math.sqrt(max(1, count))
    else:
        daily = trading.daily_returns(trades, outcomes, rules=rules)
        value, days = trading.daily_metrics(daily)["sharpe"], len(daily)
        year = trading.DAYS_PER_YEAR
        error = math.sqrt((year + 0.5 * (value or 0.0) ** 2) / days)
    return {
        "num_trades": count,
        "objective": value,
        "objective_standard_error": error,
        "total_return_pct": total_pct,
        "mean_net_return_bps": mean_bps,
    }


def _choose(tried: list[dict[str, Any]], min_trades: int) -> dict[str, Any]:
    eligible = [
        pair
        for pair in tried
        if pair["num_trades"] >= min_trades and pair["objective"] is not None
    ]
    result: dict[str, Any] = {
        "num_eligible": len(eligible),
        "num_near_best": 0,
        "is_flat": False,
        "short_threshold": None,
        "long_threshold": None,
        "best_objective": None,
    }
    if not eligible:
        words = f"no trade: no pair of thresholds gave {min_trades} trades"
        return result | {"statement": f"{words} ({len(tried)} tried)"}
    best = max(eligible, key=lambda pair: pair["objective"])
    floor = best["objective"] - best["objective_standard_error"]
    near = sum(pair["objective"] >= floor for pair in eligible)
    result |= {"num_near_best": near, "best_objective": best["objective"]}
    if best["objective"] <= 0:
        words = "no trade: no pair of thresholds was profitable"
        return result | {"statement": f"{words} ({len(tried)} tried)"}
    is_flat = len(eligible) > 1 and near >= len(eligible) / 2
    words = f"best of {len(tried)} pairs tried, {len(eligible)} with enough trades"
    if is_flat:
        words += f"; flat: {near} of them within one standard error of the best"
    return result | {
        "is_flat": is_flat,
        "short_threshold": best["short_threshold"],
        "long_threshold": best["long_threshold"],
        "statement": words,
    }
