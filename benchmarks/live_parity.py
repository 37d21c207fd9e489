"""Is a signal of live candles the one of the report? Families x features x pairs.

Trains a small model of each on real minutes, then answers the candles again: all test
rows at once; the newest of them bar by bar from a history, from a restart in between,
and across missing bars and a gap, against a table of the same candles.

python benchmarks/live_parity.py ETHUSDT-1m.parquet BTCUSDT-1m.parquet [--quick]
"""

import argparse
import contextlib
import io
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

FAMILIES = ("lstm", "gru", "cnn", "lightgbm", "random_forest", "logistic")
FEATURES = {
    "core8": {},
    "ray12": {"feature_sets": ("ray12",)},
    "indicators34": {"feature_sets": ("indicators34",)},
    "core8_7d + 15m, 1h": {
        "feature_sets": ("core8_7d",),
        "higher_timeframes": ("15m", "1h"),
    },
}
SMALL = {
    **{"epochs": 1, "windows_per_epoch": 4000, "sequence_length": 60},
    **{"lstm_units": (16,), "gru_units": (16,), "cnn_filters": (8,)},
    **{"cnn_kernels": (3,), "dense_units": (8,), "num_trees": 20, "max_depth": 6},
    **{"baseline_model": False, "importance_windows": None, "tensorboard": False},
    "report": "light",
}
ANSWERS = ["p_short", "p_hold", "p_long"]
CALIBRATED = ["calibrated_short", "calibrated_hold", "calibrated_long"]


def train(candles, config):
    """The published folder of a small run on candles."""
    from dataset_builder import build_training_file
    from models.device import silent_stderr
    from trainer import StandaloneTrainer

    with contextlib.redirect_stdout(io.StringIO()), silent_stderr():
        if not config.expected_path.exists():
            build_training_file(candles, config)
        return StandaloneTrainer(config).run_training()


def batch_difference(predictor, candles, folder):
    """Largest difference of all test rows, how many, and whether signals are equal."""
    table = pd.read_parquet(next(folder.glob("predictions_*.parquet")))
    test = table[table["part"] == "test"].set_index("timestamp")
    asked = int((candles["timestamp"] >= test.index[0]).sum())
    rows = predictor.predict_candles(candles, last=asked).set_index("timestamp")
    rows = rows.loc[test.index]
    apart = np.abs(rows[ANSWERS].to_numpy() - test[CALIBRATED].to_numpy()).max()
    is_same = (rows["status"] == "ok").all() and (
        rows["signal"] == test["signal"]
    ).all()
    return float(apart), len(test), bool(is_same)


def stream_difference(predictor, candles, *, num_bars):
    """Largest difference of the last bars, one by one with a restart, to a table."""
    split = len(candles) - num_bars
    found = []
    for first, stop in ((split, split + num_bars // 2), (split + num_bars // 2, None)):
        stream = predictor.stream(candles[:first])
        found += [stream.update(row) for _, row in candles[first:stop].iterrows()]
    rows = pd.DataFrame(found).set_index("timestamp")
    span = candles["timestamp"].iloc[-1] - candles["timestamp"].iloc[split]
    asked = int(span // pd.Timedelta(predictor.config.bar_seconds, "s")) + 1
    table = predictor.predict_candles(candles, last=asked).set_index("timestamp")
    table = table.loc[rows.index]
    assert (rows["status"] == table["status"]).all()
    apart = np.abs(rows[ANSWERS].to_numpy(float) - table[ANSWERS].to_numpy())
    is_same = bool((rows["signal"] == table["signal"]).all())
    statuses = rows["status"].value_counts().to_dict()
    return float(np.nanmax(apart, initial=0.0)), is_same, statuses


def cold_start(predictor, candles):
    """The same from no history at all, for twenty bars behind the first answer."""
    stream, count = predictor.stream(), predictor.min_candles + 20
    first = candles[:count]
    rows = pd.DataFrame([stream.update(row) for _, row in first.iterrows()])
    table = predictor.predict_candles(first, last=20)
    apart = np.abs(rows[ANSWERS].to_numpy(float)[-20:] - table[ANSWERS].to_numpy())
    return float(apart.max())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candles", nargs="+", metavar="PAIR-1m.parquet")
    parser.add_argument("--quick", action="store_true", help="each family once")
    parser.add_argument("--bars", type=int, default=300, help="bars of each stream")
    options = parser.parse_args()
    import utils
    from candles import read_candles
    from config import Config
    from predictor import Predictor

    utils.configure_logging()
    files = {Path(path).name.partition("-")[0]: path for path in options.candles}
    cases = list(itertools.product(FAMILIES, FEATURES, files))
    if options.quick:
        cases = [
            (family, list(FEATURES)[i % len(FEATURES)], list(files)[i % len(files)])
            for i, family in enumerate(FAMILIES)
        ]
    worst = 0.0
    with tempfile.TemporaryDirectory() as place:
        for family, features, pair in cases:
            candles = read_candles(files[pair])
            config = Config(
                pair=pair,
                model=family,
                inputs_dir=place,
                outputs_dir=place,
                **SMALL | FEATURES[features],
            )
            folder = train(candles, config)
            predictor = Predictor(folder)
            apart, count, is_same = batch_difference(predictor, candles, folder)
            broken = candles.drop(index=candles.index[[-150, -100, -99]])
            streams = [
                stream_difference(predictor, table, num_bars=options.bars)
                for table in (candles, broken)
            ]
            gap = candles.drop(index=candles.index[-200:-120])
            streams.append(stream_difference(predictor, gap, num_bars=options.bars))
            cold = cold_start(predictor, candles) if features == "ray12" else 0.0
            numbers = [each[0] for each in streams]
            worst = max(worst, apart, cold, *numbers)
            all_same = is_same and all(each[1] for each in streams)
            print(
                f"{family:<14} {features:<20} {pair:<8} {count:>6,} test rows "
                f"{apart:.1e}; stream {numbers[0]:.1e}, missing bars {numbers[1]:.1e}, "
                f"gap {numbers[2]:.1e} {streams[2][2]}; "
                f"signals {'equal' if all_same else 'DIFFER'}",
                flush=True,
            )
            assert all_same
    print(f"largest difference {worst:.1e}")
    assert worst <= 1e-6


if __name__ == "__main__":
    main()
