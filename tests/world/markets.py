"""A made-up market whose direction changes, and a quick model of its 15-minute bars."""

from candles.synthetic import synthetic_stretches
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


def market(strengths, days, moves=None, start="2024-01-01"):
    """Candles in stretches of days, each with a direction and moves of its own."""
    return synthetic_stretches(
        [count * BARS_A_DAY for count in days],
        seeds=range(len(days)),
        strengths=strengths,
        moves=moves,
        timeframe="15m",
        start=start,
    )


def trained(candles, folder, **fields):
    """The artifact of a run on candles, below a folder."""
    places = {"inputs_dir": str(folder), "outputs_dir": str(folder)}
    config = Config(**FIELDS | places | fields)
    build_training_file(candles, config)
    return StandaloneTrainer(config).run_training()
