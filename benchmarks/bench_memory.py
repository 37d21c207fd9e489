"""Peak memory of a run: by rows, by batch size, by family, against its estimate.

Growth over the imports, in a fresh process each: read a training file, train 24 steps
of the network at its default sizes, predict. The figure that counts is 12 M rows minus
0.2 M rows of the LSTM at the same batch: at most 1.5 times the feature array (384 MB).
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from common import measure, parser, resident_bytes, show

FEATURES, STEPS = 8, 24
CASES = [
    (200_000, 256, "lstm"),
    (12_000_000, 256, "lstm"),
    (200_000, 512, "lstm"),
    (200_000, 1024, "lstm"),
    (200_000, 256, "gru"),
    (200_000, 256, "cnn"),
    (200_000, 256, "cnn_lstm"),
    (200_000, 256, "mlp"),
    (200_000, 256, "tcn"),
    (200_000, 256, "attention"),
    (200_000, 256, "ensemble"),
]


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


def run(path, batch_size, model):
    from networks import allocator

    allocator.share_heaps()  # as a command does
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
    from settings.sizes import estimate_memory

    before = resident_bytes()
    config = Config(
        model=model,
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
    network = DualWindowLSTMBuilder(config, FEATURES).build_model()
    network.fit(
        generators.train_dataset(),
        epochs=1,
        steps_per_epoch=generators.steps_per_epoch,
        shuffle=False,
        verbose=0,
    )
    rows = data.parts["test"].targets[:10_000]
    network.predict(generators.evaluation_dataset(rows), verbose=0)
    estimate = estimate_memory(config, FEATURES, data.num_rows)
    return {
        "loaded": loaded,
        "peak": utils.peak_resident_bytes() - before,
        "estimate": estimate["total"],
    }


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--path")
    options.add_argument("--batch-size", type=int, default=256)
    options.add_argument("--model", default="lstm")
    options.add_argument("--models", nargs="*", help="families measured; all of them")
    arguments = options.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.path, arguments.batch_size, arguments.model)))
        return
    wanted = arguments.models or {model for _, _, model in CASES}
    cases = [case for case in CASES if case[2] in wanted]
    found, rows = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = {case[0]: Path(folder) / f"{case[0]}.feather" for case in cases}
        for count, path in files.items():
            write_file(path, count)
        for count, batch, model in cases:
            options = ("--path", files[count], "--batch-size", batch, "--model", model)
            got = measure(__file__, "run", *options)
            found.append(got | {"rows": count, "batch_size": batch, "model": model})
            rows.append(
                [f"{model}, {count / 1e6:g} M rows, batch {batch}"]
                + [f"{got[key] / 1e6:.0f}" for key in ("loaded", "peak", "estimate")]
                + [f"{got['estimate'] / got['peak']:.2f}"]
            )
    if "lstm" in wanted:
        growth = found[1]["peak"] - found[0]["peak"]
        array = (CASES[1][0] - CASES[0][0]) * FEATURES * 4
        rows.append(["growth with rows", "", f"{growth / 1e6:.0f}", "", ""])
        multiple = f"{growth / array:.2f}"
        rows.append(["  as a multiple of the feature array", "", multiple, "", ""])
    columns = ["MB above the imports", "loaded", "peak", "estimate", "estimate / peak"]
    show("Memory of a run", columns, rows, found, arguments.json)


if __name__ == "__main__":
    main()
