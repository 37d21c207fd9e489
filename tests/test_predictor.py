import re

import numpy as np
import pandas as pd
import pytest
from world.frames import CORE8, TINY, make_own_frame

from artifacts.artifact import Artifact
from config import Config
from models import families
from predictor import Predictor
from sequence_generator import cut_windows
from trainer import StandaloneTrainer
from utils import DataError, MissingInputError


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    frame = make_own_frame(1200)
    outputs = str(tmp_path_factory.mktemp("outputs"))
    config = Config(**TINY | {"outputs_dir": outputs, "baseline_model": False})
    folder = StandaloneTrainer(config, frame=frame).run_training()
    return frame, folder


def test_answers_equal_the_reports_predictions(finished):
    frame, folder = finished
    table = pd.read_parquet(next(folder.glob("predictions_*.parquet")))
    raw = frame[list(CORE8)].to_numpy(np.float32)
    windows = cut_windows(raw, table["row"].to_numpy(), window_bars=8)
    predictor = Predictor(folder)
    probabilities = predictor.predict_windows(windows)
    columns = ["calibrated_short", "calibrated_hold", "calibrated_long"]
    np.testing.assert_allclose(probabilities, table[columns], atol=1e-5)
    for i in (0, 7, len(table) - 1):
        one = predictor.predict_window(windows[i])
        np.testing.assert_allclose(one, probabilities[i], atol=1e-5)
    sure = np.abs(probabilities - 1 / 3).min(axis=1) > 1e-4
    signals = predictor.signals(table[columns].to_numpy())
    assert np.array_equal(signals[sure], table["signal"].to_numpy()[sure])


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (np.zeros((7, 8)), "a window of 8 rows and 8 features.*Received: shape (7, 8)"),
        (np.zeros((8, 9)), "numbers of shape (8, 8). Received: shape (8, 9)"),
        (np.zeros((1, 8, 8)), "Received: shape (1, 8, 8).*predict_windows several"),
        ([[0.0] * 8] * 7, "Received: shape (7, 8)"),
        ([[0.0] * 8, [0.0]], "of shape (8, 8). Received: setting an array element"),
        (np.full((8, 8), np.nan), "expected finite features"),
    ],
)
def test_bad_windows(finished, window, message):
    with pytest.raises(DataError, match=re.escape(message).replace(r"\.\*", ".*")):
        Predictor(finished[1]).predict_window(window)


def test_lists_are_read_and_flat_tables_are_no_windows(finished):
    predictor = Predictor(finished[1])
    rows = [[0.0] * 8] * 8
    answer = predictor.predict_window(rows)
    assert np.array_equal(answer, predictor.predict_window(np.zeros((8, 8))))
    for windows in (rows, [], 0.5):
        with pytest.raises(DataError, match=r"windows of .* \(num_windows, 8, 8\)"):
            predictor.predict_windows(windows)


def test_missing_artifact(tmp_path):
    with pytest.raises(MissingInputError):
        Predictor(tmp_path / "none")


def test_tensorflow_is_silenced_before_a_file_brings_it_in(finished, monkeypatch):
    calls = []
    monkeypatch.setattr(families, "import_quietly", lambda: calls.append("quiet"))
    load = Artifact.load_model
    monkeypatch.setattr(
        Artifact, "load_model", lambda *each: calls.append("file") or load(*each)
    )
    Predictor(finished[1])
    assert calls == ["quiet", "file"]
