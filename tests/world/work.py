"""What tasks of tests do; each notes its tries in a file, where it is given one."""

import os
import signal
import time
from pathlib import Path

import utils


def tell(values):
    return {
        "process": os.getpid(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "group": os.getpgrp(),
    }


def refuse(values):
    raise utils.DataError("expected better data")


def break_down(values):
    note(values)
    return {"never": 1 / 0}


def be_killed(values):
    if note(values) < values["from_try"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"is": "done"}


def fill_the_disk(values):
    if note(values) < values["from_try"]:
        raise utils.StorageError("no space left")
    return {"is": "done"}


def wait_for_a_signal(values):
    """Says in a FIFO that it began, and, told to stop, that it saved."""
    with open(values["fifo"], "w") as fifo:
        try:
            fifo.write("began\n")
            fifo.flush()
            last_for_ever()
        except utils.Interrupted:
            fifo.write("saved\n")
            raise


def never_end(values):
    try:
        note(values)
        last_for_ever()
    except utils.Interrupted:
        note(values, "saved")
        raise


def wait_once(values):
    """The first try says that it began, and lasts until its worker is gone."""
    fifo = Path(values["fifo"])
    if not fifo.exists():
        return {"is": "done"}
    with fifo.open("w") as stream:
        fifo.unlink()
        stream.write("began\n")
        stream.flush()
        last_for_ever()


def train(values):
    """A run; where `kills`, its first try dies once there is a checkpoint."""
    from config import build_config
    from files.atomic import sha256_file
    from files.strict import read_json
    from networks.checkpoints import CompleteState
    from trainer import StandaloneTrainer

    config = build_config(values["config"])
    if note(values) == 1 and values["kills"]:
        save = CompleteState.on_epoch_end

        def save_and_die(*words, **more):
            save(*words, **more)
            os.kill(os.getpid(), signal.SIGKILL)

        CompleteState.on_epoch_end = save_and_die
    folder = StandaloneTrainer(config, resume="newest").run_training()
    (metadata,) = folder.glob("metadata_*.json")
    (predictions,) = folder.glob("predictions_*.parquet")
    return {
        "weights": read_json(metadata)["model"]["weights_sha256"],
        "predictions": sha256_file(predictions),
    }


def last_for_ever():
    while True:
        time.sleep(0.01)  # a signal that comes just before a pause() would not end it


def note(values, text="try"):
    """Adds a line, and returns how many there are."""
    path = Path(values["notes"])
    with path.open("a") as notes:
        notes.write(f"{text}\n")
    return len(path.read_text().splitlines())
