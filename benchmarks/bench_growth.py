"""Loading and an epoch of fixed length over 10^4 to 10^7 rows: linear, flat memory.

Seconds to read, check and scale a training file; windows/s of an epoch of 20,480
windows with a small network; peak memory above the feature array.
"""

import json
import tempfile
import time
from pathlib import Path

from bench_memory import FEATURES, write_file
from common import measure, parser, resident_bytes, show

ROWS = [10_000, 100_000, 1_000_000, 10_000_000]
WINDOWS = 20_480


def run(path):
    import keras  # noqa: F401
    import pandas as pd  # noqa: F401
    import pyarrow.feather  # noqa: F401
    import sklearn.preprocessing  # noqa: F401
    import tensorflow as tf  # noqa: F401

    import utils
    from config import Config
    from data_loader import TrainingDataLoader
    from model_builder import DualWindowLSTMBuilder, configure_runtime
    from sequence_generator import MemoryEfficientDataLoader

    before = resident_bytes()
    config = Config(lstm_units=(16,), class_balancing_method="none", batch_size=512)
    started = time.perf_counter()
    data = TrainingDataLoader(path, config=config).load_training_data()
    load_seconds = time.perf_counter() - started
    configure_runtime(config)
    generators = MemoryEfficientDataLoader(
        data, batch_size=512, seed=1, windows_per_epoch=WINDOWS
    )
    model = DualWindowLSTMBuilder(config, FEATURES).build_model()
    rates = []
    for epoch in range(3):
        started = time.perf_counter()
        model.fit(
            generators.train_dataset(first_epoch=epoch),
            initial_epoch=epoch,
            epochs=epoch + 1,
            steps_per_epoch=generators.steps_per_epoch,
            shuffle=False,
            verbose=0,
        )
        rates.append(WINDOWS / (time.perf_counter() - started))
    peak = utils.peak_resident_bytes() - before - data.features.nbytes
    return {"load_seconds": load_seconds, "rate": max(rates), "above_array": peak}


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--path")
    arguments = options.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.path)))
        return
    found, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        for count in ROWS:
            path = Path(folder) / "rows.feather"
            write_file(path, count)
            got = measure(__file__, "run", "--path", path) | {"rows": count}
            found.append(got)
            per_million = got["load_seconds"] / count * 1e6
            rows.append(
                [f"{count:,}", f"{got['load_seconds']:.2f}", f"{per_million:.2f}"]
                + [f"{got['rate']:.0f}", f"{got['above_array'] / 1e6:.0f}"]
            )
    columns = ["rows", "load s", "s per M rows", "windows/s", "MB above the array"]
    show("Growth", columns, rows, found, arguments.json)


if __name__ == "__main__":
    main()
