"""Windows per second of training: ours, stock Keras, PyTorch, each inside its own loop.

Reference network: window 120, 8 features, LSTM 128-64-32, Dense 32-16, batch 512, the
same dropout in all three.
Each measurement is a fresh process (thread counts are fixed at start) that trains one
cold epoch and then warm ones; the cases take turns.
"""

import json
import time

import numpy as np
from common import interleaved, parser, show, spread

WINDOW, FEATURES, BATCH = 120, 8, 512
WINDOWS, EPOCHS = 20_480, 3


def make_arrays(rows=60_000):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, FEATURES)).astype(np.float32)
    return features, rng.integers(0, 3, rows).astype(np.int8)


def epoch_clock():
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.rates = []

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.rates.append(WINDOWS / (time.perf_counter() - self.started))

    return Clock()


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
    clock = epoch_clock()
    model.fit(
        dataset,
        epochs=EPOCHS,
        steps_per_epoch=generators.steps_per_epoch,
        callbacks=[clock, StopOnNonFinite()],
        shuffle=False,
        verbose=0,
    )
    return clock.rates


def bare():
    """The same compiled step without `fit` and without data."""
    config, model, generators = our_parts()
    x, y = next(iter(generators.train_dataset()))
    rates = []
    for _ in range(EPOCHS):
        started = time.perf_counter()
        for _ in range(generators.steps_per_epoch):
            model.train_on_batch(x, y)
        rates.append(WINDOWS / (time.perf_counter() - started))
    return rates


def stock():
    import keras

    features, labels = make_arrays(WINDOWS + WINDOW - 1)
    dataset = keras.utils.timeseries_dataset_from_array(
        features,
        labels[WINDOW - 1 :].astype(np.int32),
        sequence_length=WINDOW,
        batch_size=BATCH,
        shuffle=True,
        seed=1,
    )
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((WINDOW, FEATURES))]
        + [
            layers.LSTM(128, return_sequences=True),
            layers.SpatialDropout1D(0.3),
            layers.LSTM(64, return_sequences=True),
            layers.SpatialDropout1D(0.3),
            layers.LSTM(32),
            layers.Dropout(0.3),
            layers.Dense(32, "relu"),
            layers.Dropout(0.3),
            layers.Dense(16, "relu"),
            layers.Dropout(0.3),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = epoch_clock()
    model.fit(dataset, epochs=EPOCHS, callbacks=[clock], verbose=0)
    return clock.rates


def pytorch():
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

    network, loader = Network(), DataLoader(Windows(), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(network.parameters())
    rates = []
    for _ in range(EPOCHS):
        started = time.perf_counter()
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
        rates.append(WINDOWS / (time.perf_counter() - started))
    return rates


CASES = {
    "ours": ours,
    "ours, one branch": lambda: ours(num_branches=1),
    "ours, resident batch": lambda: ours(resident=True),
    "ours, deterministic ops": lambda: ours(deterministic_ops=True),
    "ours, bare steps": bare,
    "stock Keras": stock,
    "PyTorch": pytorch,
}


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--only", nargs="*", default=list(CASES))
    arguments = options.parse_args()
    if arguments.case:
        print(json.dumps(CASES[arguments.case]()))
        return
    found = interleaved(__file__, arguments.only, arguments.repeats)
    warm = {k: spread([r for run in v for r in run[1:]]) for k, v in found.items()}
    cold = {k: spread([run[0] for run in v]) for k, v in found.items()}
    rows = [
        [case, f"{warm[case][0]:.0f}", f"{warm[case][1]:.0f}-{warm[case][2]:.0f}"]
        + [f"{cold[case][0]:.0f}", f"{warm['ours'][0] / warm[case][0]:.2f}"]
        for case in found
    ]
    show(
        f"Training, windows/s, batch {BATCH}",
        ["case", "warm", "range", "cold", "ours / it"],
        rows,
        found,
        arguments.json,
    )


if __name__ == "__main__":
    main()
