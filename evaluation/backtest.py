"""Signals of a predictions table -> trades with costs, intervals, an equity curve.

In: one part's table, its signals, a configuration's costs and sizes. Out: choosing the
signals (`thresholds`), the rules of a trade and its ratios (`trading`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from config import LONG, SHORT, Config
from data_loader import TrainingData
from evaluation import thresholds, trading
from evaluation.trading import TradeOutcomes, TradeRules
from metrics import significance
from metrics.intervals import TOO_SHORT, Length, cosine_interval
from metrics.position_sizes import kelly_sizes, volatility_target_sizes
from preprocessing.windows import change_spread

OUTCOME_COLUMNS = (
    "close",
    "long_return",
    "short_return",
    "long_exit_bars",
    "short_exit_bars",
    "long_exit",
    "short_exit",
)
MIN_TRADES = 10
"""Fewer trades have no interval."""
_CURVE_POINTS = 300
_DAY_SECONDS = 86_400
_MAX_GROWTH = 650.0
"""A logarithm of growth whose percents a number still holds; beyond, as where returns
are percents instead of shares, there is none."""


def trading_problem(predictions: pd.DataFrame) -> str | None:
    """Returns why trades cannot be simulated, or None; returns are never invented."""
    missing = [name for name in OUTCOME_COLUMNS if name not in predictions.columns]
    if missing:
        more = f" and {len(missing) - 2} more" if len(missing) > 2 else ""
        return f"the training file has no column {', '.join(missing[:2])}{more}"
    values = predictions[["close", "long_return", "short_return"]].to_numpy()
    bars = predictions[["long_exit_bars", "short_exit_bars"]].to_numpy()
    wrong = ~np.isfinite(values).all(axis=1) | (values[:, 0] <= 0) | (bars.min(1) < 1)
    if wrong.any():
        return f"{int(wrong.sum())} rows have no outcome (close, returns or exit bars)"
    return None


def trade_outcomes(table: pd.DataFrame) -> TradeOutcomes:
    """Returns the outcome columns of one part's table.

    Of pooled pairs, which stand one after another, each begins a day after the one
    before it ended: what a choice of thresholds needs is trades that do not overlap.
    """
    columns = {name: table[name].to_numpy() for name in OUTCOME_COLUMNS}
    times = table["timestamp"].to_numpy("datetime64[ns]")
    if "pair" in table:
        codes = table["pair"].cat.codes.to_numpy()
        is_next = np.diff(codes, prepend=codes[:1]) != 0
        days = np.ptp(times.astype("M8[D]")).astype(np.int64) + 2
        later = np.cumsum(is_next) * (days * _DAY_SECONDS * 10**9)
        times = times + later.astype("m8[ns]")
    return TradeOutcomes(timestamps=times, **columns)


def held_outcomes(table: pd.DataFrame) -> TradeOutcomes:
    """Returns what is bought and held: of pooled pairs a basket, equal at its start.

    A close of the basket at each moment of any pair; nothing else of it means anything.
    """
    if "pair" not in table:
        return trade_outcomes(table)
    closes = table.pivot(index="timestamp", columns="pair", values="close")
    closes = closes.ffill().bfill()
    mean = (closes / closes.iloc[0]).mean(axis=1).to_numpy()
    nothing = dict.fromkeys(OUTCOME_COLUMNS, np.zeros(len(mean)))
    times = closes.index.to_numpy("datetime64[ns]")
    return TradeOutcomes(timestamps=times, **nothing | {"close": mean})


def trade_rules(config: Config) -> TradeRules:
    """Returns the costs and barriers of a configuration."""
    return TradeRules(
        bar_seconds=config.bar_seconds,
        fee_bps=config.fee_bps,
        slippage_bps=config.slippage_bps,
        funding_bps_per_day=config.funding_bps_per_day,
        long_tp_pct=config.long_tp_pct,
        long_sl_pct=config.long_sl_pct,
        short_tp_pct=config.short_tp_pct,
        short_sl_pct=config.short_sl_pct,
    )


def position_sizes(
    calibrated: np.ndarray, data: TrainingData, rows: np.ndarray, config: Config
) -> np.ndarray | None:
    """Returns `sizes_of` target rows of training data (num_rows, 2), or None: full."""
    return sizes_of(calibrated, data.outcomes.get("close"), rows, config)


def sizes_of(
    calibrated: np.ndarray, close: Any, rows: np.ndarray, config: Config
) -> np.ndarray | None:
    """Returns the size of a SHORT and a LONG at each row (num_rows, 2), or None: full.

    The Kelly size takes the calibrated probability of a class for that of its take
    profit, and charges the funding of a whole horizon. Volatility is that of the closes
    in the row's own window, scaled to a day.

    Args:
        calibrated: Calibrated probabilities (num_rows, 3).
        close: Closes of all rows.
        rows: Target rows (num_rows,).
        config: The run.
    """
    if config.position_sizing == "full":
        return None
    if config.position_sizing == "volatility":
        spread = change_spread(close, rows, window_bars=config.sequence_length)
        per_day = 100.0 * spread * math.sqrt(_DAY_SECONDS / config.bar_seconds)
        target = config.volatility_target_pct
        sizes = volatility_target_sizes(per_day, target_pct=target)
        return np.stack([sizes, sizes], axis=1)
    rules = trade_rules(config)
    cost = rules.round_trip_cost + rules.funding(config.future_window)
    barriers = {
        SHORT: (rules.short_tp_pct, rules.short_sl_pct),
        LONG: (rules.long_tp_pct, rules.long_sl_pct),
    }
    columns = [
        kelly_sizes(
            np.clip(calibrated[:, side], 0.0, 1.0),
            tp_pct=tp_pct,
            sl_pct=sl_pct,
            cost_pct=100.0 * cost,
            fraction=config.kelly_fraction,
        )
        for side, (tp_pct, sl_pct) in barriers.items()
    ]
    return np.stack(columns, axis=1)


def backtest_part(
    table: pd.DataFrame,
    scores: np.ndarray,
    data: TrainingData,
    config: Config,
    *,
    num_trials: int,
) -> dict[str, Any]:
    """Returns what the signals of one part earned, or why that is not known.

    Args:
        table: The part, with its `signal` and, as far as they are known, its outcomes.
        scores: What sizes follow from (num_rows, 3), from `Policy.scores`.
        data: The same data.
        config: The same run.
        num_trials: Variants tried on these very rows, which deflate the Sharpe ratio:
            pairs of thresholds on validation, runs that looked at it on test.

    Returns:
        The keys of `results.Trading`.
    """
    problem = trading_problem(table)
    if problem:
        return {"skipped": problem}
    earned = backtest(
        table,
        table["signal"].to_numpy(),
        config,
        horizon_bars=data.future_window,
        sizes=position_sizes(scores, data, table["row"].to_numpy(), config),
        num_trials=num_trials,
    )
    # Validation chose the thresholds.
    return {"in_sample": table["part"].iloc[0] == "validation"} | earned


def daily_net(
    table: pd.DataFrame, scores: np.ndarray, data: TrainingData, config: Config
) -> np.ndarray:
    """Returns `trading.daily_returns` of the signals of a table (num_days,).

    See `backtest_part` for the arguments.
    """
    trades, outcomes, rules = simulate_part(table, scores, data, config)
    return trading.daily_returns(trades, outcomes, rules=rules)


def simulate_part(
    table: pd.DataFrame, scores: np.ndarray, data: TrainingData, config: Config
) -> tuple[np.ndarray, TradeOutcomes, TradeRules]:
    """Returns what `_simulate` does of a table's own signals."""
    sizes = position_sizes(scores, data, table["row"].to_numpy(), config)
    return _simulate(table, table["signal"].to_numpy(), config, sizes)


def _simulate(
    table: pd.DataFrame, signals: np.ndarray, config: Config, sizes: np.ndarray | None
) -> tuple[np.ndarray, TradeOutcomes, TradeRules]:
    """Returns the trades of one part, and the outcomes and rules they came from.

    Of pooled pairs each trades an equal share of the equity on its own; the outcomes
    are those of their basket.
    """
    rules, chosen = trade_rules(config), thresholds.side_sizes(signals, sizes)
    if "pair" not in table:
        outcomes = trade_outcomes(table)
        trades = trading.simulate_trades(signals, outcomes, rules=rules, sizes=chosen)
        return trades, outcomes, rules
    basket, found = held_outcomes(table), []
    for _, own in table.assign(place=np.arange(len(table))).groupby("pair"):
        places = own.pop("place").to_numpy()
        trades, outcomes, _ = _simulate(
            own.drop(columns="pair").assign(signal=signals[places]),
            signals[places],
            config,
            None if sizes is None else sizes[places],
        )
        entries = outcomes.timestamps[trades["row"]]
        trades["row"] = np.searchsorted(basket.timestamps, entries)
        found.append(trades)
    return trading.share_equity(found), basket, rules


def backtest(
    table: pd.DataFrame,
    signals: np.ndarray,
    config: Config,
    *,
    horizon_bars: int,
    sizes: np.ndarray | None = None,
    num_trials: int = 1,
) -> dict[str, Any]:
    """Returns what signals earned in one part, how sure that is, and the curve.

    Args:
        table: One part, with its outcome columns.
        signals: Class ids (num_rows,).
        config: Costs and barriers.
        horizon_bars: Bars of a label.
        sizes: Size of a SHORT and a LONG at each row (num_rows, 2); None: full.
        num_trials: Variants tried on these very rows.

    Returns:
        The keys of `results.Trading` but `in_sample`.
    """
    trades, outcomes, rules = _simulate(table, signals, config, sizes)
    daily = trading.daily_returns(trades, outcomes, rules=rules)
    num_trials = max(1, num_trials)
    num_rows = len(outcomes.timestamps)
    length = Length.of(
        num_rows, horizon_bars=horizon_bars, bar_seconds=config.bar_seconds
    )
    least = significance.minimum_detectable_sharpe(length, num_trials=num_trials)
    year = math.sqrt(trading.DAYS_PER_YEAR)
    scores = trading.trading_metrics(trades, outcomes, rules=rules)
    if "pair" in table:  # each trades with its share of the equity
        scores["exposure_pct"] /= table["pair"].nunique()
    return scores | {
        "intervals": _intervals(trades, daily, num_rows, length),
        "probabilistic_sharpe": significance.probabilistic_sharpe(daily),
        "deflated_sharpe": significance.deflated_sharpe(daily, num_trials=num_trials),
        "num_variants_tried": num_trials,
        "minimum_detectable_sharpe": None if least is None else year * least,
        "buy_and_hold": trading.buy_and_hold_metrics(outcomes, rules=rules),
        "curve": _curve(trades, outcomes, rules),
        "daily": {
            "first": str(outcomes.timestamps[0].astype("M8[D]")),
            "net_returns": daily,
        },
        "months": months(trades, outcomes, rules),
        **drawdown_days(trades, outcomes, rules),
    }


def _intervals(
    trades: np.ndarray, daily: np.ndarray, num_rows: int, length: Length
) -> dict[str, Any]:
    """Returns the intervals of a trade, of the whole, of the Sharpe ratio of days."""
    columns = np.zeros((num_rows, 3))
    growth = np.maximum(1.0 + trades["size"] * trades["net_return"], 1e-12)
    earned = (
        1e4 * trades["net_return"],
        np.ones(len(trades)),
        num_rows * np.log(growth),
    )
    np.add.at(columns, trades["row"], np.stack(earned, axis=1))
    # A mean of few trades has a spread that says nothing: of one it is zero.
    enough = length if len(trades) >= MIN_TRADES else TOO_SHORT
    # Of the growth, of which the return is a monotone function.
    total = cosine_interval(columns[:, 2], length=enough)
    if max(filter(None, (total["estimate"], total["high"])), default=0.0) > _MAX_GROWTH:
        total |= dict.fromkeys(("estimate", "low", "high", "standard_error"))
    if total["standard_error"] is not None:
        total["standard_error"] *= 100.0 * math.exp(total["estimate"])
    for key in ("estimate", "low", "high"):
        if total[key] is not None:
            total[key] = 100.0 * math.expm1(total[key])
    return {
        "mean_net_return_bps": cosine_interval(
            columns[:, :2], lambda m: m[..., 0] / m[..., 1], length=enough
        ),
        "total_return_pct": total,
        "sharpe": significance.sharpe_interval(
            daily, periods_per_year=trading.DAYS_PER_YEAR, length=enough
        ),
    }


def _curve(
    trades: np.ndarray, outcomes: TradeOutcomes, rules: TradeRules
) -> dict[str, Any]:
    """Returns equity at evenly spaced moments, with and without costs; buy and hold."""
    opens = outcomes.timestamps.astype("datetime64[s]")
    closes = opens + np.timedelta64(rules.bar_seconds, "s")
    count = min(_CURVE_POINTS, len(opens))
    rows = np.linspace(0, len(opens) - 1, count).round().astype(np.int64)
    done = np.searchsorted(trades["exit_time"], closes[rows], side="right")
    free = np.cumprod(1.0 + trades["size"] * trades["gross_return"])
    before = np.concatenate([[1.0], np.maximum(free, 0.0)])
    equity = trading.equity_curve(trades)
    # The drawdown at a moment is that of the trades so far, not of the drawn points.
    drawdown = 100.0 * (1.0 - equity / np.maximum.accumulate(equity))
    close = np.asarray(outcomes.close, dtype=np.float64)
    return {
        "time": [f"{moment}Z" for moment in closes[rows].astype(str)],
        "equity": equity[done],
        "equity_before_costs": before[done],
        "drawdown_pct": drawdown[done],
        "buy_and_hold": (1.0 - rules.round_trip_cost / 2.0) * close[rows] / close[0],
    }


def months(
    trades: np.ndarray, outcomes: TradeOutcomes, rules: TradeRules
) -> list[dict[str, Any]]:
    """Returns the keys of `results.Month` for each month (UTC) from first to last.

    A trade counts in the month of its exit, a close at midnight in the one before.
    """
    start, end = trading.period(trades, outcomes, rules)
    first, last = np.array([start, end - 1], "M8[s]").astype("M8[M]")
    names = np.arange(first, last + np.timedelta64(1, "M"))
    exits = (trades["exit_time"] - np.timedelta64(1, "s")).astype("M8[M]")
    ended = np.searchsorted(exits, names, side="right")
    equity = trading.equity_curve(trades)[ended]
    close = np.asarray(outcomes.close, dtype=np.float64)
    rows = np.searchsorted(outcomes.timestamps.astype("M8[M]"), names, side="right")
    held = np.concatenate([close[:1], close[rows - 1]])
    before = np.concatenate([[1.0], equity[:-1]])
    returns = np.where(before > 0, equity / np.where(before > 0, before, 1.0) - 1, 0.0)
    return [
        {
            "month": str(name),
            "return_pct": 100.0 * float(earned),
            "buy_and_hold_pct": 100.0 * float(moved),
            "num_trades": int(count),
        }
        for name, earned, moved, count in zip(
            names,
            returns,
            held[1:] / held[:-1] - 1,
            np.diff(ended, prepend=0),
            strict=True,
        )
    ]


def drawdown_days(
    trades: np.ndarray, outcomes: TradeOutcomes, rules: TradeRules
) -> dict[str, float]:
    """Returns how long the largest drawdown and the longest one last, in days.

    From the exit at the peak to the exit that regains it, or to the end.
    """
    start, end = trading.period(trades, outcomes, rules)
    exits = trades["exit_time"].astype("M8[s]").astype(np.int64)
    times = np.concatenate([[start], exits, [end]])
    equity = trading.equity_curve(trades)
    equity = np.append(equity, equity[-1])
    peaks = np.maximum.accumulate(equity)
    # One past the end stands for the peak that is not regained.
    highs = np.append(np.flatnonzero(equity >= peaks), len(equity))
    spans = np.append(times, end)[highs]
    days = np.diff(spans) / _DAY_SECONDS * (np.diff(highs) > 1)
    depths = np.maximum.reduceat(1.0 - equity / peaks, highs[:-1])
    return {
        "max_drawdown_days": float(days[depths.argmax()]),
        "longest_drawdown_days": float(days.max()),
    }
