"""Where the time of a whole run goes: steps, predictions, and everything else.

The demo run of `make train`, with a full report and a light one, each in a fresh
process, file caches warm; wall time and the CPU time of all threads. *Steps* are the
batches of training and of validation, and what is predicted: by the watch for collapse,
by step 8, and for importance; without the tracing and compiling in the first of each.
All else is overhead.
"""

import functools
import json
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from common import PROJECT, interleaved, parser, show, spread

GRAPH = "graph, traced and compiled"
OVERHEAD = [
    *("imports", "reading", GRAPH, "callbacks, checkpoints", "baselines", "intervals"),
    *("scores, thresholds, trades", "audit", "pictures", "page", "saving", "the rest"),
]


def now():
    """Returns seconds (2,): on the wall, of the CPU since the process began."""
    return np.array([time.perf_counter(), time.process_time()])


class Clock:
    """Adds up the seconds of named phases; an inner phase is taken from its outer.

    Attributes:
        seconds: Phase -> seconds (2,).
        steps: The same of each call of what is done again and again.
    """

    def __init__(self):
        self.seconds = {}
        self.steps = {}
        self._inner = [np.zeros(2)]

    def phase(self, name, call):
        """Returns `call` with its seconds counted as phase `name`."""
        return self._timed(call, functools.partial(self.add, name))

    def step(self, name, call):
        """Returns `call` with its seconds kept as one of many."""
        return self._timed(call, self.steps.setdefault(name, []).append)

    def add(self, name, seconds):
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def add_step(self, name, started):
        """Keeps what began at `started` as one of many, and takes it from its phase."""
        self.steps.setdefault(name, []).append(now() - started)
        self._inner[-1] += self.steps[name][-1]

    def finish(self):
        """Adds the steps; what the first took longer was tracing and compiling."""
        for name, seconds in self.steps.items():
            if not seconds:
                continue
            first = np.maximum(0.0, seconds[0] - np.median(seconds, axis=0))
            self.add(f"steps: {name}", sum(seconds) - first)
            self.add(GRAPH, first)

    def _timed(self, call, note):
        @functools.wraps(call)
        def timed(*args, **kwargs):
            started = now()
            self._inner.append(np.zeros(2))
            try:
                return call(*args, **kwargs)
            finally:
                spent = now() - started
                note(spent - self._inner.pop())
                self._inner[-1] += spent

        return timed


def run(inputs_dir, kind):
    clock, began = Clock(), now() * [1, 0]
    from networks import allocator
    from settings import options as run_options

    folder = tempfile.TemporaryDirectory()
    _, config = run_options.parse(
        ["--config", str(PROJECT / "demo.yaml"), "--inputs-dir", inputs_dir]
        + ["--outputs-dir", folder.name, "--report", kind, "--allocator", "system"]
    )
    allocator.prepare_process(config, can_restart=False)
    import_all(kind)
    clock.add("imports", now() - began)

    from artifacts.run_folder import RunFolder
    from audit import run as audit
    from evaluation import backtest, class_scores, evaluate, part_scores
    from models.keras_adapter import KerasAdapter
    from networks.callbacks import CollapseMonitor
    from reports import report
    from trainer import StandaloneTrainer

    for owner, name, phase in (
        (StandaloneTrainer, "load_and_validate_data", "reading"),
        (StandaloneTrainer, "create_generators", GRAPH),
        (StandaloneTrainer, "build_model", GRAPH),
        (StandaloneTrainer, "setup_callbacks", "callbacks, checkpoints"),
        (StandaloneTrainer, "train_model", "callbacks, checkpoints"),
        (StandaloneTrainer, "save_model_and_metadata", "saving"),
        (StandaloneTrainer, "_report", "scores, thresholds, trades"),
        (RunFolder, "publish", "saving"),
        (KerasAdapter, "predict_rows", "steps: prediction"),
        (evaluate, "trained_outputs", "baselines"),
        (part_scores, "cosine_interval", "intervals"),
        (part_scores, "paired_test", "intervals"),
        (part_scores.PartScores, "shuffle", "intervals"),
        (class_scores, "log_loss_interval", "intervals"),
        (backtest, "cosine_interval", "intervals"),
        (audit, "quick_audit", "audit"),
        (report, "write_run_report", "page"),
    ):
        setattr(owner, name, clock.phase(phase, getattr(owner, name)))
    if kind == "full":
        from reports import figures, page

        for owner, name in (
            (figures, "save_figures"),
            (page, "draw_figures"),
            (page, "to_svg"),
        ):
            setattr(owner, name, clock.phase("pictures", getattr(owner, name)))
    for owner, name, step in (
        (KerasAdapter, "predict_windows", "importance"),
        (CollapseMonitor, "on_epoch_end", "watch for collapse"),
    ):
        setattr(owner, name, clock.step(step, getattr(owner, name)))
    watch_batches(KerasAdapter, clock)
    with folder:
        StandaloneTrainer(config).run_training()
    clock.finish()
    clock.add("the rest", now() - began - sum(clock.seconds.values()))
    return {name: seconds.tolist() for name, seconds in clock.seconds.items()}


def import_all(kind):
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
        *(["reports.page"] if kind == "full" else []),
    ):
        importlib.import_module(name)


def watch_batches(adapter_class, clock):
    """Makes each fit note the seconds of its batches."""
    import keras

    class Stopwatch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.started = now()

        def on_train_batch_end(self, batch, logs=None):
            clock.add_step("training", self.started)

        on_test_batch_begin = on_train_batch_begin

        def on_test_batch_end(self, batch, logs=None):
            clock.add_step("validation", self.started)

    attach = adapter_class.attach

    def attach_watched(self, run):
        callbacks = attach(self, run)
        callbacks.insert(0, Stopwatch())
        return callbacks

    adapter_class.attach = attach_watched


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
        built = resource.getrusage(resource.RUSAGE_CHILDREN)
        kinds = ["full", "light"]
        runs = interleaved(__file__, kinds, arguments.repeats, "--inputs-dir", folder)
    for kind, found in runs.items():
        seen = set().union(*found)
        names = [
            *sorted(seen - set(OVERHEAD)),
            *filter(seen.__contains__, OVERHEAD),
        ]
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
    print(f"Its file took {built.ru_utime + built.ru_stime:.2f} CPU s before.")


if __name__ == "__main__":
    main()
