"""Keras networks behind the face of `ModelAdapter`.

In: windows fed to a network, fit with signals and resume, its predictions.
Out: networks and callbacks (`model_builder`), complete states (`networks.checkpoints`).
TensorFlow is imported by the steps that need it, without its start-up chatter.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import utils
from config import Config
from files.progress import Progress
from models.adapter import ModelAdapter, read_sizes
from models.compiled_network import BATCH_WINDOWS, CompiledNetwork
from models.device import import_tensorflow
from models.parents import begin_with
from preprocessing.windows import chunks, cut_windows, evenly_spaced, whole_batches
from settings.sizes import (
    LEAST_WINDOWS,
    estimate_memory,
    memory_problem,
    next_pieces,
)
from utils import Made

if TYPE_CHECKING:
    from artifacts.run_folder import RunFolder
    from data_loader import TrainingData
    from model_builder import NetworkBuilder
    from networks.branched import BranchedTraining
    from networks.checkpoints import CompleteState
    from sequence_generator import MemoryEfficientDataLoader

logger = logging.getLogger(__name__)


class KerasAdapter(ModelAdapter):
    """A Keras network of `model_builder`.

    Attributes:
        generators: Datasets of windows (`prepare`).
        model_builder: Makes network and callbacks (`build`).
        model: The model in training; `model.network` is what is saved (`build`).
        callbacks: Keras callbacks (`attach`).
    """

    suffix = ".keras"

    generators: Made[MemoryEfficientDataLoader] = Made("prepare")
    model_builder: Made[NetworkBuilder] = Made("build")
    model: Made[BranchedTraining] = Made("build")
    callbacks: Made[list[Any]] = Made("attach")
    _data: Made[TrainingData] = Made("prepare")
    _runtime: Made[dict[str, Any]] = Made("build")
    _run: Made[RunFolder] = Made("attach")
    _checkpointer: Made[CompleteState] = Made("attach")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._loaded: Any = None

    # The steps of a run

    def prepare(self, data: TrainingData) -> MemoryEfficientDataLoader:
        """Makes the datasets of windows and checks their alignment."""
        import_tensorflow(self.config)
        from sequence_generator import MemoryEfficientDataLoader

        self._data = data
        self.generators = MemoryEfficientDataLoader(
            data,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            windows_per_epoch=self.config.windows_per_epoch,
            validation_windows=self.config.validation_windows,
            loss_traits=self.config.loss_traits,
        )
        return self.generators

    def build(self, data: TrainingData) -> BranchedTraining:
        """Sets seeds and threads, builds and compiles the network."""
        import_tensorflow(self.config)
        from model_builder import configure_runtime

        self.num_features = data.num_features
        self._runtime = configure_runtime(self.config)
        if self._runtime["device"] == "CPU":  # beside the rows, which are read
            if problem := memory_problem(self.sized, data.num_features):
                raise utils.ConfigError(problem)
        self.model_builder = self.create_builder(data.num_features)
        rows = data.num_rows
        memory = estimate_memory(self.sized, data.num_features, rows).get("total")
        self.model = self.model_builder.build_model(data.class_odds)
        begin_with(self.parents, self.model.network, data.feature_names)
        needs = "memory not estimated: a network of your own"
        if memory is not None:
            needs = f"about {utils.format_bytes(memory)} of memory"
        logger.info(
            "model: %s, %s parameters, %s on %s, %s",
            self.model.network.name,
            f"{self.model.network.count_params():,}",
            utils.counted(self.model.num_branches, "branch", "branches"),
            self._runtime["device"],
            needs,
        )
        return self.model

    def create_builder(self, num_features: int) -> NetworkBuilder:
        """Returns what makes the network and the callbacks of its run."""
        from model_builder import NetworkBuilder

        return NetworkBuilder(self.config, num_features)

    def attach(self, run: RunFolder) -> list[Any]:
        """Makes the callbacks that write into a folder, with its newest state."""
        from networks.callbacks import CollapseMonitor
        from networks.checkpoints import CompleteState, read_newest, steps_done

        self._run = run
        if recoveries := run.recoveries():
            self.model.micro_batches = recoveries[-1]["micro_batches"]
        self.callbacks = self.model_builder.create_callbacks(run.path)
        if self.has_classes:
            rows = evenly_spaced(self._data.parts["validation"].targets, 1000)
            dataset = self.generators.evaluation_dataset(rows)
            monitor = CollapseMonitor(dataset, self._data.label_shares(rows))
            self.callbacks.insert(0, monitor)
        state = read_newest(run.checkpoints)
        self._checkpointer = CompleteState(
            run.checkpoints,
            self.callbacks,
            state=state,
            minutes=self.config.checkpoint_minutes,
        )
        self.callbacks.append(self._checkpointer)
        if state is not None and (steps := steps_done(state)):
            total = self.generators.steps_per_epoch
            epoch = int(state["epochs_done"]) + 1
            logger.info("going on in epoch %d after step %d of %d", epoch, steps, total)
        self._attached = list(self.callbacks)
        return self.callbacks

    def fit(self, data: TrainingData) -> dict[str, list[float]]:
        """Fits; the model ends with the weights of its best epoch.

        After a step that does not fit into memory it goes on from the last checkpoint,
        in micro-batches.

        Raises:
            NonFiniteLossError: If a loss or a weight is not a number.
            OutOfMemoryError: If a step does not fit into memory.
            Interrupted: On SIGINT or SIGTERM, after the batch; notebooks included.
        """
        started, done = time.perf_counter(), self.rounds_done
        while (history := self._fit_or_restore()) is None:
            run, known = self._run, self._attached
            extras = [each for each in self.callbacks if each not in known]
            self.build(data)
            self.attach(run)
            self.callbacks[:0] = extras
        self._history = {k: list(map(float, v)) for k, v in history.items()}
        self._seconds = time.perf_counter() - started
        epochs = len(self._history["loss"])
        logger.info(
            "trained %s in %.0f s, %.0f windows/s, best epoch %d; "
            "checkpoints took %.1f s",
            utils.counted(epochs, "epoch", "epochs"),
            self._seconds,
            self.generators.windows_per_epoch * (epochs - done) / self._seconds,
            self.best_round,
            sum(self._checkpointer.seconds),
        )
        return self._history

    def _fit_or_restore(self) -> dict[str, list[float]] | None:
        """Returns the history of all epochs; None where it must be tried again."""
        from artifacts import run_folder
        from networks import checkpoints
        from networks.runtime import OutOfMemoryError, is_shortage

        state, done = self._checkpointer.state, self.rounds_done
        if state is not None and (state["is_finished"] or done >= self.config.epochs):
            checkpoints.restore_variables(self.model, state)
            checkpoints.restore_best(self.model, state)
            return checkpoints.read_history(state)
        try:
            with utils.StopSignals(is_deferred=True) as signals:
                return self._fit(signals, done)
        except Exception as error:
            if not is_shortage(error):
                raise
            shortage = error.with_traceback(None)  # its frames hold memory
        utils.return_freed_memory(collect=True)
        peak = utils.format_bytes(utils.peak_resident_bytes())
        problem = f"a training step did not fit into memory; the peak was {peak}"
        if not self._recover(problem):
            raise OutOfMemoryError(
                f"{problem}. Try --batch-size {max(1, self.config.batch_size // 2)}. "
                f"{run_folder.advice(self._run)}"
            ) from shortage
        return None

    def _recover(self, problem: str) -> bool:
        """Notes what to go on with, and does so where it is in a new process.

        Returns:
            Whether to go on in this one; else nothing is left to try.
        """
        from networks.allocator import RESTART
        from networks.checkpoints import list_checkpoints

        pieces = next_pieces(self.config, self._run.recoveries())
        restart = RESTART.get()
        has_cpu = self._runtime["device"] == "GPU" and restart is not None
        if not (self.config.recovery and (pieces or has_cpu)):
            return False
        how = "on the CPU"
        if pieces:
            how = f"in pieces of {-(-self.config.batch_size // pieces)} windows"
        logger.warning("%s: going on from the last checkpoint, %s", problem, how)
        stems = [path.stem for path in list_checkpoints(self._run.checkpoints)]
        note = {
            "micro_batches": pieces or 1,
            "checkpoint": stems[-1] if stems else None,
        }
        words = ["--resume", str(self._run.whole)]  # the last one counts
        if pieces is None:
            note["moved_to"] = "CPU"
            words += ["--device", "cpu"]
        self._run.note_recovery(note)
        if restart is not None:
            restart(*words)
        return True

    def _fit(self, signals: utils.StopSignals, done: int) -> dict[str, list[float]]:
        """Fits from epoch `done` on; returns the history of all epochs."""
        from networks.callbacks import ShowProgress, StopOnSignal
        from networks.checkpoints import build_metrics, steps_done

        saver = self._checkpointer
        first = steps_done(saver.state or {})
        if first:
            _, targets = next(iter(self.generators.validation_dataset()))
            build_metrics(self.model, targets)
        num_steps = self.generators.steps_per_epoch
        with Progress("epoch", self.config.epochs, done=done) as epochs:
            record = self.model.fit(
                self.generators.train_dataset(first_epoch=done, first_step=first),
                initial_epoch=done,
                epochs=self.config.epochs,
                steps_per_epoch=num_steps,
                validation_data=self.generators.validation_dataset(),
                callbacks=[
                    ShowProgress(epochs, num_steps),
                    *self.callbacks,
                    StopOnSignal(signals, saver.save_within_epoch),
                ],
                shuffle=False,
                verbose="ipykernel" in sys.modules,  # a notebook has Keras's own
            )
        return record.history

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network of the best epoch.

        Raises:
            NonFiniteLossError: If a weight is not a number.
        """
        from networks.callbacks import NonFiniteLossError, non_finite_weights

        if names := non_finite_weights(self.network):
            raise NonFiniteLossError(
                f"expected a finite model. Received: NaN or infinity in {names}."
            )
        self.model.save(path)

    @classmethod
    def load(cls, model: Any, description: Mapping[str, Any], where: object) -> Self:
        """Takes a network of the sizes that its description says."""
        sizes = read_sizes(description, where)
        family, target = description.get("family"), description.get("target")
        try:
            config = Config(model=family, target=target)  # type: ignore[arg-type]
        except utils.ConfigError as error:
            raise utils.RefusedArtifactError(f"{where}: {error}") from error
        if model.input_shape != (None, *sizes):
            raise utils.RefusedArtifactError(
                f"{where}: expected a network of windows {sizes}. "
                f"Received: one of {model.input_shape}"
            )
        adapter = cls(config)
        adapter._loaded = model
        adapter.window_bars, adapter.num_features = sizes
        return adapter

    # What it says

    @property
    def network(self) -> Any:
        """The plain network."""
        return self.model.network if self._loaded is None else self._loaded

    def predict_rows(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns what the network says of target rows, in training fed by `prepare`.

        An opened one reads `data.features` as they are, scaled by its own scaler.
        """
        return self.shaped(self.outputs_of(data, rows))

    def outputs_of(self, data: TrainingData, rows: np.ndarray) -> np.ndarray:
        """Returns the network's outputs (num_rows, num_outputs) for target rows."""
        self.require_sizes(data)
        if self._loaded is None:
            whole = whole_batches(rows, BATCH_WINDOWS)
            dataset = self.generators.evaluation_dataset(whole)
            return self._predict(dataset, len(whole))[: len(rows)]
        return self.compiled.of_batches(
            cut_windows(data.features, rows[s], window_bars=self.window_bars)
            for s in chunks(len(rows), BATCH_WINDOWS)
        )

    def _predict(self, dataset: Any, num_windows: int) -> np.ndarray:
        """Returns what the model in training says, in pieces where memory is short."""
        from networks.callbacks import CountPredicted
        from networks.runtime import is_shortage

        while True:
            try:
                with Progress("window", num_windows) as windows:
                    told = [CountPredicted(windows)]
                    return self.model.predict(dataset, verbose=0, callbacks=told)
            except Exception as error:
                pieces = 2 * self.model.micro_batches
                is_last = BATCH_WINDOWS < LEAST_WINDOWS * pieces
                if not is_shortage(error) or is_last or not self.config.recovery:
                    raise
            self.model.micro_batches = pieces
            self.model.make_predict_function(force=True)

    def predict_windows(self, windows: np.ndarray) -> np.ndarray:
        """Returns what the network says of windows; one alone goes through XLA."""
        return self.shaped(self.compiled(windows))

    @functools.cached_property
    def compiled(self) -> CompiledNetwork:
        """The network for windows that are in memory."""
        traced = self.model.say if self._loaded is None else None
        return CompiledNetwork(self.network, say=traced)

    @property
    def answering(self) -> Any:
        """The network whose outputs are its answers."""
        return self.network

    def shaped(self, outputs: np.ndarray) -> np.ndarray:
        """Returns answers: (num_windows,) of one number, else as many columns."""
        return outputs if outputs.shape[1] > 1 else outputs.reshape(-1)

    # What is known about it

    @property
    def rounds_done(self) -> int:
        """Epochs that an earlier process finished in the attached folder."""
        state = self._checkpointer.state
        return 0 if state is None else int(state["epochs_done"])

    def describe(self) -> dict[str, dict[str, Any]]:
        """Returns the sections `model`, `training`, `runtime` of the metadata."""
        from networks.branched import describe_network

        network = self.network
        return {
            "model": {
                **self.identity(),
                "optimizer": self.config.optimizer,
                "loss": self.config.resolved_loss,
                **describe_network(network),
                "outputs": self.outputs,
            },
            "training": self._trained()
            | {"windows_per_epoch": self.generators.windows_per_epoch},
            "runtime": self._runtime | {"num_branches": self.model.num_branches},
        }

    def environment(self) -> dict[str, Any]:
        """Returns versions, threads and kernels: what decides a network's bits."""
        from networks.runtime import environment_key

        return environment_key(self._runtime, self.model.num_branches)
