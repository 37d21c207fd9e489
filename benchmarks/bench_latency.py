"""One live window to calibrated probabilities, and a batch: a loaded artifact against
`model.predict`, a forest of plain arrays against scikit-learn's; candles to a row of
signals, in one process and over HTTP. Milliseconds, medians of many calls.

`--case memory` has megabytes instead: what a stream keeps over 50,000 bars."""

import contextlib
import http.client
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import PROJECT, interleaved, parser, resident_bytes, show

CALLS = 300
UPDATES = 2000
MANY_UPDATES = 50_000


def artifact(folder):
    import pandas as pd

    from config import Config
    from models.device import silent_stderr
    from trainer import StandaloneTrainer

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((3000, 8)), columns=list("abcdefgh"))
    frame["label"] = rng.integers(0, 3, len(frame))
    frame.insert(0, "timestamp", pd.date_range("2024", periods=len(frame), freq="min"))
    config = Config(
        outputs_dir=folder, epochs=1, windows_per_epoch=512, baseline_model=False
    )
    with silent_stderr():
        return StandaloneTrainer(config, frame=frame).run_training()


def trained(folder, candles):
    """The folder of a small run on candles, `core8` on minutes."""
    from config import Config
    from dataset_builder import build_training_file
    from models.device import silent_stderr
    from trainer import StandaloneTrainer

    small = {"epochs": 1, "windows_per_epoch": 512, "baseline_model": False}
    places = {"inputs_dir": folder, "outputs_dir": folder}
    config = Config(pair="DEMOUSDT", report="light", **small, **places)
    with silent_stderr():
        build_training_file(candles, config)
        return StandaloneTrainer(config).run_training()


def memory():
    """Resident megabytes of a process after so many bars of a stream."""
    from dataset_builder import demo_candles
    from predictor import Predictor

    candles = demo_candles(num_bars=90 * 1440)
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            stream = Predictor(trained(folder, candles)).stream(candles[:-MANY_UPDATES])
    found = {}
    coming = candles[-MANY_UPDATES:].itertuples(index=False)
    for number, bar in enumerate(coming, start=1):
        assert stream.update(bar._asdict())["status"] == "ok"
        if number % 10_000 == 0 or number == UPDATES:
            found[number] = round(resident_bytes() / 2**20, 1)
    return found


def live(folder):
    """Milliseconds from candles to a row, `core8` on minutes; of 2,000 bars in turn."""
    from dataset_builder import demo_candles
    from predictor import Predictor

    candles = demo_candles(num_bars=90 * 1440)
    run = trained(folder, candles)
    predictor = Predictor(run)
    stream = predictor.stream(candles[:-UPDATES])
    bars = iter(candles[-UPDATES:].to_dict("records"))
    return {
        "a bar of a stream": median_ms(lambda: stream.update(next(bars)), UPDATES),
        "newest bar of 90 days": median_ms(
            lambda: predictor.predict_candles(candles), 10
        ),
        "a stream of 90 days opens": median_ms(lambda: predictor.stream(candles), 10),
        "a bar over HTTP": over_http(run, folder, candles),
    }


def over_http(run, folder, candles):
    """Milliseconds from a posted candle to its row, for a client that stays."""
    history = Path(folder, "DEMOUSDT-1m.parquet")
    candles[:-CALLS].to_parquet(history)
    coming = candles[-CALLS:].copy()
    coming["timestamp"] = coming["timestamp"].map(lambda time: time.isoformat())
    bodies = iter(map(json.dumps, coming.to_dict("records")))
    words = ["-m", "live", "serve", str(run), "--port", "0", "--history", str(history)]
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        told = next(line for line in process.stdout if line.startswith("http://"))
        client = http.client.HTTPConnection(told.strip().removeprefix("http://"))

        def post():
            client.request("POST", "/candles", next(bodies))
            assert client.getresponse().read().startswith(b'{"rows": [{')

        milliseconds = median_ms(post, CALLS)
        client.close()
        process.terminate()
    return milliseconds


def forest():
    """A fitted forest of 100 trees of depth 10, its plain arrays, and 20,000 inputs."""
    from sklearn.ensemble import RandomForestClassifier

    from models import conversion

    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((20_000, 48)).astype(np.float32)
    targets = np.digitize(inputs[:, 0] + rng.standard_normal(20_000), [-0.5, 0.5])
    estimator = RandomForestClassifier(100, max_depth=10, random_state=0)
    estimator.fit(inputs, targets)
    return estimator, conversion.of_sklearn(estimator, family="forest"), inputs


def trees():
    """Milliseconds of a forest's answers, to one window and to 20,000."""
    estimator, arrays, inputs = forest()
    return {
        "our forest, one window": median_ms(lambda: arrays.predict(inputs[:1]), CALLS),
        "scikit-learn's, one window": median_ms(
            lambda: estimator.predict_proba(inputs[:1]), 30
        ),
        "our forest, 20,000": median_ms(lambda: arrays.predict(inputs), 5),
        "scikit-learn's, 20,000": median_ms(lambda: estimator.predict_proba(inputs), 5),
    }


def median_ms(call, count):
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def run():
    from predictor import Predictor

    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            opened = artifact(folder)
            of_candles = live(folder)
        predictor = Predictor(opened)
        window = np.random.default_rng(1).standard_normal((120, 8)).astype(np.float32)
        batch = np.repeat(window[None], 1000, axis=0)
        network = predictor.adapter.network
        scaled = predictor.scaler.transform(window)[None]
        said = {
            "our compiled window": median_ms(
                lambda: predictor.predict_window(window), CALLS
            ),
            "model.predict of it": median_ms(
                lambda: network.predict(scaled, verbose=0), 30
            ),
            "our batch of 1,000": median_ms(
                lambda: predictor.predict_windows(batch), 10
            ),
            "model.predict of it, 1,000": median_ms(
                lambda: network.predict(batch, verbose=0, batch_size=1000), 10
            ),
        }
        return said | of_candles | trees()


def main():
    arguments = parser(__doc__).parse_args()
    if arguments.case:
        print(json.dumps({"run": run, "memory": memory}[arguments.case]()))
        return
    [found] = interleaved(__file__, ["run"], arguments.repeats).values()
    names = list(found[0])
    rows = [
        [name]
        + [
            f"{f([run[name] for run in found]):.2f}"
            for f in (statistics.median, min, max)
        ]
        for name in names
    ]
    show(
        "Latency, ms", ["call", "median", "least", "most"], rows, found, arguments.json
    )


if __name__ == "__main__":
    main()
