"""`StandaloneTrainer` and the main command line: one run, in eight steps.

In: the order of the steps, and what each hands to the next. Out: everything else.
Imports `config` and `utils` alone; a dry run needs nothing more.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import time
from collections.abc import Sequence
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
        self, config: Config | None = None, *, frame: pd.DataFrame | None = None
    ) -> None:
        self.config = config or Config()
        self._frame = frame
        self._metadata: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        """Names the step to call where its result is missing."""
        for step, attributes in _RESULTS.items():
            if name in attributes:
                raise AttributeError(f"{name} is made by {step}(): call that first")
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def run_training(self) -> Path:
        """Runs all eight steps; returns the published artifact folder."""
        started = time.perf_counter()
        self.initialize_components()
        self.load_and_validate_data()
        self.create_generators()
        self.build_model()
        self.setup_callbacks()
        self.train_model()
        self.save_model_and_metadata()
        self.generate_confusion_matrix_report()
        logger.info("done in %.0f s", time.perf_counter() - started)
        return self.artifact_dir

    # The eight steps

    def initialize_components(self) -> None:
        """Step 1: proves the outputs folder writable, sets threads, seeds, loader.

        Raises:
            StorageError: If nothing can be written to `outputs_dir`.
        """
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
        self.data = data = self.data_loader.load_training_data()
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
        """Step 5: makes the run folder and the callbacks that write into it."""
        builder = self.model_builder
        from artifacts import RunFolder

        self.run = RunFolder.create(self.config)
        self.callbacks = builder.create_callbacks(self.run.path)
        return self.callbacks

    def train_model(self) -> dict[str, list[float]]:
        """Step 6: fits; the model ends with the weights of its best epoch.

        Raises:
            NonFiniteLossError: If a loss is not a number.
        """
        generators, callbacks = self.generators, self.callbacks
        started = time.perf_counter()
        record = self.model.fit(
            generators.train_dataset(),
            epochs=self.config.epochs,
            steps_per_epoch=generators.steps_per_epoch,
            validation_data=generators.validation_dataset(),
            callbacks=callbacks,
            shuffle=False,
            verbose=1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2,
        )
        self.history = {
            key: [float(value) for value in values]
            for key, values in record.history.items()
        }
        self._training_seconds = time.perf_counter() - started
        windows = generators.windows_per_epoch * len(self.history["loss"])
        logger.info(
            "trained %d epochs in %.0f s, %.0f windows/s, best epoch %d",
            len(self.history["loss"]),
            self._training_seconds,
            windows / self._training_seconds,
            self._best_epoch(),
        )
        return self.history

    def save_model_and_metadata(self) -> Path:
        """Step 7: writes model, scaler, history and metadata into the run folder."""
        import pandas as pd

        run, data, history = self.run, self.data, self.history
        self.model.save(run.file("model", ".keras"))
        utils.write_json(run.file("scaler", ".json"), data.scaler.to_dict())
        if self.config.save_scaler_pickle:
            self._export_scaler()
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
            logger.error("the report failed; the trained model is kept in %s", run.path)
            raise
        self.artifact_dir = run.publish()
        logger.info("artifacts: %s", self.artifact_dir)
        return self.results

    # Parts of steps

    def _report(self, run: RunFolder, data: TrainingData) -> None:
        import evaluation
        import report

        self.predictions = evaluation.predictions_table(
            data, {part: self._predict(part) for part in ("validation", "test")}
        )
        with utils.atomic_path(run.file("predictions", ".parquet")) as temporary:
            self.predictions.to_parquet(
                temporary, index=False, engine="pyarrow", write_page_checksum=True
            )
        self.results = evaluation.evaluate(
            self.predictions, data, bar_seconds=self.config.bar_seconds
        )
        mix = report.label_mix_over_time(data.timestamps, data.labels)
        mix.attrs["edges"] = {
            name: data.timestamps[part.start] for name, part in data.parts.items()
        }
        report.write_report(run.path, self.results, history=self.history, label_mix=mix)
        self._metadata["results"] = {
            part: {key: self.results[part][key] for key in _HEADLINES}
            for part in ("validation", "test")
        }
        utils.write_json(run.file("metadata", ".json"), self._metadata)
        logger.info("%s", report.format_results(self.results))

    def _predict(self, part: str) -> Any:
        rows = self.data.parts[part].targets
        return self.model.predict(self.generators.evaluation_dataset(rows), verbose=0)

    def _best_epoch(self) -> int:
        """Returns the epoch, from 1, whose weights the model has."""
        values = self.history[self.config.monitor]
        best = max if self.config.monitor == "val_accuracy" else min
        return values.index(best(values)) + 1

    def _export_scaler(self) -> None:
        """Writes the scaler for other programs; this project never reads a pickle."""
        import pickle  # noqa: S403

        scaler, config = self.data.scaler, self.config
        content = {
            "scaler": scaler.to_sklearn(),
            "scaler_type": scaler.kind,
            "feature_names": list(scaler.feature_names),
            "clip_limit": scaler.clip_limit,
            "config_params": {
                "pair": config.pair,
                "future_window": config.future_window,
                "stop_loss": config.long_sl_pct,
                "take_profit": config.long_tp_pct,
            },
        }
        utils.atomic_write(self.run.file("scaler", ".pkl"), pickle.dumps(content))

    def _describe_run(self) -> dict[str, Any]:
        from importlib.metadata import version

        from model_builder import weights_digest

        data, config, network = self.data, self.config, self.model.network
        best = self._best_epoch()
        return {
            "run_id": self.run.run_id,
            "config": config.to_dict(),
            "data": dict(data.source)
            | {
                "feature_names": data.feature_names,
                "num_features": data.num_features,
                "train_prior": data.class_prior,
                "class_odds": data.class_odds,
                "class_weights": data.class_weights,
                "num_trained_targets": len(data.train_targets),
            },
            "split": {
                name: {
                    "first_row": part.start,
                    "rows": part.stop - part.start,
                    "targets": len(part.targets),
                    "first": str(data.timestamps[part.targets[0]]) + "Z",
                    "last": str(data.timestamps[part.targets[-1]]) + "Z",
                    "label_shares": data.label_shares(part.targets),
                }
                for name, part in data.parts.items()
            },
            "alignment": {
                "label_offset": 0,
                "window": "rows t - sequence_length + 1 .. t",
                "entry": "close of row t",
                "label": "bars t + 1 .. t + future_window",
                "class_names": list(CLASS_NAMES),
            },
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
                "peak_memory_bytes": utils.peak_resident_bytes(),
            },
            "runtime": self._runtime | {"num_branches": self.model.num_branches},
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in _VERSIONS},
            "files": {
                "model": self.run.file("model", ".keras").name,
                "scaler": self.run.file("scaler", ".json").name,
                "predictions": self.run.file("predictions", ".parquet").name,
                "history": self.run.file("history", ".csv").name,
            },
        }


_RESULTS = {
    "initialize_components": ("data_loader",),
    "load_and_validate_data": ("data",),
    "create_generators": ("generators",),
    "build_model": ("model", "model_builder", "_runtime"),
    "setup_callbacks": ("run", "callbacks"),
    "train_model": ("history", "_training_seconds"),
    "generate_confusion_matrix_report": ("results", "predictions", "artifact_dir"),
}
_HEADLINES = (
    "num_samples",
    "log_loss",
    "skill_vs_train_prior",
    "skill_vs_own_mix",
    "skill_vs_trailing_7d",
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
)
_VERSIONS = ("tensorflow", "keras", "numpy", "pandas", "scikit-learn", "pyarrow")


def _import_tensorflow(*, verbose: bool) -> None:
    """Imports TensorFlow without its start-up chatter, unless that is asked for."""
    if "tensorflow" in sys.modules or verbose:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with utils.silent_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for CUDA, and says so


def describe_configuration(config: Config) -> str:
    """Returns what a dry run says: configuration, files, memory."""
    path = configuration.find_training_file(config)
    rows = num_features = None
    if path is not None and (sidecar := Path(f"{path}.json")).is_file():
        description = utils.read_json(sidecar)
        rows, num_features = description["num_rows"], len(description["features"])
    memory = configuration.estimate_memory(config, num_features or 8, rows or 0)
    shown = {key: utils.format_bytes(size) for key, size in memory.items()}
    array = shown["feature_array"] if rows else "4 bytes a feature and row"
    found = "there" if path else "not there (build it with dataset_builder.py)"
    return (
        f"{config.to_yaml()}\n"
        f"input:   {path or config.expected_path}\n         {found}\n"
        f"output:  {config.model_dir}\n"
        f"memory:  {shown['total']} above the imports: parameters "
        f"{shown['parameters']}, activations {shown['activations']}, runtime "
        f"{shown['runtime']}, feature array {array}\n"
        f"         for {num_features or 8} features"
        + (f" and {rows:,} rows" if rows else "")
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trainer.py",
        description="Trains a model of SHORT / HOLD / LONG signals.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", help="YAML file with the same names as the flags")
    parser.add_argument(
        "--config-test",
        action="store_true",
        help="check and print the configuration, train nothing",
    )
    configuration.add_config_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    utils.configure_logging()
    return utils.run_command_line(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> None:
    parsed, config = configuration.parse_arguments(_parser(), arguments)
    utils.configure_logging(verbose=config.verbose_logging)
    if parsed.config_test:
        logger.info("%s", describe_configuration(config))
    else:
        StandaloneTrainer(config).run_training()


if __name__ == "__main__":
    sys.exit(main())
