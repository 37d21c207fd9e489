"""`StandaloneTrainer` and the main command line: one run, in eight steps.

In: the order of the steps, and what each hands to the next. Out: everything else.
Imports `config` and `utils` alone; a dry run needs nothing more.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import utils
from config import AGENTS, MODELS, OPTIONAL_MODELS, Config
from utils import Made

if TYPE_CHECKING:
    import pandas as pd

    from artifacts.run_folder import RunFolder
    from artifacts.run_record import RunRecord
    from audit.findings import AuditReport
    from data_loader import TrainingData, TrainingDataLoader
    from dataset.training_file import Rows
    from evaluation.results import Results
    from model_builder import NetworkBuilder
    from models.adapter import ModelAdapter
    from preprocessing.parts import Ranges

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
            afresh where there is none, nor one that differs a little; a path with that.
        resume_anyway: Go on although something differs, which the metadata then say.
        parallel_folds: Folds that are trained side by side; results stay the same.

    Attributes:
        adapter: The model family (step 1).
        data: Arrays, parts and targets (step 2).
        generators: Datasets of windows, or a table of them (step 3).
        model: In training; `model.network` is what is saved of a network (step 4).
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
    _rows: Made[Rows | None] = Made("load_and_validate_data")
    generators: Made[Any] = Made("create_generators")
    model: Made[Any] = Made("build_model")
    model_builder: Made[NetworkBuilder | None] = Made("build_model")
    run: Made[RunFolder] = Made("setup_callbacks")
    callbacks: Made[list[Any]] = Made("setup_callbacks")
    history: Made[dict[str, list[float]]] = Made("train_model")
    predictions: Made[pd.DataFrame] = Made(_REPORT)
    results: Made[Results[Any]] = Made(_REPORT)
    artifact_dir: Made[Path] = Made(_REPORT)
    _record: Made[RunRecord] = Made("initialize_components")

    def __init__(
        self,
        config: Config | None = None,
        *,
        frame: pd.DataFrame | None = None,
        resume: str | os.PathLike[str] | None = None,
        resume_anyway: bool = False,
        parallel_folds: int | None = None,
    ) -> None:
        self.config = config or Config()
        self._frame = frame
        self._resume, self._resume_anyway = resume, resume_anyway
        self._parallel_folds = parallel_folds
        self._folds: list[Ranges] = []
        self._fold_results: list[dict[str, Any]] = []
        self._metadata: dict[str, Any] = {}

    def run_training(self, *, callbacks: Sequence[Any] = ()) -> Path:
        """Runs all eight steps; returns the published artifact folder.

        Keras `callbacks` join the final fit of a network, after the run's own.

        Raises:
            Interrupted: On SIGINT or SIGTERM; it says how to go on.
        """
        started = time.perf_counter()
        from artifacts.artifact import find_finished_run

        if finished := find_finished_run(self.config, self._resume):
            self.artifact_dir = finished
            return finished
        self.initialize_components()
        with self._record.noted():
            self.load_and_validate_data()
            self.create_generators()
            self.build_model()
            self.setup_callbacks()
            self.adapter.watch(callbacks)
            if self.config.has_folds:
                self.cross_validate()
            self.train_model()
            self.save_model_and_metadata()
            self.generate_confusion_matrix_report()
        logger.info("done in %.0f s", time.perf_counter() - started)
        return self.artifact_dir

    def audit(self, candles: Any = None, **given: Any) -> AuditReport:
        """Looks for leaks in the training file, trains nothing; see `audit.run`."""
        from audit import run as audit

        given |= {"frame": self._frame, "candles": candles}
        return audit.run_audit(self.config, **given)

    # The eight steps

    def initialize_components(self) -> None:
        """Step 1: takes the model family, proves that runs and models can be written.

        Raises:
            ConfigError: If there is no such family or loss, or none for the target.
            DependencyError: If its library is not installed.
            StorageError: If nothing can be written below `outputs_dir`.
        """
        from artifacts.run_record import RunRecord
        from data_loader import TrainingDataLoader
        from files.atomic import require_creatable
        from models.families import create_adapter
        from rl.adapter import register

        register()
        self._record = RunRecord.start()
        self.adapter = create_adapter(self.config)
        for folder in (self.config.runs_dir, self.config.model_dir):
            require_creatable(folder, has_runs=True)
        make: Callable[..., TrainingDataLoader] = TrainingDataLoader
        if self._frame is not None:
            make = partial(TrainingDataLoader.from_frame, self._frame)
        self.data_loader = make(config=self.config, inherited=self.adapter.inherited)

    def load_and_validate_data(self) -> TrainingData:
        """Step 2: reads, checks, splits and scales the training file.

        Raises:
            MissingInputError: If there is no training file.
            DataError: If it breaks its contract.
        """
        from artifacts import metadata

        self.data, self._folds, self._rows = self.data_loader.load_with_folds()
        logger.info("%s", metadata.format_data(self.data, self.config))
        return self.data

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
            InUseError: If it is still going on.
        """
        _ = self.model  # names the missing step
        from artifacts import metadata, resuming, run_folder
        from files.strict import write_json

        identity = metadata.identity_of(self.config, self.data, self.adapter)
        run_folder.sweep(self.config)
        self.run, is_new = resuming.open_run(self.config, self._resume)
        run = self.run
        if is_new:
            write_json(run.path / run_folder.STATE, identity)
        else:
            resuming.refuse_difference(run, identity, is_forced=self._resume_anyway)
        self._record.open(run)
        self.callbacks = self.adapter.attach(run)
        if not is_new:
            resuming.note_resume(run, identity, epochs_done=self.adapter.rounds_done)
        return self.callbacks

    def cross_validate(self) -> list[dict[str, Any]]:
        """Between steps 5 and 6: trains and scores each fold.

        Folds lie before the test part. A resumed run does not repeat finished ones.

        Returns:
            The results of each fold; its `test` is the fold's test block.
        """
        from evaluation.folds import train_folds

        with self._record.noted("cross_validate"):
            self._fold_results = train_folds(
                self.run, self._folds, self._rows, self._parallel_folds
            )
        self._rows = None  # the memory is wanted
        return self._fold_results

    def train_model(self) -> dict[str, list[float]]:
        """Step 6: fits; the model ends as it was in its best epoch.

        Raises:
            NonFiniteLossError: If a loss or a weight is not a number.
            OutOfMemoryError: If a step does not fit into memory.
            Interrupted: On SIGINT or SIGTERM; notebooks included.
        """
        _ = self.callbacks  # names the missing step
        with self._record.noted("train_model"):
            self.history = self.adapter.fit(self.data)
        self.model = self.adapter.model
        return self.history

    def save_model_and_metadata(self) -> Path:
        """Step 7: writes model, scaler, history and metadata into the run folder."""
        from artifacts import metadata

        run, data, _ = self.run, self.data, self.history  # names the missing step
        self._metadata = metadata.save_run(run, data, self.adapter)
        return run.path

    def generate_confusion_matrix_report(self) -> Results[Any]:
        """Step 8: predicts validation and test whole, writes the report, publishes."""
        run, data = self.run, self.data
        if not self._metadata:
            raise RuntimeError("expected a saved model: call save_model_and_metadata()")
        kept = "the report failed; the trained model is kept, --resume {} finishes it"
        with self._record.noted(_REPORT, on_failure=kept.format(run.path)):
            self._report(run, data)
        self._record.close()  # what is published changes no more
        self.artifact_dir = run.publish()
        logger.info("artifacts: %s", self.artifact_dir)
        return self.results

    @property
    def training_history(self) -> dict[str, list[float]]:
        """The `history`, by the name that other trainers give it (step 6)."""
        return self.history

    @property
    def model_output_dir(self) -> Path:
        """Where this run's model lies: in the run's folder, once published there."""
        return self.run.published if self.run.published.is_dir() else self.run.path

    def _report(self, run: RunFolder, data: TrainingData) -> None:
        from audit.run import quick_audit
        from evaluation import folds, importance, outlook, trials
        from evaluation.evaluate import judge, task_of
        from evaluation.verdict import heed_audit
        from positions.beside import add_positions
        from positions.report import report_run
        from reports.report import write_run_report
        from signals.golden import write_checks

        audit = quick_audit(data, self.config).to_dict()
        if self.config.model in AGENTS:
            told: Any = {"audit": audit, "metadata": self._metadata}
            self.predictions, self.results = report_run(run, data, self.adapter, **told)
            return
        said = self._fold_results
        table = folds.out_of_fold(run, len(said)) if said else None
        unseen = table if self.config.calibrate_on == "oof" else None
        judged, self.results = judge(run, data, self.adapter, calibrate_on=unseen)
        self.predictions = judged.table
        trials.add_search(self.results, self.config, judged)
        add_positions(self.results, judged, data, self.adapter)
        write_checks(run, data, judged)
        if table is not None:
            self.results["cross_validation"] = folds.gather(run, table, said, data)
        task = task_of(data.target)
        self.results["outlook"] = outlook.outlook(self.results, task)
        importance.add_importance(self.results, self.adapter, data)
        self.results["audit"] = audit
        heed_audit(self.results, task)
        known = {"history": self.history, "metadata": self._metadata}
        write_run_report(run, data, self.results, model=judged, **known)


def train_run(
    config: Config, *, register: bool = False, alias: str | None = None, **words: Any
) -> Path:
    """Trains as the command line does; `words` are those of `StandaloneTrainer`."""
    folder = StandaloneTrainer(config, **words).run_training()
    if register:
        from artifacts.model_registry import register_run

        register_run(config, folder, alias=alias)
    return folder


def dry_run(config: Config) -> None:
    """Prints what a run would read and take; refuses what the run would refuse."""
    from dataset.barriers import barrier_notes
    from settings import dry_run as words
    from settings.names import find_training_file

    path = find_training_file(config)
    notes = barrier_notes(config) if path is None else []
    logger.info("%s", words.describe_configuration(config, path, notes))
    if path is not None or words.is_looked_for(config):
        from models.costs import plan_run
        from rl.adapter import register

        register()
        logger.info("%s", words.describe_plan(config, plan_run(config)))


def main(
    arguments: Sequence[str] | None = None, *, compare: Callable[..., Any] | None = None
) -> int:
    """Runs the command line; `compare` is `experiments.comparison.run_command`."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments, compare))


def _run(arguments: Sequence[str] | None, compare: Callable[..., Any] | None) -> int:
    from settings import options

    parsed, config = options.parse(arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    config.require_losses()  # no command line registers one, nor a family
    if config.model in OPTIONAL_MODELS or config.model not in MODELS:
        from models.families import create_adapter  # whose library may be missing

        create_adapter(config)
    if __name__ == "__main__" and not (parsed.config_test or parsed.audit):
        from networks import allocator

        allocator.prepare_process(config, can_restart=not parsed.compare)
    words = options.run_words(parsed)
    if parsed.compare:
        if compare is None:
            raise utils.ConfigError("--compare: expected `python trainer.py` to run it")
        look = dry_run if parsed.config_test else None
        workers = {"max_workers": parsed.max_workers, "dry_run": look}
        compare(config, parsed.compare, train=partial(train_run, **words), **workers)
    elif parsed.config_test:
        dry_run(config)
    elif parsed.audit:
        from audit.run import run_command

        run_command(config, **options.audit_options(parsed))
    elif parsed.status:
        from artifacts.run_record import show_status

        return show_status(config, parsed.status)
    else:
        with utils.StopSignals():
            train_run(config, **words)
    return 0


if __name__ == "__main__":

    def _compare(*words: Any, **options: Any) -> None:
        from experiments.comparison import run_command

        run_command(*words, **options)

    if "--optimize" in sys.argv:
        from tuning.__main__ import main as _tune

        sys.exit(_tune([x for x in sys.argv[1:] if x != "--optimize"], is_program=True))
    sys.exit(main(compare=_compare))
