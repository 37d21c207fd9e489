"""A freqtrade strategy that trades what a published model says.

This file imports freqtrade, which is under the GPL 3.0: together with it, it may be
passed on under that licence alone. It stands apart from the MIT modules of this
project: it imports `predictor`, and nothing here imports it.

In: signals, take profit, stop and horizon as the label had them, for freqtrade's
backtesting, dry run and trading. Out: features, model and thresholds (`predictor`).
What freqtrade does otherwise than this project's simulation stands in docs/live.md.

Example:
    $ PYTHONPATH=PROJECT freqtrade backtesting --strategy ArtifactStrategy \
        --strategy-path PROJECT/examples --config config.json

    with, in config.json, the timeframe of the models, one model a pair, and "futures"
    as trading mode where shorts are to be taken:

    "timeframe": "1m",
    "artifacts": {"ETH/USDT": "PROJECT/outputs/models/ETHUSDT/lstm/latest-1m"}
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pandas as pd
from freqtrade.data.history import load_pair_history
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import (
    ROUND_DOWN,
    ROUND_UP,
    price_to_precision,
    timeframe_to_prev_date,
    timeframe_to_seconds,
)
from freqtrade.persistence import Trade
from freqtrade.strategy import IStrategy, stoploss_from_absolute

from config import LONG, SHORT
from predictor import Predictor

ANSWER = ["status", "signal", "tp_price", "sl_price", "expires_at", "size"]
HORIZON = "horizon"
LIVE_BARS = 60
"""Newest bars that a running bot asks for; an entry order may wait that long."""


class ArtifactStrategy(IStrategy):
    """Enters at the next open; leaves at the label's take profit, stop or horizon."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    startup_candle_count = 0  # what features look back on is read from the data folder
    process_only_new_candles = True
    use_exit_signal = True  # asks `custom_exit`
    use_custom_roi = True
    use_custom_stoploss = True
    minimal_roi: dict = {}
    stoploss = -0.99  # until the order is filled, see `custom_stoploss`

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.can_short = config.get("trading_mode") == "futures"
        self._earlier: dict[str, pd.DataFrame] = {}

    def bot_start(self, **kwargs: Any) -> None:
        """Opens the models."""
        self.predictors = {
            pair: Predictor(folder, expect={"target": "signal"})
            for pair, folder in self.config["artifacts"].items()
        }
        for pair, predictor in self.predictors.items():
            plain = pair.partition(":")[0].replace("/", "")
            if (predictor.pair, predictor.timeframe) != (plain, self.timeframe):
                raise OperationalException(
                    f"artifacts: expected a model of {plain} at {self.timeframe}. "
                    f"Received: {predictor.pair} at {predictor.timeframe}."
                )

    # Signals

    def populate_indicators(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        """Adds the model's answer to each candle; a bot that runs needs the newest."""
        pair = metadata["pair"]
        if pair not in self.predictors:
            raise OperationalException(f"artifacts: expected a model of {pair}.")
        runs = self.dp.runmode.value in ("live", "dry_run")
        answers = self.predictors[pair].predict_candles(
            self._candles(dataframe, pair), last=LIVE_BARS if runs else len(dataframe)
        )
        return dataframe.join(answers.set_index("timestamp")[ANSWER], on="date")

    def _candles(self, dataframe: pd.DataFrame, pair: str) -> pd.DataFrame:
        """Returns the candles that were traded, those before the frame included.

        A bot is handed a page of candles; more come from what freqtrade has downloaded,
        and from the frames that it has seen. Where nothing was
        traded freqtrade repeats the last price: such candles are left out, so that the
        model sees the gap.
        """
        if pair not in self._earlier:
            self._earlier[pair] = load_pair_history(
                pair,
                self.timeframe,
                self.config["datadir"],
                fill_up_missing=False,
                data_format=self.config["dataformat_ohlcv"],
                candle_type=self.config["candle_type_def"],
            )
        earlier = self._earlier[pair]
        earlier = earlier[earlier["date"] < dataframe["date"].iloc[0]]
        table = pd.concat([earlier.tail(self.predictors[pair].min_candles), dataframe])
        self._earlier[pair] = table[dataframe.columns[:6]]
        is_traded = (table["volume"] > 0) | (table["high"] > table["low"])
        return table[is_traded].rename(columns={"date": "timestamp"})

    def populate_entry_trend(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        """Enters where the thresholds, chosen on validation, are reached."""
        dataframe["enter_long"] = (dataframe["signal"] == LONG).astype(int)
        dataframe["enter_short"] = (dataframe["signal"] == SHORT).astype(int)
        return dataframe

    def populate_exit_trend(
        self, dataframe: pd.DataFrame, metadata: dict[str, Any]
    ) -> pd.DataFrame:
        """No signal ends a trade."""
        return dataframe

    # Trades

    def _answer(self, pair: str, entered: datetime) -> pd.Series:
        """Returns the answer of the last bar that had closed when an entry was made."""
        frame, _ = self.dp.get_analyzed_dataframe(pair, self.timeframe)
        bar = pd.Timedelta(seconds=timeframe_to_seconds(self.timeframe))
        opened = timeframe_to_prev_date(self.timeframe, entered) - bar
        return frame.loc[frame["date"] == opened].iloc[-1]

    def _label(self, trade: Trade) -> dict[str, Any]:
        """Returns prices and end of a trade, which a restart does not forget."""
        label = trade.get_custom_data("label")
        if label is None:
            answer = self._answer(trade.pair, trade.open_date_utc)
            label = {name: float(answer[name]) for name in ("tp_price", "sl_price")}
            label["expires_at"] = answer["expires_at"].timestamp()
            trade.set_custom_data("label", label)
        return label

    def custom_stake_amount(
        self,
        pair: str,
        current_time: datetime,
        proposed_stake: float,
        max_stake: float,
        **kwargs: Any,
    ) -> float:
        """Trades the model's share of what the configuration would trade."""
        size = self._answer(pair, current_time)["size"]
        return min(proposed_stake * size, max_stake)

    def confirm_trade_entry(
        self, pair: str, rate: float, current_time: datetime, side: str, **kwargs: Any
    ) -> bool:
        """Refuses a price at or beyond a level, and a signal given during a trade.

        freqtrade's backtesting turns a position in the candle of its exit, at the open
        that lies before it. The horizon alone ends a trade at an open.
        """
        answer = self._answer(pair, current_time)
        levels = sorted((answer["tp_price"], answer["sl_price"]))
        opened = timeframe_to_prev_date(self.timeframe, current_time)
        ended = any(
            trade.close_date_utc >= opened and trade.exit_reason != HORIZON
            for trade in Trade.get_trades_proxy(pair=pair, is_open=False)
        )
        return not ended and bool(levels[0] < rate < levels[1])

    def custom_stoploss(
        self,
        pair: str,
        trade: Trade,
        current_time: datetime,
        current_rate: float,
        current_profit: float,
        after_fill: bool,
        **kwargs: Any,
    ) -> float | None:
        """Puts the stop on the tick at or beyond the label's, once: it does not trail.

        freqtrade rounds a stop to the next tick towards the entry, where prices lie
        that do not touch the label's.
        """
        if not after_fill:
            return None
        stop = price_to_precision(
            self._label(trade)["sl_price"],
            trade.price_precision,
            trade.precision_mode_price,
            rounding_mode=ROUND_UP if trade.is_short else ROUND_DOWN,
        )
        beyond = 1e-9 if trade.is_short else -1e-9  # the rounding takes it back
        return stoploss_from_absolute(
            stop * (1 + beyond),
            current_rate,
            is_short=trade.is_short,
            leverage=trade.leverage,
        )

    def custom_roi(self, pair: str, trade: Trade, **kwargs: Any) -> float:
        """Returns what the label's take profit leaves after fees and funding.

        Ratios have eight decimals; a touch counts.
        """
        return trade.calc_profit_ratio(self._label(trade)["tp_price"]) - 1e-8

    def custom_exit(
        self, pair: str, trade: Trade, current_time: datetime, **kwargs: Any
    ) -> str | None:
        """Leaves at the horizon, before a stop of that very candle."""
        expired = current_time.timestamp() >= self._label(trade)["expires_at"]
        return HORIZON if expired else None
