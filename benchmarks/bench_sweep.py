"""What workers side by side give: windows a second of two cells, and what each costs.

The reference network of `bench_training.py`, in whole runs on one thread: one cell
alone, then two side by side, in turns, each in new workers. A rate is the median of a
cell's epochs after the first; two cells begin their second epoch together. The demand
is 0.9 of twice one alone.

Overhead is the wall time of small cells, one after another on one worker, that is not
spent within them: handing over, results, memory that is given back. The demand is a
second a cell. Last, 1,000 tasks that do nothing: memory and descriptors of the driver.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench_training import BATCH, WINDOWS, Epochs, make_arrays
from common import PROJECT, parser, resident_bytes, show, spread

sys.path.insert(0, str(PROJECT))

from executors.kinds import open_executor  # noqa: E402
from executors.tasks import Task, do_all  # noqa: E402

EPOCHS = 6
NUM_SMALL, NUM_EMPTY = 10, 1000
PLAIN = {
    "report": "light",
    "class_balancing_method": "none",
    "tensorboard": False,
    "early_stopping_patience": EPOCHS,
    "num_threads": 1,
}


def nothing(values):
    """A task that does nothing."""
    return {}


def cell(values):
    """Trains a run; returns windows a second of its epochs after the first."""
    import pandas as pd

    from config import Config
    from trainer import StandaloneTrainer

    features, labels = make_arrays()
    frame = pd.DataFrame(features, columns=[f"f{i}" for i in range(features.shape[1])])
    frame["label"] = labels
    frame.insert(0, "timestamp", pd.date_range("2024", periods=len(frame), freq="min"))
    epochs = Epochs()

    class Measured(StandaloneTrainer):
        def setup_callbacks(self):
            import keras

            def begin(epoch, logs):
                if epoch == 1:
                    meet(Path(values["meeting"]), values["side_by_side"])
                epochs.begin()

            measure = keras.callbacks.LambdaCallback(
                on_epoch_begin=begin, on_test_begin=lambda logs: epochs.end()
            )
            callbacks = super().setup_callbacks()
            callbacks.append(measure)
            return callbacks

    config = Config(**values["fields"])
    Measured(config, frame=frame).run_training()
    return {"rates": [rate for rate, *_ in epochs.rates[1:]]}


def meet(folder, number):
    """Waits until so many cells are here."""
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    while len(os.listdir(folder)) < number:
        time.sleep(0.01)


def train(number, folder):
    """Returns the median rates of so many cells side by side."""
    fields = PLAIN | {"batch_size": BATCH, "windows_per_epoch": WINDOWS}
    fields |= {"epochs": EPOCHS, "validation_windows": BATCH}
    values = {"side_by_side": number, "meeting": f"{folder}/meeting-{time.time()}"}
    tasks = [
        Task(
            name=f"cell {seed}",
            function="bench_sweep:cell",
            values=values
            | {"fields": fields | {"seed": seed, "outputs_dir": f"{folder}/{seed}"}},
            num_threads=1,
        )
        for seed in range(number)
    ]
    return [statistics.median(ended.result["rates"]) for ended in done(tasks, number)]


def done(tasks, workers):
    """Returns how tasks ended, all of them well."""
    with open_executor("processes", max_workers=workers) as executor:
        ended = list(do_all(executor, tasks))
    for each in ended:
        if each.error is not None:
            raise SystemExit(f"{each.name}: {each.error}")
    return ended


def overhead(folder):
    """Returns the seconds a cell that one worker does not spend within its cells."""
    fields = PLAIN | {"epochs": 1, "sequence_length": 8, "lstm_units": [4]}
    fields |= {"dense_units": [4], "windows_per_epoch": 256, "validation_windows": 256}
    tasks = [
        Task(
            name=f"small {seed}",
            function="bench_sweep:cell",
            values={
                "fields": fields | {"seed": seed, "outputs_dir": folder},
                "side_by_side": 1,
                "meeting": folder,
            },
            num_threads=1,
        )
        for seed in range(NUM_SMALL + 1)
    ]
    with open_executor("processes", max_workers=1) as executor:
        ends = [(time.perf_counter(), ended) for ended in do_all(executor, tasks)]
    (first, _), *others = ends
    within = sum(ended.seconds for _, ended in others)
    return (others[-1][0] - first - within) / NUM_SMALL


def driver_growth():
    """Returns MB and descriptors that the driver has more after 1,000 empty tasks."""
    found = []
    with open_executor("processes", max_workers=2) as executor:
        for _ in range(3):
            tasks = [
                Task(name=f"t{i}", function="bench_sweep:nothing", values={})
                for i in range(NUM_EMPTY)
            ]
            started = time.perf_counter()
            for _ in do_all(executor, tasks):
                pass
            seconds = time.perf_counter() - started
            held = len(os.listdir("/proc/self/fd"))
            found.append((resident_bytes() / 1e6, held, seconds / NUM_EMPTY))
    (memory, held, _), *_, (more, now, each) = found
    return more - memory, now - held, each


def main():
    options = parser(__doc__.splitlines()[0]).parse_args()
    alone, pairs = [], []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            alone += train(1, folder)
        with tempfile.TemporaryDirectory() as folder:
            pairs.append(sum(train(2, folder)))
    share = statistics.median(pairs) / (2 * statistics.median(alone))
    with tempfile.TemporaryDirectory() as folder:
        seconds = overhead(folder)
    growth, descriptors, each = driver_growth()
    rows = [
        (name, *(f"{number:.0f}" for number in spread(rates)))
        for name, rates in (("one cell", alone), ("two side by side", pairs))
    ]
    figures = {
        "alone": alone,
        "two": pairs,
        "share": share,
        "overhead_seconds": seconds,
        "driver_mb": growth,
        "driver_descriptors": descriptors,
        "task_seconds": each,
    }
    show("windows/s", ["", "median", "least", "most"], rows, figures, options.json)
    print(f"  two against twice one alone: {share:.2f}")
    print(f"  overhead of a reused cell: {seconds:.2f} s")
    print(
        f"  2,000 empty tasks more: {growth:+.1f} MB, {descriptors:+d} descriptors, "
        f"{1e3 * each:.1f} ms a task"
    )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
