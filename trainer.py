"""`StandaloneTrainer` and the main command line: one run, in eight steps.

In: the order of the steps, and what each hands to the next. Out: everything else.
Imports `config` and `utils` alone; a dry run needs nothing more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import utils
from config import MODELS, Config
from utils import Made

if TYPE_CHECKING:
    import pandas as pd

    from artifacts.run_folder import RunFolder
    from audit.findings import AuditReport
    from data_loader import TrainingData, TrainingDataLoader
    from dataset.training_file import Rows
    from evaluation.results import Results
    from model_builder import NetworkBuilder
    from models.adapter import ModelAdapter

logger = logging.getLogger(__name__)

_REPORT = "generate_confusion_matrix_report"


class StandaloneTrainer:
    """One training run, from a configuration to a published artifact folder.

    The eight steps can be called one by one, in this order, as a notebook does;
    `run_training` calls them all. Each keeps its result as an attribute. What differs
    between model families is in `adapter`.

    Args:
        config: The run; None means defaults.
        frame: A training file's columns as a DataFrame, instead of a file.
        resume: "newest" goes on with the newest unfinished run of this configuration,
            and starts afresh where there is none; a path goes on with that run.
        resume_anyway: Go on although data, configuration or environment differ; the
            metadata then say that the resume was not exact.

    Attributes:
        adapter: The model family (step 1).
        data: Arrays, parts and targets (step 2).
        generators: Datasets of windows, or a table of them (step 3).
        model: The model in training; `model.network` is what is saved of a network
            (step 4).
        model_builder: What made the network; None for other families (step 4).
        callbacks: Keras callbacks; none for other families (step 5).
        history: Metric name -> one value an epoch, or a round of trees (step 6).
        run: Folder of the run (step 5).
        predictions: One row a predicted target (step 8).
        results: Numbers of the report (step 8).
        artifact_dir: The published folder (step 8).

    Example:
        >>> trainer = StandaloneTrainer(Config(pair="DEMOUSDT", epochs=3))
        >>> artifact_dir = trainer.run_training()
    """

    adapter: Made[ModelAdapter] = Made("initialize_components")
    data_loader: Made[TrainingDataLoader] = Made("initialize_components")
    data: Made[TrainingData] = Made("load_and_validate_data")
    generators: Made[Any] = Made("create_generators")
    model: Made[Any] = Made("build_model")
    model_builder: Made[NetworkBuilder | None] = Made("build_model")
    run: Made[RunFolder] = Made("setup_callbacks")
    callbacks: Made[list[Any]] = Made("setup_callbacks")
    history: Made[dict[str, list[float]]] = Made("train_model")
    predictions: Made[pd.DataFrame] = Made(_REPORT)
    results: Made[Results[Any]] = Made(_REPORT)
    artifact_dir: Made[Path] = Made(_REPORT)

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
        self._rows: Rows | None = None
        self._folds: list[dict[str, Any]] = []
        self._fold_results: list[dict[str, Any]] = []
        self._metadata: dict[str, Any] = {}

    def run_training(self) -> Path:
        """Runs all eight steps; returns the published artifact folder.

        Raises:
            Interrupted: On SIGINT or SIGTERM; it says how to go on.
        """
        started = time.perf_counter()
        from artifacts import run_folder
        from artifacts.artifact import load_artifact

        finished = run_folder.finished_run(self.config, self._resume)
        if finished is not None:
            load_artifact(finished)  # refuses what was changed since
            if self._resume == "newest":
                _refuse_other_file(finished, self.config)
            logger.info("this run is finished: %s", finished)
            self.artifact_dir = finished
            return finished
        try:
            self.initialize_components()
            self.load_and_validate_data()
            self.create_generators()
            self.build_model()
            self.setup_callbacks()
            if self.config.has_folds:
                self.cross_validate()
            self.train_model()
            self.save_model_and_metadata()
            self.generate_confusion_matrix_report()
        except utils.Interrupted as stop:
            raise utils.Interrupted(stop.signal_number, self._advice()) from None
        logger.info("done in %.0f s", time.perf_counter() - started)
        return self.artifact_dir

    def audit(self, candles: Any = None) -> AuditReport:
        """Looks for leaks in the training file and its features; trains nothing.

        Args:
            candles: What the file was made from; see `audit.run_audit`.
        """
        from audit import run as audit

        return audit.run_audit(self.config, frame=self._frame, candles=candles)

    # The eight steps

    def initialize_components(self) -> None:
        """Step 1: takes the model family, proves the outputs folder writable.

        Raises:
            ConfigError: If there is no such family or loss, or none for the target.
            DependencyError: If its library is not installed.
            StorageError: If nothing can be written to `outputs_dir`.
        """
        from data_loader import TrainingDataLoader
        from files.atomic import require_writable
        from models.families import create_adapter

        self.adapter = create_adapter(self.config)
        self._made_outputs = not Path(self.config.outputs_dir).exists()
        require_writable(self.config.outputs_dir)
        if self._frame is None:
            self.data_loader = TrainingDataLoader(config=self.config)
        else:
            make = TrainingDataLoader.from_frame
            self.data_loader = make(self._frame, config=self.config)

    def load_and_validate_data(self) -> TrainingData:
        """Step 2: reads, checks, splits and scales the training file.

        Raises:
            MissingInputError: If there is no training file.
            DataError: If it breaks its contract.
        """
        from preprocessing.parts import fold_ranges, require_windows

        loader = self.data_loader
        try:
            if self.config.has_folds:
                self._rows = loader.read_rows()  # which every fold is cut from
            self.data = data = loader.load_training_data(self._ranges, rows=self._rows)
            self._folds = fold_ranges(data.timeline, self.config)
            require_windows(self._folds, self.config)
        except utils.UserError:
            if self._made_outputs:  # leaves nothing behind, not even an empty folder
                with contextlib.suppress(OSError):
                    Path(self.config.outputs_dir).rmdir()
            raise
        from artifacts import metadata

        logger.info("%s", metadata.format_data(data, self.config))
        return data

    def create_generators(self) -> Any:
        """Step 3: makes what feeds the model, and checks its alignment."""
        data = self.data  # first: the step that makes it is the later one
        self.generators = self.adapter.prepare(data)
        return self.generators

    def build_model(self) -> Any:
        """Step 4: makes the model, not yet trained."""
        data = self.data
        self.model = self.adapter.build(data)
        self.model_builder = getattr(self.adapter, "model_builder", None)
        return self.model

    def setup_callbacks(self) -> list[Any]:
        """Step 5: makes or resumes the run folder, and makes the callbacks.

        Raises:
            ConfigError: If the run to resume is of another configuration, other data or
                another environment.
        """
        _ = self.model  # names the missing step
        from artifacts import run_folder
        from files.strict import write_json

        identity = self._identity()
        run_folder.sweep(self.config)
        run = run_folder.find_resumable(self.config, self._resume)
        if run is None:
            run = run_folder.RunFolder.create(self.config)
            write_json(run.path / run_folder.STATE, identity)
            self._attach(run)
            return self.callbacks
        run.refuse_difference(identity, is_forced=self._resume_anyway)
        self._attach(run)
        done = self.adapter.rounds_done
        run.note_resume(identity, epochs_done=done)
        logger.info("resuming %s after epoch %d", run.path, done)
        return self.callbacks

    def cross_validate(self) -> list[dict[str, Any]]:
        """Between steps 5 and 6: trains and scores each fold.

        Folds lie before the test part. A resumed run does not repeat finished ones.

        Returns:
            The results of each fold; its `test` is the fold's test block.
        """
        from files.strict import read_json

        self._fold_results, ranges = [], self._folds
        for number, parts in enumerate(ranges, 1):
            folder = self.run.fold(number)
            done = folder.path / "results.json"
            logger.info("fold %d of %d", number, len(ranges))
            if not done.is_file():
                try:
                    self._train_fold(folder, parts)
                except utils.DataError as error:
                    text = f"fold {number} of {len(ranges)}: {error}"
                    raise utils.DataError(text) from error
                utils.return_freed_memory(collect=True)
            self._fold_results.append(read_json(done))
        self._rows = None
        return self._fold_results

    def train_model(self) -> dict[str, list[float]]:
        """Step 6: fits; the model ends as it was in its best epoch.

        Raises:
            NonFiniteLossError: If a loss or a weight is not a number.
            OutOfMemoryError: If a step does not fit into memory.
            Interrupted: On SIGINT or SIGTERM; notebooks included.
        """
        _ = self.callbacks  # names the missing step
        try:
            self.history = self.adapter.fit(self.data)
            self.model = self.adapter.model
        except utils.Interrupted as stop:
            raise utils.Interrupted(stop.signal_number, self._advice()) from None
        return self.history

    def save_model_and_metadata(self) -> Path:
        """Step 7: writes model, scaler, history and metadata into the run folder."""
        import pandas as pd

        from files.atomic import atomic_write
        from files.strict import write_json

        run, data, history = self.run, self.data, self.history
        from artifacts import metadata

        self.adapter.save(run.file("model", self.adapter.suffix))
        write_json(run.file("scaler", ".json"), data.scaler.to_dict())
        if self.config.save_scaler_pickle:
            content = data.scaler.export(
                pair=self.config.pair,
                future_window=self.config.future_window,
                stop_loss=self.config.long_sl_pct,
                take_profit=self.config.long_tp_pct,
            )
            atomic_write(run.file("scaler", ".pkl"), content)
        table = pd.DataFrame(history)
        table.insert(0, "epoch", range(1, len(table) + 1))
        atomic_write(run.file("history", ".csv"), table.to_csv(index=False))
        self._metadata = metadata.describe_run(run, data, self.adapter)
        write_json(run.file("metadata", ".json"), self._metadata)
        # The same weights are in the model file now.
        (run.path / "best_model_checkpoint.keras").unlink(missing_ok=True)
        return run.path

    def generate_confusion_matrix_report(self) -> Results[Any]:
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

    def _advice(self) -> str:
        """Returns how to go on with this run."""
        from artifacts import run_folder

        return run_folder.advice(getattr(self, "run", None))

    def _identity(self) -> dict[str, Any]:
        """Returns what must be equal for an exact resume."""
        from artifacts import run_folder

        return {
            "configuration": run_folder.run_identity(self.config),
            "data": self.data.digest(),
            "environment": self.adapter.environment(),
        }

    def _report(self, run: RunFolder, data: TrainingData) -> None:
        from audit.run import quick_audit
        from evaluation import folds, importance
        from evaluation.evaluate import task_of
        from evaluation.outlook import outlook
        from evaluation.verdict import heed_audit
        from reports.report import write_run_report

        table, said = None, self._fold_results
        if said:
            table = folds.out_of_fold(run, len(said))
        uses_folds = self.config.calibrate_on == "oof"
        self._judge(run, calibrate_on=table if uses_folds else None)
        if table is not None:
            self.results["cross_validation"] = folds.gather(run, table, said, data)
        self.results["outlook"] = outlook(self.results, task_of(data.target))
        importance.add_importance(self.results, self.adapter, data)
        self.results["audit"] = quick_audit(data, self.config).to_dict()
        heed_audit(self.results)
        write_run_report(
            run,
            data,
            self.results,
            model=self._judged,
            history=self.history,
            metadata=self._metadata,
        )

    def _judge(self, run: RunFolder, **options: Any) -> None:
        """Predicts validation and test, chooses on validation, scores both."""
        from evaluation.evaluate import judge

        judged, self.results = judge(run, self.data, self.adapter, **options)
        self._judged, self.predictions = judged, judged.table

    def _train_fold(self, folder: RunFolder, ranges: Mapping[str, Any]) -> None:
        """Trains and scores one fold with the same steps, in a folder of its own."""
        from evaluation import folds
        from files.strict import write_json
        from settings.data_fields import NO_FOLDS

        fold = StandaloneTrainer(self.config.replace(**NO_FOLDS), frame=self._frame)
        fold._ranges, fold._rows = ranges, self._rows
        fold.initialize_components()
        fold.load_and_validate_data()
        fold.create_generators()
        fold.build_model()
        fold._attach(folder)
        fold.train_model()
        fold._judge(folder)
        if ranges is self._folds[0] and self.config.cv != "combinatorial":
            tested = [each["test"] for each in self._folds]
            later = fold.data_loader.load_training_data(
                {**ranges, "test": tested}, rows=self._rows
            )
            folds.keep_never_retrained(folder, later, fold.adapter)
        if self.config.keep_folds:
            fold.save_model_and_metadata()
            folder.keep()
        # Written last: a fold with it is done.
        seen = {"lookback_rows": folds.count_lookback(fold.data)}
        write_json(folder.path / "results.json", fold.results | seen)

    def _attach(self, run: RunFolder) -> None:
        """Takes a folder, with what was done in it before."""
        self.run = run
        self.callbacks = self.adapter.attach(run)


def _refuse_other_file(folder: Path, config: Config) -> None:
    """Refuses a finished run that read another training file than there is."""
    from files.atomic import sha256_file
    from files.strict import read_json
    from settings.names import find_training_file

    path = find_training_file(config)
    [saved] = folder.glob("metadata_*.json")
    digest = read_json(saved)["data"].get("sha256")
    if path is not None and digest not in (None, sha256_file(path)):
        raise utils.DataError(
            f"{path}: expected the training file that the finished run {folder} was "
            "trained on. Received: another one, or the same after a change. Start "
            "without --resume, or bring the file back."
        )


def main(
    arguments: Sequence[str] | None = None, *, compare: Callable[..., Any] | None = None
) -> int:
    """Runs the command line; returns its exit code.

    `compare` is `experiments.comparison.run_command`, which stands above this module.
    """
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments, compare))


def _run(arguments: Sequence[str] | None, compare: Callable[..., Any] | None) -> None:
    from settings import options

    parsed, config = options.parse(arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    config.require_losses()  # no command line registers one, nor a family
    if config.model == "lightgbm" or config.model not in MODELS:
        from models.families import create_adapter  # whose library may be missing

        create_adapter(config)

    def train(each: Config) -> Path:
        return StandaloneTrainer(
            each, resume=parsed.resume, resume_anyway=parsed.resume_anyway
        ).run_training()

    if parsed.compare:
        if compare is None:
            raise utils.ConfigError("--compare: expected `python trainer.py` to run it")
        compare(config, parsed.compare, train=train, is_dry_run=parsed.config_test)
    elif parsed.config_test:
        from dataset.barriers import barrier_notes
        from dataset.lengths import short_test_notes
        from dataset.sidecar import described_move_pct, described_size, description_of
        from settings import dry_run

        notes = barrier_notes(config, described_move_pct(config))
        notes += short_test_notes(config, description_of(config))
        described = described_size(config)
        logger.info("%s", dry_run.describe_configuration(config, described, notes))
    elif parsed.audit:
        from audit.run import run_command

        run_command(
            config,
            candles=parsed.audit_candles,
            feature_file=parsed.audit_features,
            json_file=parsed.audit_json,
            is_strict=parsed.audit_strict,
        )
    else:
        with utils.StopSignals():
            train(config)


if __name__ == "__main__":

    def _compare(*words: Any, **options: Any) -> None:
        from experiments.comparison import run_command

        run_command(*words, **options)

    sys.exit(main(compare=_compare))
