"""Training on every bar of long stretches against training on windows: not kept.

    python benchmarks/targets_per_window.py --training-file FILE [--budget SECONDS]

The reference network learns either from 256 windows a step, as a run does, or from 32
stretches of 360 bars whose last 241 are all scored: one pass, many labels. Both see the
validation windows exactly as they are. Printed: log-loss skill on validation by the CPU
seconds of the training steps, which other programs on the machine do not change much.
"""

import argparse
import json
import time

import numpy as np
from common import measure, show

STRETCH, STRETCHES, WINDOWS, POINTS = 360, 32, 256, 12
VALIDATION_WINDOWS = 20_000


def every_bar(network, num_features):
    """The same layers over a stretch; outputs for all bars with a whole window."""
    import keras

    _, *layers = network.layers
    kind = keras.layers.LSTM
    last = max(k for k, each in enumerate(layers) if isinstance(each, kind))
    x = inputs = keras.Input((STRETCH, num_features))
    for k, layer in enumerate(layers):
        if k == last:
            whole = kind(layer.units, return_sequences=True)
            whole.cell = layer.cell
            x = whole(x)[:, network.input_shape[1] - 1 :]
        else:
            x = layer(x)
    return keras.Model(inputs, x)


def stretch_ends(data):
    """Rows of the training part that end a stretch without a gap."""
    is_target = np.zeros(data.num_rows, bool)
    is_target[data.parts["train"].targets] = True
    rows = data.parts["train"].targets
    rows = rows[rows >= STRETCH - 1]
    times = data.timestamps.astype("int64")
    step = np.diff(times[:2])[0] if len(times) > 1 else 0
    whole = times[rows] - times[rows - STRETCH + 1] == (STRETCH - 1) * step
    return rows[whole & is_target[rows - STRETCH + data.window_bars]], is_target


def run(way, seed, path, pair, budget):
    import keras
    import tensorflow as tf

    from config import Config
    from data_loader import TrainingDataLoader
    from model_builder import DualWindowLSTMBuilder, configure_runtime
    from sequence_generator import MemoryEfficientDataLoader

    config = Config(
        pair=pair,
        training_file=path,
        test_split=0.2,
        validation_split=0.1,
        class_balancing_method="none",
        seed=seed,
    )
    data = TrainingDataLoader(config=config).load_training_data()
    configure_runtime(config)
    generators = MemoryEfficientDataLoader(
        data, batch_size=WINDOWS, seed=seed, validation_windows=VALIDATION_WINDOWS
    )
    model = DualWindowLSTMBuilder(config, data.num_features).build_model()
    rng = np.random.default_rng(seed)
    if way == "every bar":
        forward, count = every_bar(model.network, data.num_features), STRETCHES
        ends, is_target = stretch_ends(data)
        window, scored = STRETCH, np.arange(data.window_bars - STRETCH, 1)
    else:
        forward, count = model, WINDOWS
        ends, is_target = data.train_targets, np.ones(data.num_rows, bool)
        window, scored = data.window_bars, np.zeros(1, int)
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)

    @tf.function(jit_compile=False)
    def step(x, y, weight):
        halves = [x[: count // 2], x[count // 2 :]] if way == "every bar" else [x]
        with tf.GradientTape() as tape:
            found = tf.concat([forward(half, training=True) for half in halves], 0)
            found = tf.reshape(found, [-1, 3])
            loss = keras.ops.sparse_categorical_crossentropy(y, found)
            loss = tf.reduce_sum(loss * weight) / tf.reduce_sum(weight)
        variables = model.network.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )

    def batch():
        rows = rng.choice(ends, count, replace=False)[:, None]
        scored_rows = (rows + scored).ravel()
        return (
            tf.constant(data.features[rows + np.arange(1 - window, 1)]),
            tf.constant(data.labels[scored_rows].astype(np.int32)),
            tf.constant(is_target[scored_rows].astype(np.float32)),
        )

    validation = generators.validation_dataset()
    labels = data.labels[generators.validation_targets]
    reference = -np.log(data.class_prior[labels]).mean()

    def skill():
        found = model.predict(validation, verbose=0)[np.arange(len(labels)), labels]
        return float(1 + np.log(np.maximum(found, 1e-7)).mean() / reference)

    step(*batch())  # tracing is not counted
    spent, curve = 0.0, []
    for due in np.linspace(0, budget, POINTS + 1):
        while spent < due:
            started = time.process_time()
            step(*batch())
            spent += time.process_time() - started
        curve.append([round(spent, 1), round(skill(), 4)])
    return curve


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--case")
    options.add_argument("--training-file", required=True)
    options.add_argument("--pair", default="BTCUSD_BITFINEX")
    options.add_argument("--budget", type=float, default=160.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--repeats", type=int, default=2)
    options.add_argument("--json")
    given = options.parse_args()
    file, pair = given.training_file, given.pair
    if given.case:
        print(json.dumps(run(given.case, given.seed, file, pair, given.budget)))
        return
    curves = {}
    for seed in range(1, given.repeats + 1):
        for way in ("windows", "every bar"):
            flags = ("--training-file", file, "--pair", pair, "--seed", seed)
            curves[f"{way}, seed {seed}"] = measure(
                __file__, way, *flags, "--budget", given.budget
            )
    rows = [
        [name, *(f"{skill:.3f}" for _, skill in curve)]
        for name, curve in curves.items()
    ]
    seconds = [f"{due:.0f} s" for due in np.linspace(0, given.budget, POINTS + 1)]
    show("Validation skill by CPU seconds", ["", *seconds], rows, curves, None)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(curves, file)


if __name__ == "__main__":
    main()
