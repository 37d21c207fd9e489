"""A published model in another program's format, proved on the test rows.

In: which steps of an artifact become which file, the folder that is published or not.
Out: operators (`onnx_graph`), other formats of a network (`onnx_networks`, `tflite`),
whether it answers alike (`parity`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import utils
from artifacts import manifest, publication
from artifacts.run_folder import MANIFEST
from config import CLASS_NAMES, DATASET_FIELDS
from files.atomic import fsync_folder, make_folder
from files.strict import write_json
from live import onnx_graph, onnx_networks, parity, tflite
from models.keras_adapter import KerasAdapter
from models.tabular_adapter import TabularAdapter
from models.window_tables import WindowInputs
from predictor import Predictor

logger = logging.getLogger(__name__)


# Formats


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model in another format.

    Args:
        content: Bytes of its file.
        say: Answers windows of features as the file does, with all around it.
        inputs: What the file reads, for who writes a program.
        outputs: What it gives.
        max_rows: Test rows that it is held against; None for all.
    """

    content: bytes
    say: parity.Say
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    max_rows: int | None = None


def to_onnx(predictor: Predictor) -> Converted:
    """Returns the whole way from features to answers as one ONNX model.

    Raises:
        ConfigError: If a step of it has no exact form.
        DependencyError: If a package is missing.
    """
    adapter = predictor.adapter
    if not isinstance(adapter, KerasAdapter | TabularAdapter):
        raise utils.ConfigError(
            "format: expected a Keras network or plain arrays. Received: a model of "
            f"{predictor.family}, which has no ONNX form here"
        )
    graph = onnx_graph.Graph()
    x = onnx_graph.add_scaler(graph, predictor.scaler, "features")
    if isinstance(adapter, KerasAdapter):
        x = graph.include(onnx_networks.network_to_onnx(adapter.answering), x)
    else:
        bars = {"window_bars": adapter.window_bars}
        inputs = WindowInputs.from_dict(predictor.metadata["model"], **bars)
        x = onnx_graph.add_window_inputs(graph, inputs, x)
        x = onnx_graph.add_arrays(graph, adapter.model, x)
        if adapter.mix is not None:
            x = onnx_graph.add_mix(graph, adapter.mix, x)
    answer = onnx_graph.add_policy(
        graph, predictor.policy, x, num_outputs=predictor.config.num_outputs
    )
    sizes = adapter.window_bars, adapter.num_features
    name: str = "probabilities"
    shape: list[str | int] = ["batch", len(CLASS_NAMES)]
    if not adapter.has_classes:
        name, shape = "log_return", ["batch"]
    content = graph.finish(("features", sizes), answer, (name, shape))
    return Converted(
        content=content,
        say=onnx_graph.runner(content),
        inputs={
            "name": "features",
            "type": "float32",
            "shape": ["batch", *sizes],
            "content": "features as they are, the oldest bar first",
        },
        outputs={"name": name, "type": "float32", "shape": shape},
    )


def to_tflite(predictor: Predictor) -> Converted:
    """Returns the network at batch 1, with the steps around it beside it as JSON.

    Raises:
        ConfigError: If the model is no network.
    """
    adapter = predictor.adapter
    if not isinstance(adapter, KerasAdapter):
        cure = ". Choose --format onnx" if isinstance(adapter, TabularAdapter) else ""
        raise utils.ConfigError(
            "format: expected a Keras network for tflite. Received: a model of "
            f"{predictor.family}{cure}"
        )
    content = tflite.network_to_tflite(adapter.answering)
    answer = tflite.runner(content)

    def say(windows: np.ndarray) -> np.ndarray:
        scaled = map(predictor.scaler.transform, windows)
        outputs = [answer(window[None]) for window in scaled]
        return predictor.policy.calibrate(np.concatenate(outputs))

    return Converted(
        content=content,
        say=say,
        inputs={
            "type": "float32",
            "shape": [1, adapter.window_bars, adapter.num_features],
            "content": "features after `scaler`, the oldest bar first",
        },
        outputs={
            "type": "float32",
            "shape": [1, predictor.config.num_outputs],
            "content": "what `policy` makes answers of",
        },
        max_rows=2000,
    )


FORMATS: dict[str, Callable[[Predictor], Converted]] = {
    "onnx": to_onnx,
    "tflite": to_tflite,
}
"""Name, which is the file's suffix, too -> what converts an artifact."""


# What is published


def export_model(
    model: str | os.PathLike[str],
    *,
    file_format: str = "onnx",
    output_dir: str | os.PathLike[str] | None = None,
    training_file: str | None = None,
) -> Path:
    """Writes a published model in another format; returns the folder.

    It has `model.onnx` or `model.tflite`, `features.json`, `golden.json` with 16 test
    windows and their answers, and `MANIFEST.json`.

    Args:
        model: Folder of the published run.
        file_format: `onnx` or `tflite`.
        output_dir: A folder that is not there yet; None makes
            `outputs/exports/{model_id}-{format}`.
        training_file: Where the run's training file is now; None where it was.

    Raises:
        parity.ParityError: If it does not answer the test rows as the model does.
        ConfigError: If the folder is there, or the model has no exact form.
    """
    predictor = Predictor(model)
    name = f"{predictor.model_id}-{file_format}"
    folder = Path(output_dir or Path("outputs/exports", name))
    if os.path.lexists(folder):
        raise utils.ConfigError(
            f"output_dir: expected a folder that is not there yet. Received: {folder}. "
            "Remove it, or name another one."
        )
    rows = parity.read_test_rows(predictor, training_file)
    converted = FORMATS[file_format](predictor)
    if converted.max_rows is not None:
        rows = rows.some(converted.max_rows)
    measured = parity.measure_parity(predictor, converted.say, rows)
    logger.info(
        "%s test rows, at most %.1e apart, %d other signals",
        f"{measured['num_rows']:,}",
        measured["largest_difference"],
        measured["other_signals"],
    )
    golden = parity.golden_rows(predictor, rows.some(parity.GOLDEN_ROWS))
    described = describe(predictor, converted) | {"parity": measured}
    with _published(folder) as unfinished:
        (unfinished / f"model.{file_format}").write_bytes(converted.content)
        write_json(unfinished / "features.json", described)
        write_json(unfinished / "golden.json", golden)
    return folder


def describe(predictor: Predictor, converted: Converted) -> dict[str, Any]:
    """Returns `features.json`: what goes in, what comes out, what a signal is."""
    config, policy = predictor.config, predictor.policy
    fitted = getattr(policy, "calibrator", None)
    return {
        "model": {
            "model_id": predictor.model_id,
            "family": config.model,
            "pair": config.pair,
            "timeframe": config.timeframe,
            "target": config.target,
            "horizon_bars": config.future_window,
        },
        "input": converted.inputs,
        "output": converted.outputs,
        "classes": list(CLASS_NAMES) if predictor.adapter.has_classes else None,
        "feature_names": list(predictor.feature_names),
        "feature_parameters": {k: getattr(config, k) for k in DATASET_FIELDS},
        "window_bars": predictor.adapter.window_bars,
        "scaler": predictor.scaler.to_dict(),
        "calibration": None if fitted is None else fitted.name,
        "policy": policy.to_dict(),
        "versions": {name: _version(name) for name in _LIBRARIES},
    }


_LIBRARIES = ("keras", "onnx", "onnxruntime", "tensorflow", "tf2onnx")


def _version(name: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None


@contextlib.contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """Yields a folder that becomes `folder`, with a manifest, if the block succeeds."""
    unfinished = folder.with_name(f".tmp-{secrets.token_hex(6)}-{folder.name}")
    try:
        make_folder(unfinished)
        yield unfinished
        manifest.write_manifest(unfinished, MANIFEST, is_internal=lambda _: False)
        publication.move_run(unfinished, folder, internals=())
        fsync_folder(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
