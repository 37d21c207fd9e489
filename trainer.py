"""`StandaloneTrainer` and the main command line: one run, in eight steps.

In: the order of the steps, and what each hands to the next. Out: everything else.
Imports `config` and `utils` alone; a dry run needs nothing more.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import config as configuration
import utils
from config import CLASS_NAMES, Config

if TYPE_CHECKING:
    import pandas as pd

    from artifacts import RunFolder
    from data_loader import TrainingData, TrainingDataLoader
    from model_builder import BranchedTraining, DualWindowLSTMBuilder
    from sequence_generator import MemoryEfficientDataLoader

logger = logging.getLogger(__name__)


class StandaloneTrainer:
    """One training run, from a configuration to a published artifact folder.

    The eight steps can be called one by one, in this order, as a notebook does;
    `run_training` calls them all. Each keeps its result as an attribute.

    Args:
        config: The run; None means defaults.
        frame: A training file's columns as a DataFrame, instead of a file.
        resume: "newest" goes on with the newest unfinished run of this configuration,
            and starts afresh where there is none; a path goes on with that run.
        resume_anyway: Go on although data, configuration or environment differ; the
            metadata then say that the resume was not exact.

    Attributes:
        data: Arrays, parts and targets (step 2).
        generators: Datasets of windows (step 3).
        model: The model in training; `model.network` is what is saved (step 4).
        callbacks: Keras callbacks (step 5).
        history: Metric name -> one value an epoch (step 6).
        run: Folder of the run (step 5).
        predictions: One row a predicted target (step 8).
        results: Numbers of the report (step 8).
        artifact_dir: The published folder (step 8).

    Example:
        >>> trainer = StandaloneTrainer(Config(pair="DEMOUSDT", epochs=3))
        >>> artifact_dir = trainer.run_training()
    """

    data_loader: TrainingDataLoader
    data: TrainingData
    generators: MemoryEfficientDataLoader
    model_builder: DualWindowLSTMBuilder
    model: BranchedTraining
    callbacks: list[Any]
    run: RunFolder
    history: dict[str, list[float]]
    predictions: pd.DataFrame
    results: dict[str, Any]
    artifact_dir: Path

    def __init__(
        self,
        config: Config | None = None,
        *,
        frame: pd.DataFrame | None = None,
        resume: str | os.PathLike[str] | None = None,
        resume_anyway: bool = False,
    ) -> None:
        self.config = config or Config()
        self._frame = frame
        self._resume = resume
        self._resume_anyway = resume_anyway
        self._made_outputs = False
        self._ranges: Mapping[str, Any] | None = None
        self._fold_results: list[dict[str, Any]] = []
        self._metadata: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """Names the step to call where its result is missing."""
        for step, attributes in _RESULTS.items():
            if name in attributes:
                raise AttributeError(f"{name} is made by {step}(): call that first")
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def run_training(self) -> Path:
        """Runs all eight steps; returns the published artifact folder.

        Raises:
            Interrupted: On SIGINT or SIGTERM; it says how to go on.
        """
        started = time.perf_counter()
        finished = self._finished_run()
        if finished is not None:
            logger.info("this run is finished: %s", finished)
            self.artifact_dir = finished
            return finished
        try:
            self.initialize_components()
            self.load_and_validate_data()
            self.create_generators()
            self.build_model()
            self.setup_callbacks()
            if self.config.n_splits is not None:
                self.cross_validate()
            self.train_model()
            self.save_model_and_metadata()
            self.generate_confusion_matrix_report()
        except utils.Interrupted as stop:
            raise utils.Interrupted(stop.signal_number, self._advice()) from None
        logger.info("done in %.0f s", time.perf_counter() - started)
        return self.artifact_dir

    # The eight steps

    def initialize_components(self) -> None:
        """Step 1: proves the outputs folder writable, sets threads, seeds, loader.

        Raises:
            StorageError: If nothing can be written to `outputs_dir`.
        """
        configuration.require_class_target(self.config)
        self._made_outputs = not Path(self.config.outputs_dir).exists()
        utils.require_writable(self.config.outputs_dir)
        from data_loader import TrainingDataLoader

        if self._frame is not None:
            self.data_loader = TrainingDataLoader.from_frame(
                self._frame, config=self.config
            )
        else:
            self.data_loader = TrainingDataLoader(config=self.config)

    def load_and_validate_data(self) -> TrainingData:
        """Step 2: reads, checks, splits and scales the training file.

        Raises:
            MissingInputError: If there is no training file.
            DataError: If it breaks its contract.
        """
        try:
            self.data = data = self.data_loader.load_training_data(self._ranges)
        except utils.UserError:
            if self._made_outputs:  # leaves nothing behind, not even an empty folder
                with contextlib.suppress(OSError):
                    Path(self.config.outputs_dir).rmdir()
            raise
        logger.info("data: %s", data.source["path"] or "a DataFrame")
        for name, part in data.parts.items():
            shares = data.label_shares(part.targets)
            mix = ", ".join(
                f"{label} {share:.1%}"
                for label, share in zip(CLASS_NAMES, shares, strict=True)
            )
            logger.info("  %-10s %9s targets  %s", name, f"{len(part.targets):,}", mix)
        logger.info(
            "  trained on %s targets (%s); bars shared between parts: %d",
            f"{len(data.train_targets):,}",
            self.config.class_balancing_method.replace("_", " "),
            data.shared_bars("train", "validation")
            + data.shared_bars("validation", "test"),
        )
        return data

    def create_generators(self) -> MemoryEfficientDataLoader:
        """Step 3: makes the datasets of windows and checks their alignment."""
        data = self.data
        _import_tensorflow(verbose=self.config.verbose_logging)
        from sequence_generator import MemoryEfficientDataLoader

        self.generators = MemoryEfficientDataLoader(
            data,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            windows_per_epoch=self.config.windows_per_epoch,
            validation_windows=self.config.validation_windows,
        )
        return self.generators

    def build_model(self) -> BranchedTraining:
        """Step 4: sets seeds and threads, builds and compiles the network."""
        data = self.data
        from model_builder import DualWindowLSTMBuilder, configure_runtime

        self._runtime = configure_runtime(self.config)
        self.model_builder = DualWindowLSTMBuilder(self.config, data.num_features)
        memory = self.model_builder.estimate_model_memory(data.num_rows)
        self.model = self.model_builder.build_model(data.class_odds)
        logger.info(
            "model: %s, %s parameters, %d branches on %s, about %s of memory",
            self.model.network.name,
            f"{self.model.network.count_params():,}",
            self.model.num_branches,
            self._runtime["device"],
            utils.format_bytes(memory["total"]),
        )
        free = utils.available_memory_bytes()
        if free is not None and memory["total"] > free:
            logger.warning(
                "this run needs about %s, %s are free: lower batch_size",
                utils.format_bytes(memory["total"]),
                utils.format_bytes(free),
            )
        return self.model

    def setup_callbacks(self) -> list[Any]:
        """Step 5: makes or resumes the run folder, and makes the callbacks.

        Raises:
            ConfigError: If the run to resume is of another configuration, other data or
                another environment.
        """
        self.model_builder  # noqa: B018 - names the missing step
        import artifacts

        identity = self._identity()

        artifacts.sweep(self.config)
        run = artifacts.find_resumable(self.config, self._resume)
        if run is None:
            run = artifacts.RunFolder.create(self.config)
            utils.write_json(run.path / artifacts.STATE, identity)
            self._attach(run)
            return self.callbacks
        run.refuse_difference(identity, is_forced=self._resume_anyway)
        self._attach(run)
        state = self._checkpointer.state
        done = 0 if state is None else int(state["epochs_done"])
        run.note_resume(identity, epochs_done=done)
        logger.info("resuming %s after epoch %d", run.path, done)
        return self.callbacks

    def cross_validate(self) -> list[dict[str, Any]]:
        """Between steps 5 and 6: trains and scores each fold of `n_splits`.

        Folds lie before the test part. A resumed run does not repeat finished ones.

        Returns:
            The results of each fold; its `test` is the fold's test block.
        """
        import folds

        self._fold_results = []
        ranges = folds.fold_ranges(self.data.num_rows, self.config)
        for number, parts in enumerate(ranges, 1):
            folder = self.run.fold(number)
            done = folder.path / "results.json"
            logger.info("fold %d of %d", number, len(ranges))
            if not done.is_file():
                self._train_fold(folder, parts)
            self._fold_results.append(utils.read_json(done))
        return self._fold_results

    def train_model(self) -> dict[str, list[float]]:
        """Step 6: fits; the model ends with the weights of its best epoch.

        Raises:
            NonFiniteLossError: If a loss or a weight is not a number.
            OutOfMemoryError: If a step does not fit into memory.
            Interrupted: On SIGINT or SIGTERM, after the batch; notebooks included.
        """
        generators, callbacks = self.generators, self.callbacks
        import checkpoints

        started = time.perf_counter()
        state = self._checkpointer.state
        done = 0 if state is None else int(state["epochs_done"])
        if state is not None and (state["is_finished"] or done >= self.config.epochs):
            checkpoints.restore_variables(self.model, state)
            checkpoints.restore_best(self.model, state)
            history = checkpoints.read_history(state)
        else:
            with utils.StopSignals(is_deferred=True) as signals:
                history = self._fit(generators, callbacks, signals, done)
        self.history = {
            key: [float(value) for value in values] for key, values in history.items()
        }
        self._training_seconds = time.perf_counter() - started
        windows = generators.windows_per_epoch * (len(self.history["loss"]) - done)
        logger.info(
            "trained %d epochs in %.0f s, %.0f windows/s, best epoch %d; "
            "checkpoints took %.1f s",
            len(self.history["loss"]),
            self._training_seconds,
            windows / self._training_seconds,
            self._best_epoch(),
            sum(self._checkpointer.seconds),
        )
        return self.history

    def save_model_and_metadata(self) -> Path:
        """Step 7: writes model, scaler, history and metadata into the run folder."""
        import pandas as pd

        run, data, history = self.run, self.data, self.history
        from model_builder import NonFiniteLossError, non_finite_weights

        if names := non_finite_weights(self.model.network):
            raise NonFiniteLossError(
                f"expected a finite model. Received: NaN or infinity in {names}."
            )
        self.model.save(run.file("model", ".keras"))
        utils.write_json(run.file("scaler", ".json"), data.scaler.to_dict())
        if self.config.save_scaler_pickle:
            content = data.scaler.export(
                pair=self.config.pair,
                future_window=self.config.future_window,
                stop_loss=self.config.long_sl_pct,
                take_profit=self.config.long_tp_pct,
            )
            utils.atomic_write(run.file("scaler", ".pkl"), content)
        table = pd.DataFrame(history)
        table.insert(0, "epoch", range(1, len(table) + 1))
        utils.atomic_write(run.file("history", ".csv"), table.to_csv(index=False))
        self._metadata = self._describe_run()
        utils.write_json(run.file("metadata", ".json"), self._metadata)
        # The same weights are in the model file now.
        (run.path / "best_model_checkpoint.keras").unlink(missing_ok=True)
        return run.path

    def generate_confusion_matrix_report(self) -> dict[str, Any]:
        """Step 8: predicts validation and test whole, writes the report, publishes.

        If it fails, the run folder of step 7 stays.
        """
        run, data = self.run, self.data
        if not self._metadata:
            raise RuntimeError("expected a saved model: call save_model_and_metadata()")
        try:
            self._report(run, data)
        except BaseException:
            logger.error(
                "the report failed; the trained model is kept, --resume %s finishes it",
                run.path,
            )
            raise
        self.artifact_dir = run.publish()
        logger.info("artifacts: %s", self.artifact_dir)
        return self.results

    # Parts of steps

    def _fit(
        self,
        generators: MemoryEfficientDataLoader,
        callbacks: list[Any],
        signals: utils.StopSignals,
        done: int,
    ) -> dict[str, list[float]]:
        """Fits from epoch `done` on; returns the history of all epochs."""
        import tensorflow as tf

        from model_builder import OutOfMemoryError, StopOnSignal

        try:
            record = self.model.fit(
                generators.train_dataset(first_epoch=done),
                initial_epoch=done,
                epochs=self.config.epochs,
                steps_per_epoch=generators.steps_per_epoch,
                validation_data=generators.validation_dataset(),
                callbacks=[StopOnSignal(signals), *callbacks],
                shuffle=False,
                verbose=1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2,
            )
        except utils.Interrupted as stop:
            raise utils.Interrupted(stop.signal_number, self._advice()) from None
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            peak = utils.format_bytes(utils.peak_resident_bytes())
            raise OutOfMemoryError(
                f"a training step did not fit into memory; the peak was {peak}. Try "
                f"--batch-size {max(1, self.config.batch_size // 2)}. {self._advice()}"
            ) from error
        return record.history

    def _advice(self) -> str:
        """Returns how to go on with this run."""
        run = self.__dict__.get("run")
        if run is None or not run.has_progress():
            return "Nothing was saved yet: start the run again."
        return f"To go on: python trainer.py --resume {run.path}"

    def _finished_run(self) -> Path | None:
        if self._resume is None:
            return None
        import artifacts

        if self._resume != "newest":
            folder = Path(self._resume)
            # A run that died while it was published has a manifest, too.
            is_published = folder.resolve().parent.name != self.config.runs_dir.name
            has_manifest = (folder / artifacts.MANIFEST).is_file()
            return folder if is_published and has_manifest else None
        if artifacts.find_resumable(self.config, "newest", is_probe=True):
            return None
        return artifacts.find_finished(self.config)

    def _identity(self) -> dict[str, Any]:
        """Returns what must be equal for an exact resume."""
        import artifacts
        from model_builder import environment_key

        return {
            "configuration": artifacts.run_identity(self.config),
            "data": self.data.digest(),
            "environment": environment_key(self._runtime, self.model.num_branches),
        }

    def _report(self, run: RunFolder, data: TrainingData) -> None:
        import report

        self._judge(run)
        if self._fold_results:
            self.results["cross_validation"] = self._gather_folds(run)
        mix = report.label_mix_over_time(data.timestamps, data.labels)
        mix.attrs["edges"] = {
            name: data.timeline.at(part.start) for name, part in data.parts.items()
        }
        report.write_report(run.path, self.results, history=self.history, label_mix=mix)
        self._metadata["results"] = {
            key: self.results[key] for key in ("verdict", "claims", "warnings")
        } | {
            part: {key: self.results[part][key] for key in _HEADLINES}
            for part in ("validation", "test")
        }
        utils.write_json(run.file("metadata", ".json"), self._metadata)
        logger.info("%s", report.format_results(self.results))

    def _judge(self, run: RunFolder) -> None:
        """Predicts validation and test, chooses on validation, scores both."""
        import evaluation

        table = evaluation.predictions_table(
            self.data, {part: self._predict(part) for part in ("validation", "test")}
        )
        policy, choice = evaluation.fit_policy(table, self.data, self.config)
        utils.write_json(run.file("calibrator", ".json"), policy.to_dict())
        self.predictions = evaluation.add_signals(table, policy)
        _write_parquet(run.file("predictions", ".parquet"), self.predictions)
        self.results = evaluation.evaluate(
            self.predictions, self.data, self.config, policy=policy, choice=choice
        )

    def _train_fold(self, folder: RunFolder, ranges: Mapping[str, Any]) -> None:
        """Trains and scores one fold with the same steps, in a folder of its own."""
        fold = StandaloneTrainer(self.config.replace(n_splits=None), frame=self._frame)
        fold._ranges = ranges
        fold.initialize_components()
        fold.load_and_validate_data()
        fold.create_generators()
        fold.build_model()
        fold._attach(folder)
        fold.train_model()
        fold._judge(folder)
        # Written last: a fold with it is done.
        utils.write_json(folder.path / "results.json", fold.results)

    def _gather_folds(self, run: RunFolder) -> dict[str, Any]:
        """Keeps the out-of-fold predictions in one file; returns the folds' summary."""
        import pandas as pd

        import folds

        tables = []
        for number in range(1, len(self._fold_results) + 1):
            folder = run.fold(number)
            table = pd.read_parquet(folder.file("predictions", ".parquet"))
            table = table[table["part"] == "test"].drop(columns="part")
            tables.append(table.assign(fold=number))
        _write_parquet(
            run.file("oof_predictions", ".parquet"),
            pd.concat(tables, ignore_index=True),
        )
        return {
            "cv": self.config.cv,
            "num_folds": len(self._fold_results),
            "metrics": folds.summarise(
                [
                    folds.headline(item["test"], _HEADLINES)
                    for item in self._fold_results
                ]
            ),
            "folds": [
                {key: item["test"][key] for key in ("first", "last", "num_samples")}
                | {"verdict": item["verdict"], "rows": rows}
                for item, rows in zip(
                    self._fold_results,
                    folds.fold_ranges(self.data.num_rows, self.config),
                    strict=True,
                )
            ],
        }

    def _attach(self, run: RunFolder) -> None:
        """Makes the callbacks that write into a folder, with its newest state."""
        from checkpoints import CompleteState, read_newest
        from model_builder import CollapseMonitor

        self.run = run
        rows, dataset = self.generators.watched_windows()
        self.callbacks = [
            CollapseMonitor(dataset, self.data.label_shares(rows)),
            *self.model_builder.create_callbacks(run.path),
        ]
        self._checkpointer = CompleteState(
            run.checkpoints, self.callbacks, state=read_newest(run.checkpoints)
        )
        self.callbacks.append(self._checkpointer)

    def _predict(self, part: str) -> Any:
        rows = self.data.parts[part].targets
        return self.model.predict(self.generators.evaluation_dataset(rows), verbose=0)

    def _best_epoch(self) -> int:
        """Returns the epoch, from 1, whose weights the model has."""
        values = self.history[self.config.monitor]
        best = max if self.config.monitor == "val_accuracy" else min
        return values.index(best(values)) + 1

    def _describe_run(self) -> dict[str, Any]:
        import metadata
        from model_builder import weights_digest

        network, best = self.model.network, self._best_epoch()
        return {
            "run_id": self.run.run_id,
            "config": self.config.to_dict(),
            "data": metadata.describe_data(self.data),
            "split": metadata.describe_split(self.data),
            "alignment": metadata.ALIGNMENT,
            "model": {
                "name": network.name,
                "total_parameters": network.count_params(),
                "optimizer": "adam",
                "loss": "sparse_categorical_crossentropy",
                "weights_sha256": weights_digest(network),
                "outputs": "probabilities at the natural class mix",
            },
            "training": {
                "completed_epochs": len(self.history["loss"]),
                "best_epoch": best,
                "best": {key: values[best - 1] for key, values in self.history.items()},
                "windows_per_epoch": self.generators.windows_per_epoch,
                "seconds": round(self._training_seconds, 1),
                "resumes": self.run.resumes(),
                "peak_memory_bytes": utils.peak_resident_bytes(),
            },
            "runtime": self._runtime | {"num_branches": self.model.num_branches},
            "versions": metadata.describe_versions(),
            "files": {
                kind: self.run.file(kind, suffix).name
                for kind, suffix in _FILES.items()
            },
        }


_RESULTS = {
    "initialize_components": ("data_loader",),
    "load_and_validate_data": ("data",),
    "create_generators": ("generators",),
    "build_model": ("model", "model_builder", "_runtime"),
    "setup_callbacks": ("run", "callbacks", "_checkpointer"),
    "train_model": ("history", "_training_seconds"),
    "generate_confusion_matrix_report": ("results", "predictions", "artifact_dir"),
}
_HEADLINES = (
    "num_samples",
    "log_loss",
    "skill_vs_train_prior",
    "skill_vs_own_mix",
    "skill_vs_trailing_7d",
    "activity_skill_vs_train_prior",
    "direction_skill_vs_train_prior",
    "direction_p_value",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
)
_FILES = {
    "model": ".keras",
    "scaler": ".json",
    "calibrator": ".json",
    "predictions": ".parquet",
    "history": ".csv",
}


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    with utils.atomic_path(path) as temporary:
        table.to_parquet(
            temporary, index=False, engine="pyarrow", write_page_checksum=True
        )


def _import_tensorflow(*, verbose: bool) -> None:
    """Imports TensorFlow without its start-up chatter, unless that is asked for."""
    if "tensorflow" in sys.modules or verbose:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with utils.silent_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for CUDA, and says so


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainer.py",
        usage="trainer.py [--config FILE.yaml] [--FIELD VALUE ...] [--config-test] "
        "[--resume [RUN_DIR]]",
        description="Trains a model of SHORT / HOLD / LONG signals.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="YAML file with the same names as the flags")
    parser.add_argument(
        "--config-test",
        action="store_true",
        help="check and print the configuration, train nothing",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        metavar="RUN_DIR",
        help="go on with RUN_DIR, or with the newest unfinished run of this "
        "configuration; start afresh where there is none",
    )
    parser.add_argument(
        "--resume-anyway",
        action="store_true",
        help="resume although data, configuration or environment differ",
    )
    configuration.add_config_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parsed, config = configuration.parse_arguments(
        _parser(), arguments, base=_resumed_config
    )
    configuration.require_class_target(config)
    utils.configure_logging(verbose=config.verbose_logging)
    if parsed.config_test:
        import dry_run

        logger.info("%s", dry_run.describe_configuration(config))
        return
    with utils.StopSignals():
        StandaloneTrainer(
            config, resume=parsed.resume, resume_anyway=parsed.resume_anyway
        ).run_training()


def _resumed_config(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of the run that is resumed by its folder, where one is."""
    if parsed.resume in (None, "newest"):
        return {}
    folder = Path(parsed.resume)
    if not (folder / "config.yaml").is_file():
        raise utils.MissingInputError(
            f"--resume: expected the folder of a run. Received: {folder}"
        )
    values = configuration.read_yaml(str(folder / "config.yaml"))
    if folder.resolve().parent.name == "runs":
        values["outputs_dir"] = str(folder.resolve().parents[1])
    return values


if __name__ == "__main__":
    sys.exit(main())
