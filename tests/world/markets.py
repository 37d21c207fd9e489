"""A made-up market whose direction changes, and a quick model of its 15-minute bars."""

import pandas as pd

from candles.synthetic import synthetic_candles
from config import Config
from dataset.builder import build_training_file
from trainer import StandaloneTrainer

BARS_A_DAY = 96
FIELDS = {
    "pair": "TESTUSDT",
    "timeframe": "15m",
    "model": "logistic",
    "report": "light",
    "sequence_length": 16,
    "future_window": 8,
    **dict.fromkeys(("long_tp_pct", "short_tp_pct"), 0.2),
    **dict.fromkeys(("long_sl_pct", "short_sl_pct"), 0.2),
    "fee_bps": 0.0,
    "slippage_bps": 0.0,
    "validation_split": 0.3,
    "test_split": 0.2,
}


PRICES = ["open", "high", "low", "close"]


def market(strengths, days, moves=(1.0, 1.0), start="2024-01-01"):
    """Candles in stretches of days, each with a direction and moves of its own."""
    pieces, start, price = [], pd.Timestamp(start, tz="UTC"), None
    for seed, (strength, count) in enumerate(zip(strengths, days, strict=True)):
        piece = synthetic_candles(
            count * BARS_A_DAY,
            seed=seed,
            strength=strength,
            timeframe="15m",
            start=start,
        )
        begin = piece["open"].iloc[0]
        piece[PRICES] = (price or begin) * (piece[PRICES] / begin) ** moves[seed]
        price, start = piece["close"].iloc[-1], start + pd.Timedelta(count, "D")
        pieces.append(piece)
    return pd.concat(pieces, ignore_index=True)


def trained(candles, folder, **fields):
    """The artifact of a run on candles, below a folder."""
    places = {"inputs_dir": str(folder), "outputs_dir": str(folder)}
    config = Config(**FIELDS | places | fields)
    build_training_file(candles, config)
    return StandaloneTrainer(config).run_training()
