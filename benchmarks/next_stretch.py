"""How often the next stretch lies in the range that a report gives for it.

On each file of real candles a model of the project is trained on what came before, at
many origins. A report of one stretch gives the range (`evaluation.outlook`), without
the drift and the folds that widen it in a run; the stretch after it, of the same
length, is scored. Origins are a quarter of a stretch apart or more: most overlap, so
the counts are not independent. Trades are free, else hardly any threshold trades.

    python benchmarks/next_stretch.py [--data DIR] [--model logistic] [--origins 24]

Exit code 1 unless between 0.80 and 0.95 of all lie inside, and at least 0.70 of each
file with 20 origins or more.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from candles import read_candles
from config import Config
from data_loader import TrainingDataLoader
from dataset.builder import build_training_frame
from evaluation.evaluate import decide, evaluate
from evaluation.outlook import NET, expected_range
from models.families import create_adapter

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
STRETCHES = {"1m": (12, 120), "5m": (16, 60), "15m": (24, 48), "1h": (48, 24)}
"""Timeframe -> days of a stretch, bars of a label; training has two stretches."""

SKILLS = {
    "skill": "skill_vs_train_prior",
    "activity": "activity_skill_vs_train_prior",
    "direction": "direction_skill_vs_train_prior",
}


def origin_results(frame, config):
    """Returns the results of two stretches, the model trained before both."""
    data = TrainingDataLoader.from_frame(frame, config=config).load_training_data()
    adapter = create_adapter(config)
    adapter.fit(data)
    outputs = {
        part: adapter.predict_rows(data, data.parts[part].targets)
        for part in ("validation", "test")
    }
    return evaluate(decide(data, outputs, config), data, config)


def hits_of(results):
    """Returns name -> whether the later stretch lies in the range given."""
    seen, later, found = results["validation"], results["test"], {}
    pairs = {name: (seen["intervals"][key], later[key]) for name, key in SKILLS.items()}
    if "skipped" not in seen["trading"]:
        pairs["net"] = (seen["trading"]["intervals"][NET], later["trading"][NET])
    for name, (interval, value) in pairs.items():
        given = expected_range(interval)
        if given["low"] is not None and value is not None:
            found[name] = given["low"] <= value <= given["high"]
    return found


def study(path, options):
    """Returns the hits of each origin of one file."""
    pair, _, timeframe = path.stem.partition("-")
    timeframe = timeframe.split("-")[0]
    days, horizon = STRETCHES[timeframe]
    config = Config(
        pair=pair.replace("_", ""),
        timeframe=timeframe,
        model=options.model,
        feature_sets=("core8_7d",),
        sequence_length=10,
        future_window=horizon,
        validation_split=0.25,
        test_split=0.25,
        max_tabular_targets=10_000,
        fee_bps=0.0,
        slippage_bps=0.0,
        baseline_model=False,
        calibration_method="none",
    )
    candles = read_candles(path, timeframe=timeframe)
    frame, _ = build_training_frame(candles, config)
    rows = 4 * days * 86_400 // config.bar_seconds
    last = len(frame) - rows
    if last < 0:
        return []
    count = min(options.origins, 1 + 16 * last // rows)
    windows = (
        frame.iloc[k : k + rows].reset_index(drop=True)
        for k in np.linspace(0, last, count).astype(int)
    )
    return [hits_of(origin_results(window, config)) for window in windows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", default="logistic")
    parser.add_argument("--origins", type=int, default=24)
    options = parser.parse_args()
    paths = [p for p in sorted(options.data.glob("*.parquet")) if "-1d" not in p.stem]
    if not paths:
        print(f"error: no candles (*.parquet) in {options.data}", file=sys.stderr)
        return 66
    started, everything, is_right = time.perf_counter(), [], True
    print(f"{'file':<28}{'origins':>8}" + "".join(f"{k:>11}" for k in (*SKILLS, "net")))
    for path in paths:
        found = study(path, options)
        values = [hit for origin in found for hit in origin.values()]
        everything += values
        line = f"{path.stem:<28}{len(found):>8}"
        for name in (*SKILLS, "net"):
            hits = [origin[name] for origin in found if name in origin]
            line += f"{np.mean(hits):>6.2f} of {len(hits):<2}" if hits else f"{'-':>11}"
        print(line, flush=True)
        is_right &= len(found) < 20 or np.mean(values) >= 0.70
    total = np.mean(everything)
    seconds = time.perf_counter() - started
    print(f"inside: {total:.2f} of {len(everything)}; {seconds:.0f} s")
    return 0 if is_right and 0.80 <= total <= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
