"""Is a signal of live candles the one of the report? Families x features x pairs.

Trains a small model of each on real minutes, then answers the candles again: all test
rows at once; the newest of them bar by bar from a history, from a restart in between,
and across missing bars and a gap, against a table of the same candles.

make live CANDLES="ETHUSDT-1m.parquet BTCUSDT-1m.parquet"
"""

import argparse
import contextlib
import io
import itertools
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import HOLD

FAMILIES = ("lstm", "gru", "cnn", "mlp", "tcn", "lightgbm", "random_forest", "logistic")
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
    **{"tcn_filters": 8},
    **{"cnn_kernels": (3,), "dense_units": (8,), "num_trees": 20, "max_depth": 6},
    **{"baseline_model": False, "importance_windows": None, "tensorboard": False},
    # Without costs validation finds thresholds, so that all three signals are compared.
    **{"report": "light", "fee_bps": 0.0, "slippage_bps": 0.0},
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
    """Largest difference of all test rows, how many are no HOLD, are signals equal."""
    table = pd.read_parquet(next(folder.glob("predictions_*.parquet")))
    test = table[table["part"] == "test"].set_index("timestamp")
    asked = int((candles["timestamp"] >= test.index[0]).sum())
    rows = predictor.predict_candles(candles, last=asked).set_index("timestamp")
    rows = rows.loc[test.index]
    apart = np.abs(rows[ANSWERS].to_numpy() - test[CALIBRATED].to_numpy()).max()
    is_same = (rows["status"] == "ok").all() and (
        rows["signal"] == test["signal"]
    ).all()
    num_trades = int((test["signal"] != HOLD).sum())
    return float(apart), len(test), num_trades, bool(is_same)


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


def differences(candles, config, *, num_bars):
    """Trains, compares and prints; the largest difference, and how many test rows."""
    from predictor import Predictor

    folder = train(candles, config)
    predictor = Predictor(folder)
    apart, count, num_trades, is_same = batch_difference(predictor, candles, folder)
    tables = (
        candles,
        candles.drop(index=candles.index[[-150, -100, -99]]),
        candles.drop(index=candles.index[-200:-120]),
    )
    streams = [stream_difference(predictor, each, num_bars=num_bars) for each in tables]
    is_same = is_same and all(each[1] for each in streams)
    from_history, missing, gap = (each[0] for each in streams)
    cold = cold_start(predictor, candles) if config.feature_sets == ("ray12",) else 0.0
    print(
        f"  {count:>6,} test rows, {num_trades:>5,} no HOLD: {apart:.1e}; stream "
        f"{from_history:.1e}, missing bars {missing:.1e}, gap {gap:.1e} "
        f"{streams[2][2]}; signals {'equal' if is_same else 'DIFFER'}",
        flush=True,
    )
    assert is_same
    return max(apart, from_history, missing, gap, cold), count


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candles", nargs="+", metavar="PAIR-1m.parquet")
    parser.add_argument("--quick", action="store_true", help="each family once")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--bars", type=int, default=300, help="bars of each stream")
    options = parser.parse_args()
    from candles import read_candles
    from config import Config

    files = {Path(path).name.partition("-")[0]: path for path in options.candles}
    cases = list(itertools.product(options.families, FEATURES, files))
    if options.quick:
        cases = [
            (family, list(FEATURES)[i % len(FEATURES)], list(files)[i % len(files)])
            for i, family in enumerate(options.families)
        ]
    found = []
    with tempfile.TemporaryDirectory() as place:
        places = {"inputs_dir": place, "outputs_dir": place}
        for family, features, pair in cases:
            config = Config(
                pair=pair, model=family, **places, **SMALL | FEATURES[features]
            )
            print(f"{family}, {features}, {pair}")
            candles = read_candles(files[pair])
            found.append(differences(candles, config, num_bars=options.bars))
    worst, count = max(each[0] for each in found), sum(each[1] for each in found)
    print(f"{count:,} test rows, largest difference {worst:.1e}")
    assert worst <= 1e-6


if __name__ == "__main__":
    main()
