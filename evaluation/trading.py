"""Signals to trades, trades to money: costs, non-overlapping trades, ratios.

In: simulation with the outcomes that the label engine stored. Out: predictions and
thresholds (`classes`), how much is traded (`metrics.position_sizes`), uncertainty
(`metrics.significance`). Undefined numbers are None.

One position at a time: a trade entered at the close of bar t and resolved in bar
t + exit_bars leaves the next entry free at the close of that bar. Equity moves when a
trade ends; drawdowns inside a trade are not seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from config import LONG, SHORT
from dataset.labels import STOP_LOSS, TAKE_PROFIT, TIMEOUT

DAYS_PER_YEAR = 365  # crypto trades every day
LEAST_ANNUAL_DAYS = 30
"""Fewer days say nothing of a year."""
_DAY_SECONDS = 86_400

TRADE_DTYPE = np.dtype(
    [
        ("row", "i8"),
        ("side", "i1"),
        ("entry_time", "M8[s]"),
        ("exit_time", "M8[s]"),
        ("exit_bars", "i8"),
        ("exit_code", "i1"),
        ("size", "f8"),
        ("gross_return", "f8"),
        ("net_return", "f8"),
        ("equity", "f8"),
    ]
)
"""A trade: row in the outcomes; side +1 or -1; closes of the entry bar and of the exit
bar (UTC); size as a fraction of equity; returns on the amount traded, before and after
costs; equity after the trade."""


@dataclass(frozen=True, kw_only=True)
class TradeOutcomes:
    """What a long and a short entered at each close came to, in time order.

    Arrays (num_rows,); the rows may skip bars. `timestamps` are the opens of the bars,
    `datetime64`, UTC. Returns are fractions before costs. Exit codes: 0 timeout, 1 take
    profit, 2 stop loss.
    """

    timestamps: np.ndarray
    close: np.ndarray
    long_return: np.ndarray
    short_return: np.ndarray
    long_exit_bars: np.ndarray
    short_exit_bars: np.ndarray
    long_exit: np.ndarray
    short_exit: np.ndarray

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1 or not lengths["timestamps"]:
            raise ValueError(
                "`TradeOutcomes` must have arrays of one length, above 0. "
                f"Received: {lengths}"
            )
        times = self.timestamps
        if times.dtype.kind != "M" or (times[1:] <= times[:-1]).any():
            raise ValueError(
                "`timestamps` must be datetime64 and strictly increasing. Received: "
                f"{self.timestamps.dtype}, first {self.timestamps[0]}. "
                "Use `.to_numpy('datetime64[ns]')` and sort the rows."
            )


@dataclass(frozen=True, kw_only=True)
class TradeRules:
    """Bar length, costs, and the barriers that the labels were made with."""

    bar_seconds: int
    fee_bps: float = 10.0
    slippage_bps: float = 5.0
    funding_bps_per_day: float = 0.0
    long_tp_pct: float = 1.0
    long_sl_pct: float = 0.5
    short_tp_pct: float = 1.0
    short_sl_pct: float = 0.5

    @property
    def round_trip_cost(self) -> float:
        """Fee and slippage of entry and exit, as a fraction of the amount traded."""
        return 2.0 * (self.fee_bps + self.slippage_bps) / 1e4

    def funding(self, bars: Any) -> Any:
        """Returns what holding for so many bars costs, as a fraction of the amount."""
        return self.funding_bps_per_day / 1e4 * bars * self.bar_seconds / _DAY_SECONDS


# Simulation


def simulate_trades(
    signals: Any, outcomes: TradeOutcomes, *, rules: TradeRules, sizes: Any = None
) -> np.ndarray:
    """Turns signals into trades that never overlap; a signal during a trade is missed.

    Costs are charged on the amount at entry, so that
    net_return = gross_return - 2 (fee + slippage) - funding * days held. Equity is
    multiplied by 1 + size * net_return and never falls below 0.

    Args:
        signals: 0 SHORT, 1 HOLD, 2 LONG, negative for rejected (num_rows,).
        outcomes: What came of each row.
        rules: Bar length and costs.
        sizes: Fraction of equity for each signal (num_rows,), 0 for no trade; None
            trades all equity.

    Returns:
        Trades in time order, `TRADE_DTYPE` (num_trades,).

    Raises:
        ValueError: If shapes differ, a size is negative or not finite, or a signal
            stands on a row without an outcome.
    """
    signals = np.asarray(signals)
    sizes = np.ones(len(signals)) if sizes is None else np.asarray(sizes, dtype=float)
    _require_entries(signals, sizes, outcomes)
    is_signal = (signals == SHORT) | (signals == LONG)
    rows = np.flatnonzero(is_signal & (sizes > 0))
    is_long = signals[rows] == LONG
    bars = outcomes.long_exit_bars, outcomes.short_exit_bars
    exit_bars = _by_side(is_long, *bars, rows)
    gross = _by_side(is_long, outcomes.long_return, outcomes.short_return, rows)
    if (exit_bars < 1).any() or not np.isfinite(gross).all():
        row = int(rows[np.argmax((exit_bars < 1) | ~np.isfinite(gross))])
        raise ValueError(
            "every signal must stand on a row with an outcome (exit_bars at least 1, a "
            f"finite return). Received: row {row}. Use target rows only."
        )
    opens = _seconds(outcomes.timestamps[rows])
    taken = _non_overlapping(opens, opens + exit_bars * rules.bar_seconds)
    trades = np.empty(len(taken), dtype=TRADE_DTYPE)
    trades["row"] = rows[taken]
    trades["side"] = np.where(is_long[taken], 1, -1)
    trades["exit_bars"] = exit_bars[taken]
    closes = opens[taken] + rules.bar_seconds
    trades["entry_time"] = closes
    trades["exit_time"] = closes + exit_bars[taken] * rules.bar_seconds
    exits = outcomes.long_exit, outcomes.short_exit
    trades["exit_code"] = _by_side(is_long[taken], *exits, rows[taken])
    trades["size"] = sizes[rows[taken]]
    trades["gross_return"] = gross[taken]
    costs = rules.round_trip_cost + rules.funding(exit_bars[taken])
    trades["net_return"] = gross[taken] - costs
    growth = 1.0 + trades["size"] * trades["net_return"]
    trades["equity"] = np.cumprod(np.maximum(growth, 0.0))
    return trades


def share_equity(markets: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the trades of several markets in order of their exits.

    Each market trades an equal share of the equity that there is at a trade's exit.

    Args:
        markets: Trades of each market, from `simulate_trades`.
    """
    trades = np.concatenate(markets)
    trades = trades[np.argsort(trades["exit_time"], kind="stable")]
    trades["size"] /= len(markets)
    growth = 1.0 + trades["size"] * trades["net_return"]
    trades["equity"] = np.cumprod(np.maximum(growth, 0.0))
    return trades


def _require_entries(
    signals: np.ndarray, sizes: np.ndarray, outcomes: TradeOutcomes
) -> None:
    """Raises ValueError unless each outcome has a signal and a size."""
    if signals.shape != outcomes.timestamps.shape or sizes.shape != signals.shape:
        raise ValueError(
            "`signals` and `sizes` must have one entry for each outcome. Received: "
            f"{signals.shape}, {sizes.shape}, {outcomes.timestamps.shape}."
        )
    if not (np.isfinite(sizes) & (sizes >= 0)).all():
        raise ValueError("`sizes` must be finite and not negative.")


def equity_curve(trades: np.ndarray) -> np.ndarray:
    """Returns equity before the first and after every trade (num_trades + 1,)."""
    return np.concatenate([[1.0], trades["equity"]])


def daily_returns(
    trades: np.ndarray, outcomes: TradeOutcomes, *, rules: TradeRules
) -> np.ndarray:
    """Returns the sum of size * net_return that ended on each UTC day (num_days,).

    Days without a trade count as 0, from the day of the first row to that of the last
    row or exit.
    """
    start, end = period(trades, outcomes, rules)
    first, last = start // _DAY_SECONDS, (end - 1) // _DAY_SECONDS
    # A bar that closes at midnight belongs to the day before.
    days = (_seconds(trades["exit_time"]) - 1) // _DAY_SECONDS - first
    earned = trades["size"] * trades["net_return"]
    return np.bincount(days, weights=earned, minlength=last - first + 1).astype(float)


# Metrics


def trading_metrics(
    trades: np.ndarray, outcomes: TradeOutcomes, *, rules: TradeRules
) -> dict[str, Any]:
    """Returns what the trades came to, as the first keys of `results.Trading`.

    The period is that of the outcomes. The precision that breaks even is
    (SL + c) / (TP + SL), c the cost of a trade, averaged over the trades.
    """
    start, end = period(trades, outcomes, rules)
    num_days = (end - start) / _DAY_SECONDS
    size, net, gross = trades["size"], trades["net_return"], trades["gross_return"]
    gains, losses = (float(part.sum()) for part in _gains_and_losses(size * net))
    total_size = float(size.sum())
    cost_pct = 100.0 * (gross - net)
    is_long = trades["side"] == 1
    break_even = np.where(
        is_long,
        (rules.long_sl_pct + cost_pct) / (rules.long_tp_pct + rules.long_sl_pct),
        (rules.short_sl_pct + cost_pct) / (rules.short_tp_pct + rules.short_sl_pct),
    )
    unpaid = net + rules.round_trip_cost
    edge = float((size * unpaid).sum()) / total_size if total_size > 0 else None
    funding = rules.funding(trades["exit_bars"])
    exits = np.bincount(trades["exit_code"], minlength=3)
    return {
        **equity_metrics(equity_curve(trades), num_days=num_days),
        **daily_metrics(daily_returns(trades, outcomes, rules=rules)),
        "num_days": num_days,
        "num_trades": len(trades),
        "num_long": int(is_long.sum()),
        "num_short": int((~is_long).sum()),
        "exits": {
            "timeout": int(exits[TIMEOUT]),
            "tp": int(exits[TAKE_PROFIT]),
            "sl": int(exits[STOP_LOSS]),
        },
        "win_rate_pct": _mean(100.0 * (net > 0)),
        "profit_factor": gains / losses if losses > 0 else None,
        "mean_net_return_bps": _mean(1e4 * net),
        "mean_gross_return_bps": _mean(1e4 * gross),
        "mean_funding_bps": _mean(1e4 * funding) if rules.funding_bps_per_day else None,
        "mean_holding_bars": _mean(trades["exit_bars"]),
        "turnover_per_day": 2.0 * total_size / num_days,
        "exposure_pct": 100.0
        * float(trades["exit_bars"].sum())
        * rules.bar_seconds
        / (end - start),
        "trade_precision_pct": _mean(100.0 * (trades["exit_code"] == TAKE_PROFIT)),
        "break_even_precision_pct": _mean(100.0 * break_even),
        "break_even_cost_bps": None if edge is None else 1e4 * edge / 2.0,
        "cost_bps": rules.fee_bps + rules.slippage_bps,
    }


def equity_metrics(equity: Any, *, num_days: float) -> dict[str, Any]:
    """Returns the keys of `results.Equity` that follow from an equity curve.

    Calmar: annualised return over maximum drawdown. Source: Young (1991), "Calmar
    ratio: a smoother tool"; annualised by 365 days. Neither of fewer than
    `LEAST_ANNUAL_DAYS`: a good week is no year.

    Args:
        equity: Equity from the start of 1 on, never negative (num_points,).
        num_days: Length of the period in days.
    """
    equity = np.asarray(equity, dtype=np.float64)
    peaks = np.maximum.accumulate(np.maximum(equity, 1.0))
    drawdown = float((1.0 - equity / peaks).max())
    final = float(equity[-1])
    exponent = DAYS_PER_YEAR / num_days * math.log(final) if final > 0 else -math.inf
    is_known = final <= 0 or (exponent < 100 and num_days >= LEAST_ANNUAL_DAYS)
    annual = math.expm1(exponent) if is_known else None
    return {
        "total_return_pct": 100.0 * (final - 1.0),
        "annualised_return_pct": None if annual is None else 100.0 * annual,
        "max_drawdown_pct": 100.0 * drawdown,
        "calmar": annual / drawdown if annual is not None and drawdown > 0 else None,
    }


def daily_metrics(returns: Any, *, tail_share: float = 0.05) -> dict[str, Any]:
    """Returns the keys of `results.Equity` that follow from daily returns (num_days,).

    There is no risk-free rate; under 2 days or without spread there is no ratio.

    Sharpe: mean / standard deviation (n - 1), times sqrt(365). Source: Sharpe (1994).
    Sortino: mean / sqrt(mean of min(r, 0)^2 over *all* days), times sqrt(365).
    Source: Sortino and Price (1994).
    Value at risk: the loss exceeded on at most 5 % of the days; CVaR: the mean loss of
    the worst 5 % of the days, the last one in part; a loss is positive.
    Source: Rockafellar and Uryasev (2002).
    """
    returns = np.sort(np.asarray(returns, dtype=np.float64))
    num_days, root = len(returns), math.sqrt(DAYS_PER_YEAR)
    mean = float(returns.mean())
    spread = float(returns.std(ddof=1)) if num_days > 1 else 0.0
    downside = float(np.sqrt(np.square(np.minimum(returns, 0.0)).mean()))
    mass = tail_share * num_days
    # The tolerance keeps 0.05 * 100 from being 5.000000000000001 days or 4.99.
    beyond = min(num_days - 1, math.floor(mass + 1e-9))
    whole = max(0, math.ceil(mass - 1e-9) - 1)
    tail = float(returns[:whole].sum() + (mass - whole) * returns[whole]) / mass
    level = round(100 * (1 - tail_share))
    has_spread = num_days > 1 and spread > 1e-12 * abs(mean)
    return {
        "sharpe": root * mean / spread if has_spread else None,
        "sortino": root * mean / downside if num_days > 1 and downside > 0 else None,
        f"value_at_risk_{level}_pct": -100.0 * float(returns[beyond]),
        f"cvar_{level}_pct": -100.0 * tail,
    }


def buy_and_hold_metrics(
    outcomes: TradeOutcomes, *, rules: TradeRules
) -> dict[str, Any]:
    """Returns `results.Equity` of buying at the first close and selling at the last.

    Unlike a simulated trade it is valued at every row. Each side costs its share of
    the amount at that side; what is bought, and not borrowed, pays no funding.
    """
    close = np.asarray(outcomes.close, dtype=np.float64)
    opens = _seconds(outcomes.timestamps)
    kept = 1.0 - rules.round_trip_cost / 2.0
    equity = kept * close / close[0]
    equity[-1] *= kept
    days = opens // _DAY_SECONDS
    last_of_day = np.searchsorted(days, np.arange(days[0], days[-1] + 1), side="right")
    by_day = np.concatenate([[1.0], equity[last_of_day - 1]])
    num_days = (opens[-1] + rules.bar_seconds - opens[0]) / _DAY_SECONDS
    return {
        **equity_metrics(equity, num_days=num_days),
        **daily_metrics(by_day[1:] / by_day[:-1] - 1.0),
    }


def _by_side(
    is_long: np.ndarray, longs: np.ndarray, shorts: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    return np.where(is_long, np.asarray(longs)[rows], np.asarray(shorts)[rows])


def _non_overlapping(opens: np.ndarray, exit_opens: np.ndarray) -> np.ndarray:
    """Returns positions, first come first served: the next entry waits for the exit."""
    following = np.searchsorted(opens, exit_opens).tolist()
    taken, k = [], 0
    while k < len(following):
        taken.append(k)
        k = following[k]
    return np.array(taken, dtype=np.int64)


def period(
    trades: np.ndarray, outcomes: TradeOutcomes, rules: TradeRules
) -> tuple[int, int]:
    """Returns the first bar's open and the close of the last bar or trade, seconds."""
    opens = _seconds(outcomes.timestamps[[0, -1]])
    end = int(opens[1]) + rules.bar_seconds
    if len(trades):
        end = max(end, int(_seconds(trades["exit_time"]).max()))
    return int(opens[0]), end


def _seconds(times: np.ndarray) -> np.ndarray:
    return times.astype("datetime64[s]").astype(np.int64)


def _gains_and_losses(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.maximum(returns, 0.0), np.maximum(-returns, 0.0)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None
