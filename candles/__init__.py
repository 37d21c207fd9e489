"""Exchange files -> the one candle table: read, check, fill, resample, synthesise."""

from candles.checks import check_candles
from candles.synthetic import synthetic_candles
from candles.table import fill_gaps, read_candles, resample_candles

__all__ = [
    "check_candles",
    "fill_gaps",
    "read_candles",
    "resample_candles",
    "synthetic_candles",
]
