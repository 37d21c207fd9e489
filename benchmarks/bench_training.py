"""Windows per second of training: ours, stock Keras, PyTorch, each inside its own loop.

Reference network: window 120, 8 features, LSTM 128-64-32, Dense 32-16, batch 512, the
same dropout in all three.
Each measurement is a fresh process (thread counts are fixed at start) that trains one
cold epoch and then warm ones; the cases take turns. CPU milliseconds and page faults a
window are those of the warm epochs. The machine's own limits stand above the table: the
matrix product, and what the first touch of memory and a copy cost.

Another family: `--only "ours, gru" "stock Keras, gru"`.
"""

import contextlib
import ctypes.util
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from common import interleaved, machine, measure, parser, show, spread

WINDOW, FEATURES, BATCH = 120, 8, 512
WINDOWS, EPOCHS = 10_240, 3
MFLOP_A_WINDOW = 94  # matrix products alone, forward and back


def make_arrays(rows=60_000):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, FEATURES)).astype(np.float32)
    return features, rng.integers(0, 3, rows).astype(np.int8)


class Epochs:
    """What each epoch took: windows a second, CPU ms and page faults a window."""

    def __init__(self):
        self.rates = []

    def begin(self):
        self.started = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)

    def end(self):
        seconds, before = self.started
        now = resource.getrusage(resource.RUSAGE_SELF)
        self.rates.append(
            [
                WINDOWS / (time.perf_counter() - seconds),
                (now.ru_utime - before.ru_utime) / WINDOWS * 1e3,
                (now.ru_stime - before.ru_stime) / WINDOWS * 1e3,
                (now.ru_minflt - before.ru_minflt) / WINDOWS,
            ]
        )

    def callback(self):
        import keras

        return keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self.begin(),
            on_epoch_end=lambda epoch, logs: self.end(),
        )


def our_parts(resident=False, **fields):
    import pandas as pd

    from config import Config
    from data_loader import TrainingDataLoader
    from model_builder import DualWindowLSTMBuilder, configure_runtime
    from sequence_generator import MemoryEfficientDataLoader

    features, labels = make_arrays()
    frame = pd.DataFrame(features, columns=[f"f{i}" for i in range(FEATURES)])
    frame["label"] = labels
    frame.insert(0, "timestamp", pd.date_range("2024", periods=len(frame), freq="min"))
    config = Config(
        batch_size=BATCH,
        windows_per_epoch=WINDOWS,
        epochs=EPOCHS,
        class_balancing_method="none",
        **fields,
    )
    data = TrainingDataLoader.from_frame(frame, config=config).load_training_data()
    configure_runtime(config)
    generators = MemoryEfficientDataLoader(
        data, batch_size=BATCH, seed=1, windows_per_epoch=WINDOWS
    )
    model = DualWindowLSTMBuilder(config, FEATURES).build_model()
    return config, model, generators


def ours(resident=False, **fields):
    import tensorflow as tf

    from networks.callbacks import StopOnNonFinite

    config, model, generators = our_parts(**fields)
    dataset = generators.train_dataset()
    if resident:
        batch = next(iter(dataset))
        dataset = tf.data.Dataset.from_tensors(batch).repeat()
    epochs = Epochs()
    model.fit(
        dataset,
        epochs=EPOCHS,
        steps_per_epoch=generators.steps_per_epoch,
        callbacks=[epochs.callback(), StopOnNonFinite()],
        shuffle=False,
        verbose=0,
    )
    return epochs.rates


def bare():
    """The same compiled step without `fit` and without data."""
    config, model, generators = our_parts()
    x, y = next(iter(generators.train_dataset()))
    epochs = Epochs()
    for _ in range(EPOCHS):
        epochs.begin()
        for _ in range(generators.steps_per_epoch):
            model.train_on_batch(x, y)
        epochs.end()
    return epochs.rates


def stock(policy="float32", **fields):
    import keras

    from config import Config
    from networks.families import build_network

    features, labels = make_arrays(WINDOWS + WINDOW - 1)
    dataset = keras.utils.timeseries_dataset_from_array(
        features,
        labels[WINDOW - 1 :].astype(np.int32),
        sequence_length=WINDOW,
        batch_size=BATCH,
        shuffle=True,
        seed=1,
    )
    model = build_network(Config(**fields), FEATURES, dtype=policy)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    epochs = Epochs()
    model.fit(dataset, epochs=EPOCHS, callbacks=[epochs.callback()], verbose=0)
    return epochs.rates


def pytorch(*, mixed=False):
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    features, labels = make_arrays(WINDOWS + WINDOW - 1)

    class Windows(Dataset):
        def __init__(self):
            self.x = torch.from_numpy(features)
            self.y = torch.from_numpy(labels.astype(np.int64))

        def __len__(self):
            return WINDOWS

        def __getitem__(self, i):
            return self.x[i : i + WINDOW], self.y[i + WINDOW - 1]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = [FEATURES, 128, 64, 32]
            self.lstms = nn.ModuleList(
                nn.LSTM(a, b, batch_first=True)
                for a, b in zip(sizes, sizes[1:], strict=False)
            )
            self.drop = nn.Dropout(0.3)
            self.head = nn.Sequential(
                *(nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.3)),
                *(nn.Linear(32, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)),
            )

        def forward(self, x):
            for lstm in self.lstms[:-1]:
                x = lstm(x)[0]
                x = x * self.drop(torch.ones_like(x[:, :1]))  # one mask for all steps
            return self.head(self.drop(self.lstms[-1](x)[0][:, -1]))

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = Network().to(device)
    loader = DataLoader(Windows(), batch_size=BATCH, shuffle=True)
    scaler = torch.amp.GradScaler(device, enabled=mixed)
    optimizer = torch.optim.Adam(network.parameters())
    epochs = Epochs()
    for _ in range(EPOCHS):
        epochs.begin()
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            with torch.autocast(device, enabled=mixed):
                loss = nn.functional.cross_entropy(network(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        if device == "cuda":
            torch.cuda.synchronize()
        epochs.end()
    return epochs.rates


def matrix_product():
    """GFLOP/s of one core at a gate's product, half a batch a core."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    # Turns of the loop do not wait for each other: two threads would do two at once.
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows, inputs, outputs = BATCH // 2, 137, 512
    x, y = tf.random.normal((rows, inputs)), tf.random.normal((inputs, outputs))

    @tf.function
    def products():
        total = tf.zeros(())
        for i in tf.range(200):
            total += tf.matmul(x + tf.cast(i, x.dtype), y)[0, 0]
        return total

    products()
    seconds = min(timed(products) for _ in range(10))
    return 200 * 2 * rows * inputs * outputs / seconds / 1e9


def first_touch():
    """GB/s of writing fresh memory and of copying memory that is there, one core."""
    size = 2**28
    fresh = min(timed(lambda: np.ones(size, np.uint8)) for _ in range(3))
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    copied = min(timed(lambda: np.copyto(target, source)) for _ in range(3))
    return [size / fresh / 1e9, size / copied / 1e9]


def timed(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


CASES = {
    "ours": ours,
    "ours, one branch": lambda: ours(num_branches=1),
    "ours, resident batch": lambda: ours(resident=True),
    "ours, deterministic ops": lambda: ours(deterministic_ops=True),
    "ours, bare steps": bare,
    "stock Keras": stock,
    "PyTorch": pytorch,
}
ON_A_GPU = {
    "ours, mixed precision": lambda: ours(mixed_precision=True),
    "stock Keras, mixed precision": lambda: stock("mixed_float16"),
    "PyTorch, mixed precision": lambda: pytorch(mixed=True),
}
FAMILIES = {"bidirectional": {"bidirectional": True}} | {
    name: {"model": name}
    for name in ("gru", "cnn", "cnn_lstm", "mlp", "tcn", "attention", "ensemble")
}
BY_FAMILY = {
    f"{case}, {name}": functools.partial(CASES[case], **fields)
    for name, fields in FAMILIES.items()
    for case in ("ours", "stock Keras")
}
LIMITS = {"matrix product": matrix_product, "first touch": first_touch}


@contextlib.contextmanager
def busy_memory(is_wanted):
    """Copies memory in a process beside, as a neighbour on the same machine does."""
    code = "import numpy as n; a, b = n.ones((2, 2**26))\nwhile True: n.copyto(a, b)"
    process = subprocess.Popen([sys.executable, "-c", code]) if is_wanted else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--only", nargs="*", default=list(CASES))
    options.add_argument("--loaded", action="store_true", help="beside a busy process")
    options.add_argument("--tcmalloc", action="store_true", help="for all, preloaded")
    arguments = options.parse_args()
    if arguments.case:
        print(json.dumps((CASES | ON_A_GPU | BY_FAMILY | LIMITS)[arguments.case]()))
        return
    peak = measure(__file__, "matrix product")
    touched, copied = measure(__file__, "first touch")
    if arguments.tcmalloc:
        library = ctypes.util.find_library("tcmalloc_minimal")
        if library is None:
            raise SystemExit("--tcmalloc: expected libtcmalloc-minimal4 installed")
        os.environ["LD_PRELOAD"] = library
    with busy_memory(arguments.loaded):
        found = interleaved(__file__, arguments.only, arguments.repeats)
    warm = {k: np.array([e for run in v for e in run[1:]]) for k, v in found.items()}
    rate = {k: spread(list(v[:, 0])) for k, v in warm.items()}
    rows, first = [], next(iter(rate))
    for case, runs in found.items():
        cold = statistics.median(run[0][0] for run in runs)
        user, system, faults = np.median(warm[case][:, 1:], axis=0)
        rows.append(
            [case, f"{rate[case][0]:.0f}", f"{rate[case][1]:.0f}-{rate[case][2]:.0f}"]
            + [f"{cold:.0f}", f"{rate[first][0] / rate[case][0]:.2f}"]
            + [f"{user:.2f} + {system:.2f}", f"{faults:.1f}"]
        )
    cores = machine()["cores"]
    print(
        f"One core: matrix product {peak:.0f} GFLOP/s, first touch {touched:.1f} GB/s, "
        f"copy {copied:.1f} GB/s"
    )
    if "ours" in rate:
        share = rate["ours"][0] * MFLOP_A_WINDOW / 1e3 / (peak * cores)
        print(f"ours is {share:.0%} of {cores} cores' product")
    beside = ", tcmalloc" * arguments.tcmalloc + ", loaded" * arguments.loaded
    show(
        f"Training, windows/s, batch {BATCH}{beside}",
        ["case", "warm", "range", "cold", f"{first} / it", "CPU ms", "faults"],
        rows,
        found | {"matrix product": peak, "first touch": [touched, copied]},
        arguments.json,
    )


if __name__ == "__main__":
    main()
