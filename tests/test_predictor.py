import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from world.frames import TINY
from world.signals import make_candles

from artifacts.artifact import Artifact
from artifacts.manifest import write_manifest
from artifacts.run_folder import is_internal
from config import Config
from dataset_builder import build_training_file
from files.atomic import sha256_file
from files.strict import read_json
from models import families
from predictor import Predictor, main
from sequence_generator import cut_windows
from signals import command
from trainer import StandaloneTrainer
from utils import ConfigError, DataError, MissingInputError, RefusedArtifactError

CALIBRATED = ["calibrated_short", "calibrated_hold", "calibrated_long"]
ANSWERS = ["p_short", "p_hold", "p_long"]


@pytest.fixture(scope="module")
def candles():
    return make_candles(1200, seed=3)


@pytest.fixture(scope="module")
def finished(candles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    places = {"inputs_dir": str(folder), "outputs_dir": str(folder)}
    config = Config(**TINY | places, timeframe="4h", report="light")
    path = build_training_file(candles, config)
    return pd.read_feather(path), StandaloneTrainer(config).run_training()


@pytest.fixture(scope="module")
def predictor(finished):
    return Predictor(finished[1], expect={"target": "signal", "horizon_bars": 5})


@pytest.fixture(scope="module")
def predictions(finished):
    return pd.read_parquet(next(finished[1].glob("predictions_*.parquet")))


def test_answers_equal_the_reports_predictions(finished, predictor, predictions):
    frame = finished[0]
    names = list(predictor.feature_names)
    raw = frame[names].to_numpy(np.float32)
    windows = cut_windows(raw, predictions["row"].to_numpy(), window_bars=8)
    probabilities = predictor.predict_windows(windows)
    np.testing.assert_allclose(probabilities, predictions[CALIBRATED], atol=1e-5)
    for i in (0, 7, len(predictions) - 1):
        one = predictor.predict_window(windows[i])
        np.testing.assert_allclose(one, probabilities[i], atol=1e-5)
    sure = np.abs(probabilities - 1 / 3).min(axis=1) > 1e-4
    signals = predictor.signals(predictions[CALIBRATED].to_numpy())
    assert np.array_equal(signals[sure], predictions["signal"].to_numpy()[sure])
    # A DataFrame is taken by its names, in any order and with others beside them.
    shuffled = frame[[*names[::-1], "close"]]
    found = predictor.predict_windows(shuffled[:12])
    whole = predictor.predict_windows(cut_windows(raw, np.arange(7, 12), window_bars=8))
    assert np.array_equal(found, whole)
    with pytest.raises(DataError, match="missing close_change"):
        predictor.predict_window(shuffled[:8].drop(columns="close_change"))


def test_metadata_say_how_the_features_are_made(finished):
    about = read_json(next(finished[1].glob("metadata_*.json")))
    [digest] = about["features"].pop("source_digests").values()
    assert about["features"] == {
        "sets": ["core8"],
        "raw_prices": False,
        "higher_timeframes": [],
        "warm_up_bars": 179,
    }
    file = next(finished[1].parents[3].glob("*_training_ready.feather"))
    lineage, built = about["lineage"], read_json(f"{file}.json")
    assert lineage["training_file_sha256"] == sha256_file(file)
    assert lineage["candles_digest"] == built["digests"]["candles"]
    assert len(digest) == 64 and lineage["dependencies"] == []


def test_candles_give_the_reports_predictions(candles, predictor, predictions):
    test = predictions[predictions["part"] == "test"].set_index("timestamp")
    rows = predictor.predict_candles(candles, last=1000).set_index("timestamp")
    rows = rows.loc[test.index]
    assert (rows["status"] == "ok").all() and len(rows) > 80
    np.testing.assert_allclose(rows[ANSWERS], test[CALIBRATED], atol=1e-6)
    assert np.array_equal(rows["signal"], test["signal"])
    assert rows["unlikeness"].notna().all()
    # The stream has the bits of the newest row of a table.
    stream = predictor.stream(candles[:-3])
    for row in range(len(candles) - 3, len(candles)):
        found = stream.update(candles.iloc[row])
        expected = predictor.predict_candles(candles[: row + 1]).iloc[0]
        assert found[ANSWERS].tolist() == expected[ANSWERS].tolist()


def test_quantiles_of_candles_are_those_of_the_report(candles, tmp_path):
    places = {"inputs_dir": str(tmp_path), "outputs_dir": str(tmp_path)}
    several = {"loss": "quantile", "quantiles": (0.1, 0.5, 0.9), "target": "return"}
    fields = places | several | {"model": "mlp", "timeframe": "4h", "report": "light"}
    config = Config(**TINY | fields | {"sequence_length": 12, "dense_units": ()})
    build_training_file(candles, config)
    folder = StandaloneTrainer(config).run_training()
    table = pd.read_parquet(next(folder.glob("predictions_*.parquet")))
    test = table[table["part"] == "test"].set_index("timestamp")
    names = ["quantile_10", "quantile_50", "quantile_90"]
    assert (np.diff(test[names], axis=1) >= 0).all()
    assert test["quantile_50"].equals(test["predicted"].rename("quantile_50"))
    predictor = Predictor(folder)
    rows = predictor.predict_candles(candles, last=1000).set_index("timestamp")
    rows = rows.loc[test.index]
    said = ["log_return", "low", "high", *names]
    stored = ["predicted", "predicted_low", "predicted_high", *names]
    np.testing.assert_allclose(rows[said], test[stored], atol=1e-6)
    assert np.array_equal(rows["signal"], test["signal"])
    stream = predictor.stream(candles[:-1])
    found = stream.update(candles.iloc[-1])
    expected = predictor.predict_candles(candles).iloc[0]
    assert [found[name] for name in said] == expected[said].tolist()
    still_open = predictor.predict_candles(candles, now="2024-01-01").iloc[0]
    assert still_open["status"] == "open_bar" and still_open[names].isna().all()


def test_threads_share_a_predictor(candles, predictor):
    lasts = [1, 3, 40, 1, 3, 40]
    with ThreadPoolExecutor(6) as pool:
        found = list(
            pool.map(lambda n: predictor.predict_candles(candles, last=n), lasts)
        )
    for rows, last in zip(found, lasts, strict=True):
        expected = predictor.predict_candles(candles, last=last)
        pd.testing.assert_frame_equal(rows, expected, check_exact=True)


def test_it_says_what_it_is(candles, predictor, finished):
    assert predictor.model_id == finished[1].name and predictor.family == "lstm"
    market = (predictor.pair, predictor.timeframe, predictor.target)
    assert market == ("TESTUSDT", "4h", "signal")
    assert predictor.min_candles == 179 + 8 and predictor.notes == []
    last = predictor.metadata["split"]["validation"]["last"]
    expected = pd.Timestamp(last) + pd.Timedelta("20h")
    assert predictor.trained_until == expected
    with pytest.raises(RefusedArtifactError, match="target 'return', found 'signal'"):
        Predictor(finished[1], expect={"target": "return", "pair": "TESTUSDT"})
    with pytest.raises(ConfigError, match="Received: 'tarket'"):
        Predictor(finished[1], expect={"tarket": "return"})
    old = Predictor(finished[1], max_age_days=1.0).predict_candles(candles)
    assert old["status"][0] == "stale" and old["signal"][0] == 1


def test_golden_rows_are_proved_at_opening(candles, predictor, finished, tmp_path):
    found = predictor.check(candles)
    assert found["windows"] == 16 and found["largest_difference"] < 1e-6
    assert found["recomputed"] == 16 and found["largest_feature_difference"] == 0
    copy = shutil.copytree(finished[1], tmp_path / "copy")
    [path] = copy.glob("golden_*.json")
    golden = json.loads(path.read_text())
    golden["signals"][0] = (golden["signals"][0] + 1) % 3
    path.write_text(json.dumps(golden))
    write_manifest(copy, "MANIFEST.json", is_internal=is_internal)
    with pytest.raises(RefusedArtifactError, match="signals others"):
        Predictor(copy)
    for path in [*copy.glob("golden_*.json"), *copy.glob("reference_*.json")]:
        path.unlink()
    write_manifest(copy, "MANIFEST.json", is_internal=is_internal)
    before = Predictor(copy)
    assert "golden rows" in before.notes[0] and "a reference" in before.notes[1]
    assert len(before.notes) == 2
    row = before.predict_candles(candles).iloc[0]
    assert row["status"] == "ok" and np.isnan(row["unlikeness"])


def test_the_command_prints_rows_alone(candles, finished, tmp_path, capsys):
    path = tmp_path / "TESTUSDT-4h.parquet"
    candles.to_parquet(path)
    words = [str(finished[1]), str(path), "--last", "2", "--format", "csv"]
    assert main(words) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("timestamp,close,status,p_short,p_hold,p_long,signal,")
    assert head.endswith("expires_at,size,unlikeness,model_id")
    assert [line.split(",")[2] for line in lines] == ["ok", "ok"]
    assert main([str(finished[1]), str(tmp_path / "none.csv")]) == 66


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
def test_bad_windows(predictor, window, message):
    with pytest.raises(DataError, match=re.escape(message).replace(r"\.\*", ".*")):
        predictor.predict_window(window)


def test_lists_are_read_and_flat_tables_are_no_windows(predictor):
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


def test_an_alias_that_moved_is_followed_between_calls(finished, tmp_path, candles):
    link = tmp_path / "latest"
    link.symlink_to(finished[1])
    predictor = Predictor(link)
    assert not predictor.reload_if_changed()
    before = predictor.predict_candles(candles, last=2)
    copied = shutil.copytree(finished[1], tmp_path / "other")
    link.unlink()
    link.symlink_to(copied)
    stream, say = predictor.stream(candles[:-1]), predictor.adapter.predict_windows
    assert predictor.reload_if_changed() and not predictor.reload_if_changed()
    assert predictor.path == copied.resolve()
    assert predictor.adapter.predict_windows is not say
    pd.testing.assert_frame_equal(before, predictor.predict_candles(candles, last=2))
    assert stream.update(candles.iloc[-1])["status"] == "ok"  # it keeps its own


def test_an_alias_that_leads_to_another_question_is_refused(
    finished, tmp_path, candles, monkeypatch
):
    link = tmp_path / "latest"
    link.symlink_to(finished[1])
    predictor = Predictor(link)
    link.unlink()
    link.symlink_to(shutil.copytree(finished[1], tmp_path / "other"))
    own = predictor.path
    monkeypatch.setattr(
        Predictor, "horizon_bars", property(lambda self: 5 if self.path == own else 9)
    )
    with pytest.raises(RefusedArtifactError, match="horizon_bars 5, found 9"):
        predictor.reload_if_changed()
    assert predictor.path == own
    assert predictor.predict_candles(candles)["status"].iloc[0] == "ok"


def test_a_model_that_changed_while_candles_were_torn_is_taken_later(caplog):
    class Changed:
        model_id, changes = "the new one", [True, False, False]

        def reload_if_changed(self):
            return self.changes.pop(0)

        def stream(self, history):
            return history

    class Torn:
        answers = [DataError("a torn line"), "history"]

        def read_until(self, newest):
            found = self.answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

    old = SimpleNamespace(newest=None)
    renew = command._Renewal(Changed(), Torn())
    assert renew(old) is old and "the model stays as it was: a torn" in caplog.text
    assert renew(old) == "history"
    assert renew("history") == "history"
