"""Exported networks of default sizes: difference, size, CPU milliseconds of a window.

Window 120, eight features, untrained; ONNX with its scaler and policy alone and 256 at
once, TensorFlow Lite of the network; one thread. Needs `requirements-export.txt`:
`make integrations` makes `.venv-integrations`, which has it.
"""

import json
import time

import numpy as np
from common import interleaved, parser, show

WINDOW, FEATURES, MANY = 120, 8, 256
CALLS = 100
FAMILIES = (
    "lstm",
    "bidirectional",
    "gru",
    "cnn",
    "cnn_lstm",
    "mlp",
    "tcn",
    "attention",
    "ensemble",
)


def cpu_ms(call, count):
    """Returns the CPU milliseconds of one of `count` calls; a few before are not."""
    for k in range(3):
        call(k)
    started = time.process_time()
    for k in range(count):
        call(k)
    return (time.process_time() - started) / count * 1e3


def run(family):
    import keras
    import onnxruntime

    from config import Config
    from evaluation.policies import SignalPolicy
    from live import onnx_graph, onnx_networks, tflite
    from networks.families import build_network
    from preprocessing.scaling import FeatureScaler

    is_both = family == "bidirectional"
    config = Config(model="lstm" if is_both else family, bidirectional=is_both)
    keras.utils.set_random_seed(1)
    network = build_network(config, FEATURES)
    scaler = FeatureScaler(
        kind="robust",
        feature_names=tuple("abcdefgh"),
        center=(1.0,) * FEATURES,
        scale=(0.01,) * FEATURES,
        clip_limit=10.0,
        num_rows=9,
    )
    rng = np.random.default_rng(0)
    windows = 1 + 0.01 * rng.standard_normal((MANY, WINDOW, FEATURES))
    windows = windows.astype(np.float32)
    scaled = scaler.transform(windows.reshape(-1, FEATURES)).reshape(windows.shape)
    expected = network(scaled, training=False).numpy()

    graph = onnx_graph.Graph()
    name = onnx_graph.add_scaler(graph, scaler, "features")
    name = graph.include(onnx_networks.network_to_onnx(network), name)
    name = onnx_graph.add_policy(graph, SignalPolicy(), name)
    shapes = ("features", (WINDOW, FEATURES)), name, ("probabilities", ["batch", 3])
    content = graph.finish(*shapes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options)

    def ask(rows):
        return session.run(None, {"features": rows})[0]

    lite = tflite.network_to_tflite(network)
    answer = tflite.runner(lite)
    said = np.concatenate([answer(window[None]) for window in scaled])
    return {
        "difference": float(np.abs(ask(windows) - expected).max()),
        "MB": len(content) / 1e6,
        "one window": cpu_ms(lambda k: ask(windows[k : k + 1]), CALLS),
        "of 256": cpu_ms(lambda _: ask(windows), 3) / MANY,
        "Lite difference": float(np.abs(said - expected).max()),
        "Lite MB": len(lite) / 1e6,
        "Lite one window": cpu_ms(lambda k: answer(scaled[k : k + 1]), CALLS),
    }


def main():
    arguments = parser(__doc__).parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.case)))
        return
    found = {k: v[0] for k, v in interleaved(__file__, FAMILIES, 1).items()}
    columns = list(found["lstm"])
    rows = [
        [family] + [f"{said[column]:.2g}" for column in columns]
        for family, said in found.items()
    ]
    show("Exported networks", ["family", *columns], rows, found, arguments.json)


if __name__ == "__main__":
    main()
