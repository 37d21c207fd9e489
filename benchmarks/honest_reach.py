"""How far honest models get on real candles: what is beyond that asks for an audit.

Boosting, LightGBM and logistic regression on features that look back alone, trained on
60 %, judged like any run on the last 20 % of every candle file (long ones in parts);
labels of two take profits, and a return. The limits in `evaluation.verdict` are above
the largest figures. Half an hour on two cores.

    python benchmarks/honest_reach.py CANDLES.parquet ... [--costs-bps 15]
        [--models xgboost catboost]
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path

import pandas as pd
from common import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candles.table import read_candles
from config import Config
from data_loader import TrainingDataLoader
from dataset.builder import build_training_frame
from evaluation.evaluate import decide, evaluate
from models.families import create_adapter
from utils import ConfigError, DataError

MAX_BARS = 250_000
MODELS = ("gradient_boosting", "lightgbm", "logistic")
TARGETS = (
    {"long_tp_pct": 1.0, "long_sl_pct": 0.5, "future_window": 120},
    {"long_tp_pct": 0.5, "long_sl_pct": 0.5, "future_window": 30},
    {"target": "return", "future_window": 15},
)


def stretches(path):
    """Yields the name and the candles of each stretch of a file."""
    candles = read_candles(path)
    count = max(1, len(candles) // MAX_BARS)
    size = len(candles) // count
    for k in range(count):
        part = candles.iloc[k * size : (k + 1) * size].reset_index(drop=True)
        yield f"{path.stem}{f' {k + 1}/{count}' if count > 1 else ''}", part


def judged(data, config):
    """Returns the test part of one model, all of the evaluation done."""
    adapter = create_adapter(config)
    adapter.fit(data)
    outputs = {
        part: adapter.predict_rows(data, data.parts[part].targets)
        for part in ("validation", "test")
    }
    return evaluate(decide(data, outputs, config), data, config)["test"]


def figures(test):
    """Returns direction skill, share of right signs and annual Sharpe ratio."""
    trading = test["trading"]
    return (
        test.get("direction_skill_vs_train_prior"),
        test.get("sign_accuracy"),
        trading.get("sharpe"),
        test.get("intervals", {}).get("direction_skill_vs_train_prior", {}).get("low"),
        trading.get("intervals", {}).get("sharpe", {}).get("low"),
        trading.get("num_trades", 0),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candles", nargs="+", type=Path)
    parser.add_argument("--costs-bps", type=float, default=0.0, help="of a side")
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows = []
    for path in options.candles:
        pair, timeframe = path.stem.split("-")[:2]
        for name, candles in stretches(path):
            market = {"pair": pair.replace("_", ""), "timeframe": timeframe}
            rows += of_candles(name, candles, market, options)
    table = pd.DataFrame(
        rows,
        columns=[
            "candles",
            "model",
            "target",
            "direction",
            "signs",
            "sharpe",
            "low direction",
            "low sharpe",
            "trades",
        ],
    )
    print(table.sort_values("sharpe").tail(12).to_string())
    print(
        table[["direction", "signs", "sharpe", "low direction", "low sharpe"]].agg(
            ["count", "median", "max"]
        )
    )
    print(*machine().values(), sep=", ")


def of_candles(name, candles, market, options):
    """Returns a row for each target and model that these candles allow."""
    rows = []
    for target in TARGETS:
        for model in options.models:
            try:
                config = Config(
                    model=model,
                    fee_bps=options.costs_bps,
                    slippage_bps=0,
                    sequence_length=30,
                    feature_sets=("ray12",),
                    test_split=0.2,
                    validation_split=0.2,
                    baseline_model=False,
                    **market,
                    **target,
                )
                frame, _ = build_training_frame(candles, config)
                loader = TrainingDataLoader.from_frame(frame, config=config)
                found = figures(judged(loader.load_training_data(), config))
            except (ConfigError, DataError) as error:
                print(f"{name} {model}: {error}", flush=True)
                continue
            kind = target.get("target", f"tp {target.get('long_tp_pct')}")
            rows.append([name, model, kind, *found])
            print(*rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
