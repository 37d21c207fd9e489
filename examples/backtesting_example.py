"""Signals of a published model, traded by backtesting.py, beside this project's report.

This file imports backtesting.py, which is under the AGPL 3.0: together with it, it may
be passed on under that licence alone. It stands apart from the MIT modules of this
project: it imports `predictor`, and nothing here imports it.

In: candles and answers as one table, a strategy that trades them, both statistics of
the test part side by side. Out: features, model and thresholds (`predictor`). What
differs stands in docs/live.md.

Example:
    $ PYTHONPATH=. python examples/backtesting_example.py \
        outputs/models/ETHUSDT/lstm/latest-1m ETHUSDT-1m.parquet
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import pandas as pd
from backtesting import Backtest, Strategy

from candles import read_candles
from config import HOLD, LONG
from predictor import Predictor

CASH = 1e12
"""Sizes are whole units: that many round nothing away."""
ALL = 1 - sys.float_info.epsilon
"""A size of 1 would be one unit."""
BESIDE = {
    "trades": ("# Trades", "num_trades"),
    "win rate, %": ("Win Rate [%]", "win_rate_pct"),
    "net return, %": ("Return [%]", "total_return_pct"),
    "in a trade, %": ("Exposure Time [%]", "exposure_pct"),
    "drawdown, %": ("Max. Drawdown [%]", "max_drawdown_pct"),
    "profit factor": ("Profit Factor", "profit_factor"),
    "Sharpe ratio": ("Sharpe Ratio", "sharpe"),
    "buy and hold, %": ("Buy & Hold Return [%]", None),
}
"""What is printed: its name there, its key in the report's `trading`."""


class ArtifactSignals(Strategy):
    """Enters at the close of a signal; leaves at its take profit, stop or horizon."""

    def init(self) -> None:
        """Nothing is computed here: the columns are in the data."""

    def next(self) -> None:
        """Closes what has reached its horizon, then takes the bar's own signal."""
        data, now = self.data, self.data.index[-1]
        for trade in self.trades:
            if now < trade.tag:
                return
            trade.close()
        if data.signal[-1] != HOLD:
            enter = self.buy if data.signal[-1] == LONG else self.sell
            enter(
                size=min(data.size_[-1], ALL),
                tp=data.tp_price[-1],
                sl=data.sl_price[-1],
                tag=data.last_bar[-1],
            )


def traded_table(
    predictor: Predictor, candles: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp
) -> pd.DataFrame:
    """Returns candles with answers, and the bars in which the last trades end.

    Args:
        predictor: The model.
        candles: A candle table that reaches back `min_candles` before `first`.
        first: First bar that may be traded.
        last: Last one.
    """
    bar = pd.Timedelta(predictor.config.bar_seconds, "s")
    before = first - bar  # backtesting.py does not ask for its first bar
    candles = candles[candles["timestamp"] <= last + predictor.horizon_bars * bar]
    num_bars = (candles["timestamp"].iloc[-1] - before) // bar + 1
    table = predictor.predict_candles(candles, last=num_bars).set_index("timestamp")
    table = table[table.index >= before]
    table.loc[(table.index < first) | (table.index > last), "signal"] = HOLD
    prices = candles.set_index("timestamp")[["open", "high", "low", "close", "volume"]]
    prices = prices.rename(columns=str.capitalize).reindex(table.index)
    # A bar that was filled repeats the last close.
    prices = prices.apply(lambda each: each.fillna(table["close"]))
    table["last_bar"] = table["expires_at"] - bar
    return prices.join(table.rename(columns={"size": "size_"}).drop(columns="close"))


def main() -> None:
    """Prints both statistics of the test part of a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of a published model")
    parser.add_argument("candles", help="the candles it was trained on, or more")
    parser.add_argument("--trades", help="CSV file for the trades of backtesting.py")
    words = parser.parse_args()
    predictor = Predictor(words.model, expect={"target": "signal"})
    part = predictor.metadata["split"]["test"]
    first, last = pd.Timestamp(part["first"]), pd.Timestamp(part["last"])
    table = traded_table(predictor, read_candles(words.candles), first, last)
    config = predictor.config
    commission = (config.fee_bps + config.slippage_bps) / 1e4
    run = Backtest(
        table, ArtifactSignals, cash=CASH, commission=commission, trade_on_close=True
    )
    theirs = run.run()
    report = json.loads((predictor.path / "confusion_matrix_report.json").read_text())
    print_beside(theirs, report["test"]["trading"])
    if words.trades:
        theirs["_trades"].to_csv(words.trades, index=False)


def print_beside(theirs: pd.Series, ours: dict[str, Any]) -> None:
    """Prints a line for each of `BESIDE`."""
    print(f"{'':<16}{'backtesting.py':>16}{'our report':>14}")
    for text, (name, key) in BESIDE.items():
        own = ours["buy_and_hold"]["total_return_pct"] if key is None else ours[key]
        told = "n/a" if own is None else f"{own:.2f}"
        print(f"{text:<16}{theirs[name]:>16.2f}{told:>14}")


if __name__ == "__main__":
    main()
