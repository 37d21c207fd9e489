"""Candles + features + labels -> a training file. Has a command line.

In: the order of the steps, which rows are kept, the description beside the file.
Out: the mathematics of features (`features`) and labels (`labels`), reading candle
files (`candles`), the file's contract (`training_file`).
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import candles as candle_files
import config as configuration
import features
import labels
import training_file
import utils
from config import CLASS_NAMES, Config
from utils import DataError

logger = logging.getLogger(__name__)

DEMO_PAIR = "DEMOUSDT"
DEMO_BARS = 300_000
DEMO_SEED = 7


def build_training_frame(
    candles: pd.DataFrame, config: Config
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Turns a checked candle table into the rows of a training file.

    Args:
        candles: Candle table (design.md, section 3), of the configuration's timeframe.
        config: Pair, timeframe and label parameters.

    Returns:
        The frame, and its description: counts, ranges, label mix, parameters.

    Raises:
        DataError: If no row has both its whole look-back and its whole future.
    """
    filled = candle_files.fill_gaps(
        candles, config.timeframe, max_fill_bars=config.max_fill_bars
    )
    table = features.compute_features(filled, timeframe=config.timeframe)
    outcome = labels.label_candles(
        filled,
        future_window=config.future_window,
        long_tp_pct=config.long_tp_pct,
        long_sl_pct=config.long_sl_pct,
        short_tp_pct=config.short_tp_pct,
        short_sl_pct=config.short_sl_pct,
        tie_policy=config.tie_policy,
    )
    warm = table.notna().all(axis=1).to_numpy()
    kept = warm & (outcome["label"] >= 0).to_numpy()
    if not kept.any():
        raise DataError(_nothing_kept_message(filled, config))
    frame = pd.concat(
        [
            filled.loc[kept, ["timestamp"]],
            table[kept].astype(np.float32),
            filled.loc[kept, ["close"]],
            outcome[kept],
            filled.loc[kept, ["segment"]],
        ],
        axis=1,
    ).reset_index(drop=True)
    return frame, _describe(frame, candles, filled, list(table.columns), config)


def _nothing_kept_message(filled: pd.DataFrame, config: Config) -> str:
    warm_up = features.warm_up_bars(timeframe=config.timeframe)
    sizes = filled["segment"].value_counts()
    return (
        f"expected one stretch of {warm_up} bars of warm-up and {config.future_window} "
        f"label bars without a gap longer than {config.max_fill_bars} bars. Received: "
        f"{len(sizes)} segments, the longest with {sizes.max()} bars. Use longer or "
        "more complete candles."
    )


def _describe(
    frame: pd.DataFrame,
    candles: pd.DataFrame,
    filled: pd.DataFrame,
    names: list[str],
    config: Config,
) -> dict[str, Any]:
    counts = np.bincount(frame["label"], minlength=len(CLASS_NAMES))
    built_with = ("pair", "timeframe", *configuration.LABEL_FIELDS)
    return {
        "parameters": {name: getattr(config, name) for name in built_with},
        "features": names,
        "feature_version": features.FEATURE_VERSION,
        "num_candles": len(candles),
        "num_rows": len(frame),
        "num_targets": int(frame["is_target"].sum()),
        "num_filled_bars": int(filled["is_filled"].sum()),
        "num_segments": int(filled["segment"].nunique()),
        "first": frame["timestamp"].iloc[0],
        "last": frame["timestamp"].iloc[-1],
        "label_shares": dict(zip(CLASS_NAMES, counts / counts.sum(), strict=True)),
    }


def build_training_file(candles: pd.DataFrame, config: Config) -> Path:
    """Builds the training file of `config` from a candle table; returns its path."""
    frame, description = build_training_frame(candles, config)
    path = training_file.write_training_file(config.expected_path, frame, description)
    shares = description["label_shares"]
    logger.info(
        "%s\n  %d rows from %d candles, %s to %s\n  %d bars filled, %d segments\n  %s",
        path,
        description["num_rows"],
        description["num_candles"],
        description["first"],
        description["last"],
        description["num_filled_bars"],
        description["num_segments"],
        ", ".join(f"{name} {share:.1%}" for name, share in shares.items()),
    )
    return path


def demo_candles(
    *, num_bars: int = DEMO_BARS, seed: int = DEMO_SEED, strength: float = 1.0
) -> pd.DataFrame:
    """Returns the embedded demo market: synthetic, with a planted direction signal."""
    return candle_files.synthetic_candles(num_bars, seed=seed, strength=strength)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dataset_builder.py",
        description="Builds a training file from candles.",
        allow_abbrev=False,
    )
    parser.add_argument("candles", nargs="*", help="candle files, joined in time order")
    parser.add_argument(
        "--demo", action="store_true", help="build the embedded demo market"
    )
    parser.add_argument(
        "--demo-strength",
        type=float,
        default=1.0,
        help="strength of the planted direction signal; 0 is none (default: 1)",
    )
    parser.add_argument("--config", help="YAML file with the same names as the flags")
    names = ("pair", "timeframe", "training_file", "inputs_dir", "verbose_logging")
    configuration.add_config_arguments(parser, (*names, *configuration.LABEL_FIELDS))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _build(arguments))


def _build(arguments: Sequence[str] | None) -> None:
    parsed, config = configuration.parse_arguments(_parser(), arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    if bool(parsed.candles) == parsed.demo:
        raise utils.ConfigError(
            "expected candle files, or --demo. "
            f"Received: {'both' if parsed.demo else 'neither'}"
        )
    started = time.perf_counter()
    if parsed.demo:
        if config.pair == Config().pair:
            config = config.replace(pair=DEMO_PAIR)
        table = demo_candles(strength=parsed.demo_strength)
    else:
        table = candle_files.read_candles(parsed.candles)
    if candle_files.detect_timeframe(table) != config.timeframe:
        table = candle_files.resample_candles(table, config.timeframe)
    utils.require_writable(config.expected_path.parent)
    build_training_file(table, config)
    logger.info("  built in %.1f s", time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
