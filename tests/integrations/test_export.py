"""`python -m live export`: each family, written and answered by other libraries."""

import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
from world.frames import PROJECT, TINY, make_own_frame

from artifacts import manifest
from config import Config
from dataset import labels
from live import export, parity, tflite
from live.__main__ import main
from predictor import Predictor
from reports import report
from trainer import StandaloneTrainer

pytest.importorskip("tf2onnx", reason="needs requirements-export.txt")
onnxruntime = pytest.importorskip("onnxruntime")

NETWORKS = {
    "lstm": {"lstm_units": (8, 4)},
    "bidirectional": {"model": "lstm", "bidirectional": True},
    "gru": {"gru_units": (8, 4)},
    "cnn": {"cnn_filters": (8, 8), "cnn_kernels": (3, 3), "conv_batch_norm": True},
    "cnn_lstm": {
        "cnn_lstm_filters": (8,),
        "cnn_lstm_kernels": (3,),
        "cnn_lstm_units": (8,),
        "cnn_lstm_attention": True,
        "cnn_lstm_residual": True,
    },
    "tcn": {"tcn_filters": 8},
    "mlp": {"mlp_inputs": "bars"},
    "attention": {
        "attention_dim": 16,
        "attention_heads": 2,
        "attention_ff_dim": 16,
        "attention_blocks": 1,
    },
    "ensemble": {
        "cnn_filters": (8, 8),
        "cnn_kernels": (3, 3),
        "attention_dim": 16,
        "attention_heads": 2,
        "attention_ff_dim": 16,
        "attention_blocks": 1,
    },
    "return": {"model": "lstm", "target": "return"},
    "quantiles": {"model": "mlp", "target": "return", "loss": "quantile"}
    | {"quantiles": (0.1, 0.5, 0.9), "dense_units": ()},
}
TABLES = {
    "random_forest": {},
    "gradient_boosting": {"calibration_method": "isotonic"},
    "classic_gradient_boosting": {},
    "lightgbm": {"target": "price"},
    "xgboost": {"target": "return"},
    "catboost": {},
    "logistic": {},
}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains a family once; its folder."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def trained(name):
        if name not in done:
            fields = {"model": name} | (NETWORKS | TABLES)[name]
            own = {"inputs_dir": folder / f"inputs-{name}", "outputs_dir": folder}
            small = {"epochs": 1, "num_trees": 5, "importance_windows": None}
            small |= {"baseline_model": False, **map_text(own), **fields}
            config = Config(**TINY | small)
            frame = make_own_frame(1500)
            frame["close"] = 1000 + np.sin(frame.index / 9.0)
            if "target" in fields:
                outcome = getattr(labels, f"{config.target}_target")
                candles = frame.assign(open=frame["close"], volume=1.0)
                candles["high"] = candles["low"] = frame["close"]
                made = outcome(candles, horizon=config.future_window)
                frame = frame.assign(**made)[made["label_end"] > 0]
            own["inputs_dir"].mkdir()
            frame.reset_index(drop=True).to_feather(config.expected_path)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(report, "write_report", lambda *_, **__: None)
                done[name] = StandaloneTrainer(config).run_training()
        return done[name]

    return trained


def map_text(values):
    return {name: str(value) for name, value in values.items()}


@pytest.mark.parametrize("name", [*NETWORKS, *TABLES])
def test_onnx_answers_alone_as_the_run_did(train, name, tmp_path):
    run, folder = train(name), tmp_path / "exported"
    assert main(["export", str(run), "--output-dir", str(folder)]) == 0
    described = json.loads((folder / "features.json").read_text())
    assert described["parity"]["num_rows"] > 100
    assert described["parity"]["other_signals"] == 0
    assert described["parity"]["largest_difference"] < 1e-6
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert [each.name for each in session.get_inputs()] == ["features"]
    golden = json.loads((folder / "golden.json").read_text())
    windows = np.array([row["features"] for row in golden], np.float32)
    assert windows.shape == (16, described["window_bars"], 8)
    [found] = session.run(None, {"features": windows})
    answer = described["output"]["name"]
    np.testing.assert_allclose(found, [row[answer] for row in golden], atol=1e-6)
    # What a reader of the run's own table would hold it against.
    table = pd.read_parquet(next(run.glob("predictions_*.parquet")))
    table = table.set_index(table["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    rows = table.loc[[row["timestamp"] for row in golden]]
    assert set(rows["part"]) == {"test"}
    assert rows["signal"].tolist() == [row["signal"] for row in golden]
    if answer == "probabilities":
        columns = ["calibrated_short", "calibrated_hold", "calibrated_long"]
        np.testing.assert_allclose(found, rows[columns], atol=1e-6)
    listed = manifest.read_manifest(folder, "MANIFEST.json")
    assert set(listed) == {"model.onnx", "features.json", "golden.json"}
    content = (folder / "model.onnx").read_bytes()
    assert listed["model.onnx"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_program_of_the_docs(train, tmp_path, monkeypatch):
    folder = export.export_model(train("logistic"), output_dir=tmp_path / "exported")
    page = (PROJECT / "docs/live.md").read_text()
    [code] = re.findall(r"^```py\n(.*?)^```$", page, re.M | re.S)
    monkeypatch.chdir(folder)
    exec(code, {})
    golden = json.loads((folder / "golden.json").read_text())
    golden[-1]["probabilities"][0] += 2e-6
    (folder / "golden.json").write_text(json.dumps(golden))
    with pytest.raises(AssertionError):
        exec(code, {})


@pytest.mark.parametrize("name", NETWORKS)
def test_tflite_is_the_network_to_rounding(train, name, tmp_path):
    run, folder = train(name), tmp_path / "exported"
    export.export_model(run, file_format="tflite", output_dir=folder)
    content = (folder / "model.tflite").read_bytes()
    assert b"Flex" not in content
    predictor = Predictor(run)
    windows = parity.read_test_rows(predictor).some(20).windows(slice(None))
    windows = [predictor.scaler.transform(window) for window in windows]
    network, answer = tflite.unrolled(predictor.adapter.network), tflite.runner(content)
    found = np.concatenate([answer(window[None]) for window in windows])
    expected = [network(window[None], training=False).numpy() for window in windows]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=3e-7)


def test_trees_have_no_tflite(train, tmp_path, capsys):
    words = ["export", str(train("logistic")), "--format", "tflite"]
    assert main([*words, "--output-dir", str(tmp_path / "x")]) == 2
    assert "a model of logistic. Choose --format onnx" in capsys.readouterr().err
