"""What the rooms of the fault harness share: rows of the table, children, one training.

TensorFlow is imported once and a child is forked before its runtime starts: a training
costs seconds instead of ten. `harness.py` proves that such a child computes the bytes
of a process of its own before it relies on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
PROJECT = TESTS.parent
sys.path[:0] = [str(PROJECT), str(TESTS)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
from world.frames import TINY, make_own_frame  # noqa: E402

import utils  # noqa: E402
from artifacts.artifact import load_artifact  # noqa: E402
from config import Config  # noqa: E402
from dataset import training_file  # noqa: E402
from files.atomic import atomic_write, sha256_file  # noqa: E402
from files.strict import sha256_json  # noqa: E402
from settings.names import member_config  # noqa: E402

# Dropout, plateau and early stopping all have something to remember.
RUN = TINY | {
    "dropout_rate": 0.3,
    "epochs": 14,
    "windows_per_epoch": 200,
    "reduce_lr_patience": 1,
    "early_stopping_patience": 7,
    "learning_rate": 0.005,
    "baseline_model": False,
}
LIGHTER = {
    "model": "mlp",
    "epochs": 8,
    "early_stopping_patience": 4,
    "learning_rate": 0.08,
    "report": "light",
    "importance_windows": None,
}
"""What a sample's trainings have in place of it: half the time, the same saves.

The fourth epoch is the best, so that each after it has something to remember.
"""
HANG_SECONDS = 300


@dataclasses.dataclass
class Row:
    """One line of the table."""

    fault: str
    demand: str
    tried: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    skipped: str | None = None
    note: str = ""

    def add(self, failure: str | None) -> None:
        self.tried += 1
        if failure:
            self.failures.append(failure)
            say(f"  {self.fault}: {failure}")

    @property
    def held(self) -> int:
        return self.tried - len(self.failures)


@dataclasses.dataclass(frozen=True)
class World:
    """Where the harness works, its seed, and whether it takes a sample only."""

    folder: Path
    seed: int
    is_sample: bool

    def rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def count(self, whole: int, sample: int) -> int:
        return sample if self.is_sample else whole

    def prepare(self, folder: Path, seed: int) -> Config:
        """Makes a folder with the harness's own training, lighter in a sample."""
        return prepare(folder, seed, **LIGHTER if self.is_sample else {})


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# Children


class Child:
    """A forked child that runs `function` with its output in `log`.

    `wait_for(text)` waits until it wrote `text` with `tell`, or died.
    """

    def __init__(self, function: Callable[[Callable[[str], None]], int], log: Path):
        self.log = log
        self.status: int | None = None
        self._told = b""
        self._pipe, writer = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(function, log, writer)
        os.close(writer)

    def wait_for(self, text: str) -> bool:
        line = text.encode() + b"\n"
        while line not in self._told:
            ready, _, _ = select.select([self._pipe], [], [], HANG_SECONDS)
            block = os.read(self._pipe, 4096) if ready else b""
            if not block:
                return False
            self._told += block
        return True

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def is_over(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def wait(self) -> int:
        """Returns the exit code, negative for a signal; -999 where it hung."""
        deadline = time.monotonic() + HANG_SECONDS
        while not self.is_over():
            # The pipe closes with the child.
            ready, _, _ = select.select([self._pipe], [], [], 0.5)
            block = os.read(self._pipe, 4096) if ready else b""
            self._told += block
            if ready and not block:
                self.status = os.waitpid(self.pid, 0)[1]
            if self.status is None and time.monotonic() > deadline:
                self.kill()
                os.waitpid(self.pid, 0)
                os.close(self._pipe)
                return -999
        os.close(self._pipe)
        assert self.status is not None
        return os.waitstatus_to_exitcode(self.status)


def _be_child(
    function: Callable[[Callable[[str], None]], int], log: Path, writer: int
) -> None:
    code = 99
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def tell(text: str) -> None:
            os.write(writer, text.encode() + b"\n")

        code = function(tell)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# One training, by its command line


def import_everything() -> None:
    """Imports what a training needs, and starts nothing."""
    import matplotlib.figure
    import pandas
    import pyarrow.feather
    import pyarrow.parquet
    import sklearn.preprocessing
    import tensorflow

    import model_builder
    import sequence_generator
    import trainer
    from evaluation import evaluate
    from networks import checkpoints
    from reports import report

    del matplotlib, pandas, pyarrow, sklearn, tensorflow
    del checkpoints, evaluate, model_builder, report, sequence_generator, trainer


def prepare(folder: Path, seed: int, **fields: Any) -> Config:
    """Makes a folder with training files and `run.yaml`; returns the run."""
    folder.mkdir(parents=True)
    config = Config(**RUN | {"seed": seed} | fields).replace(
        inputs_dir=str(folder / "inputs"), outputs_dir=str(folder / "outputs")
    )
    runs = [member_config(config, pair) for pair in config.pooled_pairs] or [config]
    for k, run in enumerate(runs):
        frame = make_own_frame(900, seed=3 + k)
        training_file.write_training_file(run.expected_path, frame, {})
    atomic_write(folder / "run.yaml", config.to_yaml())
    return config


def train(
    folder: Path,
    tell: Callable[[str], None],
    *,
    shims: Callable[[], None] | None = None,
    resume: bool = True,
) -> int:
    """Runs `trainer.main` on `run.yaml`; tells batches and steps; keeps the outcome."""
    import keras

    import trainer
    from networks.branched import weights_digest

    class Tell(keras.callbacks.Callback):
        seen = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            descriptor = os.open(folder / "begun", os.O_WRONLY | os.O_CREAT, 0o644)
            os.pwrite(descriptor, f"{epoch:05d}".encode(), 0)
            os.close(descriptor)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen += 1
            tell(f"batch {self.seen}")

    class Recording(trainer.StandaloneTrainer):
        def setup_callbacks(self) -> list[Any]:
            callbacks = super().setup_callbacks()
            callbacks.insert(0, Tell())
            return callbacks

        def save_model_and_metadata(self) -> Path:
            optimizer = [v.numpy().tobytes() for v in self.model.optimizer.variables]
            record = {
                "weights": weights_digest(self.model),
                "network": weights_digest(self.model.network),
                "optimizer": sha256_json([item.hex() for item in optimizer]),
                "history": {k: [v.hex() for v in x] for k, x in self.history.items()},
                "best_epoch": self.adapter.best_round,
            }
            (folder / "outcome.json").write_text(json.dumps(record))
            tell("trained")
            return super().save_model_and_metadata()

    trainer.StandaloneTrainer = Recording
    if shims is not None:
        shims()
    tell("main")
    flags = ["--resume"] if resume else []
    code = trainer.main(["--config", str(folder / "run.yaml"), *flags])
    tell(f"done {time.monotonic()}")
    return code


def outcome(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "outcome.json").read_text())


def final_problem(
    folder: Path, config: Config, reference: dict[str, Any]
) -> str | None:
    """Returns what is wrong with a finished run, against the uninterrupted one."""
    got = outcome(folder)
    wrong = [key for key in reference if got[key] != reference[key]]
    if wrong:
        return f"differs from the uninterrupted run in {', '.join(wrong)}"
    try:
        artifact = load_artifact(config.model_dir / config.latest_name)
    except utils.UserError as error:
        return f"the published artifact is refused: {error}"
    if artifact.metadata["model"]["weights_sha256"] != reference["network"]:
        return "the published weights are others"
    leftovers = [p.name for p in artifact.path.rglob(".*")]
    if leftovers or (artifact.path / "checkpoints").exists():
        return f"leftovers were published: {leftovers}"
    return None


def tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return " | ".join(lines[-3:])[-400:]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
