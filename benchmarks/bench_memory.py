"""Peak memory of a run: by rows, by batch size, against the estimate shown before it.

Growth over the imports, in a fresh process each: read a training file, train 24 steps
of the reference network, predict. The figure that counts is 12 M rows minus 0.2 M rows
at the same batch: at most 1.5 times the feature array (384 MB).
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from common import measure, parser, show

FEATURES, STEPS = 8, 24
CASES = [(200_000, 256), (12_000_000, 256), (200_000, 512), (200_000, 1024)]


def write_file(path, rows):
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.standard_normal((rows, FEATURES), dtype=np.float32),
        columns=[f"f{i}" for i in range(FEATURES)],
        copy=False,
    )
    frame["label"] = rng.integers(0, 3, rows, dtype=np.uint8)
    times = pd.date_range("2000-01-01", periods=rows, freq="min", tz="UTC")
    frame.insert(0, "timestamp", times)
    frame.to_feather(path, compression="uncompressed")


def run(path, batch_size):
    import keras  # noqa: F401
    import pandas as pd  # noqa: F401
    import pyarrow.feather  # noqa: F401
    import sklearn.preprocessing  # noqa: F401
    import tensorflow as tf  # noqa: F401

    import config as configuration
    import utils
    from config import Config
    from data_loader import TrainingDataLoader
    from model_builder import DualWindowLSTMBuilder, configure_runtime
    from sequence_generator import MemoryEfficientDataLoader

    before = utils.resident_bytes()
    config = Config(
        batch_size=batch_size,
        windows_per_epoch=STEPS * batch_size,
        class_balancing_method="none",
    )
    data = TrainingDataLoader(path, config=config).load_training_data()
    loaded = utils.peak_resident_bytes() - before
    configure_runtime(config)
    generators = MemoryEfficientDataLoader(
        data, batch_size=batch_size, seed=1, windows_per_epoch=config.windows_per_epoch
    )
    model = DualWindowLSTMBuilder(config, FEATURES).build_model()
    model.fit(
        generators.train_dataset(),
        epochs=1,
        steps_per_epoch=generators.steps_per_epoch,
        shuffle=False,
        verbose=0,
    )
    rows = data.parts["test"].targets[:10_000]
    model.predict(generators.evaluation_dataset(rows), verbose=0)
    estimate = configuration.estimate_memory(config, FEATURES, data.num_rows)
    return {
        "loaded": loaded,
        "peak": utils.peak_resident_bytes() - before,
        "estimate": estimate["total"],
    }


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--path")
    options.add_argument("--batch-size", type=int, default=256)
    arguments = options.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.path, arguments.batch_size)))
        return
    found, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = {n: Path(folder) / f"{n}.feather" for n in {n for n, _ in CASES}}
        for count, path in files.items():
            write_file(path, count)
        for count, batch in CASES:
            options = ("--path", files[count], "--batch-size", batch)
            got = measure(__file__, "run", *options)
            found.append(got | {"rows": count, "batch_size": batch})
            rows.append(
                [f"{count / 1e6:g} M rows, batch {batch}"]
                + [f"{got[key] / 1e6:.0f}" for key in ("loaded", "peak", "estimate")]
                + [f"{got['estimate'] / got['peak']:.2f}"]
            )
    growth = found[1]["peak"] - found[0]["peak"]
    array = (CASES[1][0] - CASES[0][0]) * FEATURES * 4
    rows.append(["growth with rows", "", f"{growth / 1e6:.0f}", "", ""])
    rows.append(["  as a multiple of the feature array", "", f"{growth / array:.2f}"])
    rows[-1] += ["", ""]
    columns = ["MB above the imports", "loaded", "peak", "estimate", "estimate / peak"]
    show("Memory of a run", columns, rows, found, arguments.json)


if __name__ == "__main__":
    main()
