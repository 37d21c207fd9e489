"""Where the Python of a training epoch runs: functions by time, calls by batch.

The reference network, batch 512, one warm epoch inside `fit`: the thread that cuts the
windows and the thread that trains, each under its own profiler.
"""

import cProfile
import json
import pstats
import time

from bench_training import BATCH, EPOCHS, WINDOWS, our_parts
from common import measure, parser, show


def run():
    import keras

    config, model, generators = our_parts()
    cutting, training, seconds = cProfile.Profile(), cProfile.Profile(), []
    cut = generators._batch

    def profiled(rows, **options):
        cutting.enable()
        try:
            return cut(rows, **options)
        finally:
            cutting.disable()

    class LastEpoch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()
            if epoch == EPOCHS - 1:
                generators._batch = profiled
                training.enable()

        def on_epoch_end(self, epoch, logs=None):
            training.disable()
            seconds.append(time.perf_counter() - self.started)

    model.fit(
        generators.train_dataset(),
        epochs=EPOCHS,
        steps_per_epoch=generators.steps_per_epoch,
        callbacks=[LastEpoch()],
        shuffle=False,
        verbose=0,
    )
    found = {"seconds": seconds[-1]}
    for name, profile in (("cutting", cutting), ("training", training)):
        stats = pstats.Stats(profile)
        rows = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:4]
        found[name] = {
            "calls": stats.total_calls,
            "seconds": stats.total_tt,
            "functions": [
                [f"{file.split('/')[-1]}:{line} {function}", calls, own]
                for (file, line, function), (_, calls, own, *_) in rows
            ],
        }
    return found


def main():
    arguments = parser(__doc__.splitlines()[0]).parse_args()
    if arguments.case:
        print(json.dumps(run()))
        return
    found = measure(__file__, "run")
    rows = []
    for name in ("cutting", "training"):
        part = found[name]
        rows.append(
            [f"{name}: all", part["calls"], f"{part['calls'] / (WINDOWS // BATCH):.0f}"]
            + [f"{part['seconds']:.3f}"]
        )
        rows += [
            [f"  {where}", calls, f"{calls / (WINDOWS // BATCH):.0f}", f"{own:.3f}"]
            for where, calls, own in part["functions"]
        ]
    title = f"Python in an epoch of {WINDOWS:,} windows, {found['seconds']:.1f} s"
    show(title, ["where", "calls", "a batch", "s"], rows, found, arguments.json)


if __name__ == "__main__":
    main()
