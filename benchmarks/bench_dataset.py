"""Candles -> training file -> cache: seconds, memory, ratios, all in one run.

    python benchmarks/bench_dataset.py [CANDLES.parquet] [--bars N] [--json FILE]
        [--mlfinpy PYTHON]

Without candles the embedded synthetic market stands in. `--mlfinpy` names the Python of
an environment that has mlfinpy; without it labels are compared with a plain loop alone.
"""

import argparse
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
from common import resident_bytes

import utils
from candles import table as candle_tables
from candles.synthetic import synthetic_candles
from config import Config
from dataset import labels, training_file
from dataset.builder import DatasetBuilder

PAIR = "BENCHUSDT"
SETS = (("core8",), ("core8", "window_stats"))
LOOP_BARS = 20_000
MLFINPY_BARS = 20_000

# Its barriers are close to close, vertical after 120 minutes, symmetric or not.
MLFINPY = """
import sys, time, json, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
from mlfinpy.labeling import add_vertical_barrier, get_bins, get_events
saved = np.load(sys.argv[1])
close = pd.Series(saved["close"], index=pd.DatetimeIndex(saved["timestamp"]))
started = time.perf_counter()
events = close.index[:-120]
vertical = add_vertical_barrier(t_events=events, close=close, num_minutes=120)
target = pd.Series(0.01, index=events)
found = get_events(
    close=close, t_events=events, pt_sl=[1.0, 0.5], target=target, min_ret=0.0,
    num_threads=1, vertical_barrier_times=vertical, verbose=False,
)
bins = get_bins(found, close)
print(json.dumps([time.perf_counter() - started, len(bins)]))
"""


def repeated_candles(path, num_bars):
    """Real bars, again and again, later and at another price level."""
    if path is None:
        return synthetic_candles(num_bars, seed=1)
    table = candle_tables.read_candles(path)
    span = table["timestamp"].iloc[-1] - table["timestamp"].iloc[0]
    parts, count, level = [], 0, 1.0
    while count < num_bars:
        part = table.copy()
        part["timestamp"] += (span + pd.Timedelta(minutes=1)) * len(parts)
        part[["open", "high", "low", "close"]] *= level
        parts.append(part)
        count += len(part)
        level *= part["close"].iloc[-1] / level / part["open"].iloc[0]
    return pd.concat(parts, ignore_index=True).iloc[:num_bars]


def timed(function):
    gc.collect()
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def features_and_target(builder, path):
    dataset = builder.build_dataset(candles=path)
    return dataset.features, dataset.target


def bench_build(path, sets, folder, repeats):
    """Build without cache, with it, open, read: medians of the same run."""
    config = Config(pair=PAIR, feature_sets=sets, inputs_dir=str(folder))
    first, cached_open, used, read = (
        "first build, cache written",
        "cached, open",
        "cached, features and target",
        "cached, every column",
    )
    seconds = {name: [] for name in ("build", first, cached_open, used, read)}
    plain = DatasetBuilder(config, use_cache=False)
    cached = DatasetBuilder(config)
    for _ in range(repeats):
        cached.clear_cache()
        seconds["build"].append(timed(lambda: plain.build_dataset(candles=path))[0])
        seconds[first].append(timed(lambda: cached.build_dataset(candles=path))[0])
        seconds[cached_open].append(
            timed(lambda: cached.build_dataset(candles=path))[0]
        )
        seconds[used].append(timed(lambda: features_and_target(cached, path))[0])
        spent, frame = timed(lambda: cached.build_dataset(candles=path).frame)
        seconds[read].append(spent)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name in (cached_open, used, read):
        median[f"build / {name}"] = median["build"] / median[name]
    median["rows"], median["columns"] = frame.shape
    median["cache bytes"] = cached.get_cache_info()["bytes"]
    return median


def bench_file(table, folder):
    """Processing alone: a checked table in memory becomes a training file."""
    config = Config(pair=PAIR, inputs_dir=str(folder))
    builder = DatasetBuilder(config, use_cache=False)
    before = resident_bytes()
    spent, dataset = timed(lambda: builder.build_dataset(candles=table))
    writing, _ = timed(
        lambda: training_file.write_training_file(
            config.expected_path, dataset.frame, dataset.metadata
        )
    )
    return {
        "build": spent,
        "write": writing,
        "processing": spent + writing,
        "memory before": before,
        "peak memory": utils.peak_resident_bytes(),
        "rows": len(dataset.frame),
    }


def plain_loop(table, window=120, tp=0.01, sl=0.005):
    """The triple barrier as it is usually written: bar by bar, both sides."""
    names = ("open", "high", "low", "close")
    opens, high, low, close = (table[name].tolist() for name in names)
    result = []
    for row in range(len(close) - window):
        entry, wins = close[row], {}
        for side in (1, -1):
            take, stop = entry * (1 + side * tp), entry * (1 - side * sl)
            take, stop = take - side * entry * 1e-15, stop + side * entry * 1e-15
            for later in range(row + 1, row + window + 1):
                if side * opens[later] >= side * take:
                    wins[side] = later
                    break
                if (low[later] <= stop) if side > 0 else (high[later] >= stop):
                    break
                if (high[later] >= take) if side > 0 else (low[later] <= take):
                    wins[side] = later
                    break
        first = wins.get(1, 10**9), wins.get(-1, 10**9)
        result.append(1 if first[0] == first[1] else 2 if first[0] < first[1] else 0)
    return result


def bench_labels(table, python, folder):
    """Rows a second of three label generators on the same candles."""
    spent, ours = timed(lambda: labels.label_candles(table))
    result = {"label_candles, rows/s": len(table) / spent}
    head = table.iloc[:LOOP_BARS]
    spent, loop = timed(lambda: plain_loop(head))
    assert loop == ours["label"].iloc[: len(loop)].tolist()
    result["plain Python loop, rows/s (equal labels)"] = len(head) / spent
    if python is not None:
        file, some = Path(folder) / "labels.npz", table.iloc[:MLFINPY_BARS]
        times = some["timestamp"].dt.tz_localize(None).to_numpy()
        np.savez(file, timestamp=times, close=some["close"].to_numpy())
        output = subprocess.run(
            [python, "-c", MLFINPY, str(file)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        seconds, count = json.loads(output.splitlines()[-1])
        result["mlfinpy, rows/s (long side, closes)"] = count / seconds
    rates = list(result.values())
    result |= {
        f"ours / {name.split(',')[0]}": rates[0] / rate
        for name, rate in list(result.items())[1:]
    }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("candles", nargs="?")
    parser.add_argument("--bars", type=int, default=2_700_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json")
    parser.add_argument("--mlfinpy", metavar="PYTHON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    table = repeated_candles(arguments.candles, arguments.bars)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        results["training file from a table, core8"] = bench_file(table, folder)
        path = Path(folder) / f"{PAIR}-1m.parquet"
        table.to_parquet(path)
        for sets in SETS:
            name = f"dataset from a file, {'+'.join(sets)}"
            results[name] = bench_build(path, sets, folder, arguments.repeats)
        filled = candle_tables.fill_gaps(table, "1m")
        results["labels"] = bench_labels(filled, arguments.mlfinpy, folder)
    print(f"{len(table):,} one-minute bars, {utils.available_cores()} cores")
    for section, numbers in results.items():
        print(section)
        for name, value in numbers.items():
            is_bytes = "memory" in name or "bytes" in name
            shown = utils.format_bytes(value) if is_bytes else f"{value:,.3f}"
            print(f"  {name:<44}{shown:>16}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
