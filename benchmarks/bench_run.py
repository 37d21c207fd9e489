"""Where the time of a whole run goes: steps, data, and everything else.

The demo run of `make train`, with a full report and a light one, each in a fresh
process, file caches warm; wall time and the CPU time of all threads. *Steps* are the
batches of training, of validation and of the predictions of step 8, without the tracing
and compiling in the first of each; *data* is reading, checking, splitting, scaling.
All else is overhead: imports, graph, saving, evaluation, importance, report.
"""

import functools
import json
import subprocess
import sys
import tempfile
import time

import numpy as np
from common import PROJECT, interleaved, parser, show, spread

OVERHEAD = [
    "imports",
    "graph, traced and compiled",
    "callbacks, checkpoints",
    "saving",
    "evaluation",
    "importance",
    "report and plots",
    "the rest",
]


def now():
    """Returns seconds (2,): on the wall, of the CPU."""
    return np.array([time.perf_counter(), time.process_time()])


class Clock:
    """Adds up the seconds of named phases; an inner phase is taken from its outer."""

    def __init__(self):
        self.seconds = {}
        self._inner = [np.zeros(2)]

    def phase(self, name, call):
        """Returns `call` with its seconds counted as phase `name`."""

        @functools.wraps(call)
        def timed(*args, **kwargs):
            started = now()
            self._inner.append(np.zeros(2))
            try:
                return call(*args, **kwargs)
            finally:
                spent = now() - started
                self.add(name, spent - self._inner.pop())
                self._inner[-1] += spent

        return timed

    def add(self, name, seconds):
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def move(self, source, target, seconds):
        self.add(source, -seconds)
        self.add(target, seconds)


def run(inputs_dir, kind):
    clock = Clock()
    began = now()
    clock.phase("imports", import_all)()

    from audit import run as audit
    from evaluation import evaluate, importance
    from models.keras_adapter import KerasAdapter
    from reports import report
    from settings import options as run_options
    from trainer import StandaloneTrainer

    for owner, name, phase in (
        (StandaloneTrainer, "load_and_validate_data", "data"),
        (StandaloneTrainer, "create_generators", "graph, traced and compiled"),
        (StandaloneTrainer, "build_model", "graph, traced and compiled"),
        (StandaloneTrainer, "setup_callbacks", "callbacks, checkpoints"),
        (StandaloneTrainer, "train_model", "callbacks, checkpoints"),
        (StandaloneTrainer, "save_model_and_metadata", "saving"),
        (KerasAdapter, "predict_rows", "steps: prediction"),
        (evaluate, "predictions_table", "evaluation"),
        (evaluate, "fit_policy", "evaluation"),
        (evaluate, "evaluate", "evaluation"),
        (audit, "quick_audit", "evaluation"),
        (importance, "permutation_importance", "importance"),
        (report, "write_report", "report and plots"),
    ):
        setattr(owner, name, clock.phase(phase, getattr(owner, name)))
    with tempfile.TemporaryDirectory() as folder:
        _, config = run_options.parse(
            ["--config", str(PROJECT / "demo.yaml"), "--inputs-dir", inputs_dir]
            + ["--outputs-dir", folder, "--report", kind]
        )
        trainer = StandaloneTrainer(config)
        watched = watch_batches(KerasAdapter)
        trainer.run_training()
    for part, seconds in watched.items():
        first = np.maximum(0.0, seconds[0] - np.median(seconds, axis=0))
        clock.move("callbacks, checkpoints", f"steps: {part}", sum(seconds) - first)
        clock.move("callbacks, checkpoints", "graph, traced and compiled", first)
    clock.add("the rest", now() - began - sum(clock.seconds.values()))
    return {name: seconds.tolist() for name, seconds in clock.seconds.items()}


def import_all():
    """Imports what a run imports, without TensorFlow's chatter, as a run does."""
    import importlib

    from models.device import import_tensorflow

    import_tensorflow()
    for name in (
        "trainer",
        "audit.run",
        "evaluation.evaluate",
        "reports.report",
        "models",
        "model_builder",
        "artifacts.run_folder",
    ):
        importlib.import_module(name)


def watch_batches(adapter_class):
    """Makes each fit note the seconds of its batches; returns where."""
    import keras

    seconds = {"training": [], "validation": []}

    class Stopwatch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.started = now()

        def on_train_batch_end(self, batch, logs=None):
            seconds["training"].append(now() - self.started)

        def on_test_batch_begin(self, batch, logs=None):
            self.started = now()

        def on_test_batch_end(self, batch, logs=None):
            seconds["validation"].append(now() - self.started)

    attach = adapter_class.attach

    def attach_watched(self, run):
        callbacks = attach(self, run)
        callbacks.insert(0, Stopwatch())
        return callbacks

    adapter_class.attach = attach_watched
    return seconds


def main():
    options = parser(__doc__.splitlines()[0])
    options.add_argument("--inputs-dir")
    arguments = options.parse_args()
    if arguments.case:
        print(json.dumps(run(arguments.inputs_dir, arguments.case)))
        return
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, str(PROJECT / "dataset_builder.py"), "--demo"]
        subprocess.run(
            [*build, "--inputs-dir", folder], check=True, capture_output=True
        )
        kinds = ["full", "light"]
        runs = interleaved(__file__, kinds, arguments.repeats, "--inputs-dir", folder)
    for kind, found in runs.items():
        names = sorted(set().union(*found), key=lambda name: (name in OVERHEAD, name))
        phases = {
            name: np.array([each.get(name, [0.0, 0.0]) for each in found])
            for name in names
        }
        overhead = sum(phases[name] for name in OVERHEAD if name in phases)
        phases["overhead, all"] = overhead
        whole = sum(phases[name] for name in names)
        phases["the whole run"] = whole
        rows = []
        for name, seconds in phases.items():
            middle, least, most = spread(list(seconds[:, 0]))
            share = f"{100 * middle / np.median(whole[:, 0]):.0f} %"
            used = f"{np.median(seconds[:, 1]):.2f}"
            rows.append(
                [name, f"{middle:.2f}", f"{least:.2f} - {most:.2f}", share, used]
            )
        path = arguments.json
        if path is not None:
            path = path.with_stem(f"{path.stem}-{kind}")
        columns = ["phase", "s", "range", "of the run", "CPU s"]
        figures = {name: seconds.tolist() for name, seconds in phases.items()}
        show(f"A demo run, {kind} report", columns, rows, figures, path)


if __name__ == "__main__":
    main()
