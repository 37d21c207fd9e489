"""What is published, and what is refused. Converting: tests/integrations."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from world.frames import make_own_frame

from artifacts import manifest
from artifacts.artifact import load_artifact
from live import export, onnx_networks, parity
from live.__main__ import main
from predictor import Predictor
from utils import ConfigError


def convert_to(monkeypatch, shift):
    """A format that answers as the model does, but for a shift."""

    def converted(predictor):
        return export.Converted(
            content=b"a file",
            say=lambda windows: predictor.predict_windows(windows) + shift,
            inputs={"name": "features"},
            outputs={"name": "probabilities"},
        )

    monkeypatch.setitem(export.FORMATS, "onnx", converted)


def test_folder_says_all_that_another_program_needs(run, tmp_path, monkeypatch):
    convert_to(monkeypatch, 0.0)
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run)]) == 0
    [folder] = tmp_path.glob("outputs/exports/*")
    assert folder.name == f"{run.name}-onnx"
    listed = manifest.read_manifest(folder, "MANIFEST.json")
    assert set(listed) == {"model.onnx", "features.json", "golden.json"}
    assert (folder / "model.onnx").read_bytes() == b"a file"
    described = json.loads((folder / "features.json").read_text())
    predictor = Predictor(run)
    assert tuple(described["feature_names"]) == predictor.feature_names
    assert described["window_bars"] == 8
    assert described["classes"] == ["SHORT", "HOLD", "LONG"]
    assert described["policy"] == predictor.policy.to_dict()
    named = {"family": "logistic", "pair": "TESTUSDT", "timeframe": "1m"}
    assert named.items() <= described["model"].items()
    parity = described["parity"]
    assert (parity["num_rows"], parity["other_signals"]) == (127, 0)
    golden = json.loads((folder / "golden.json").read_text())
    windows = np.array([row["features"] for row in golden], np.float32)
    answers = predictor.predict_windows(windows).astype(np.float32)
    assert [row["probabilities"] for row in golden] == answers.tolist()
    signals = predictor.signals(answers).tolist()
    assert len(golden) == 16 and [row["signal"] for row in golden] == signals


def test_what_answers_otherwise_is_not_published(run, tmp_path, monkeypatch, capsys):
    convert_to(monkeypatch, 2e-6)
    words = ["export", str(run), "--output-dir", str(tmp_path / "exported")]
    assert main(words) == 70
    assert not list(tmp_path.iterdir())
    message = capsys.readouterr().err
    assert "at most 1e-06 apart. Received: 2" in message and "Traceback" not in message


def test_a_folder_that_is_there_stays(run, tmp_path):
    assert main(["export", str(run), "--output-dir", str(tmp_path)]) == 2


def test_the_training_file_is_that_of_the_run(run, tmp_path, capsys, monkeypatch):
    words = ["export", str(run), "--output-dir", str(tmp_path / "exported")]
    other = tmp_path / "other.feather"
    make_own_frame(900, seed=9).to_feather(other)
    assert main([*words, "--training-file", str(other)]) == 65
    assert "that the finished run" in capsys.readouterr().err
    assert main([*words, "--training-file", str(tmp_path / "none.feather")]) == 66


def test_a_model_of_a_frame_needs_its_file(run, tmp_path, monkeypatch, capsys):
    metadata = {"data": {"path": None, "sha256": None}}
    convert_to(monkeypatch, 0.0)
    real = load_artifact(run)
    framed = dataclasses.replace(real, metadata=real.metadata | metadata)
    monkeypatch.setattr(parity, "load_artifact", lambda _: framed)
    words = ["export", str(run), "--output-dir", str(tmp_path / "exported")]
    assert main(words) == 66
    assert "name it: --training-file FILE" in capsys.readouterr().err
    path = Path(real.metadata["data"]["path"])
    assert main([*words, "--training-file", str(path)]) == 0
    shorter = tmp_path / "shorter.feather"
    pd.read_feather(path)[:-200].reset_index(drop=True).to_feather(shorter)
    words[-1] = str(tmp_path / "other")
    assert main([*words, "--training-file", str(shorter)]) == 65
    assert "a file without some" in capsys.readouterr().err


def test_networks_of_another_precision_are_refused():
    def layer(dtype, *inner):
        return SimpleNamespace(compute_dtype=dtype, layers=inner)

    whole = layer("float32", layer("float32"), layer("float32", layer("float32")))
    onnx_networks.require_float32(whole)
    mixed = layer("float32", layer("float32"), layer("float32", layer("float16")))
    with pytest.raises(ConfigError, match="one of float16. Train it without mixed"):
        onnx_networks.require_float32(mixed)


def test_a_missing_package_names_its_file(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(run), "--output-dir", str(tmp_path / "exported")]) == 2
    message = capsys.readouterr().err
    assert "Received: none of onnx. Install them: pip install -r " in message
    assert "requirements-export.txt" in message
