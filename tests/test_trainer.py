import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from keras.callbacks import LambdaCallback
from world.frames import PROJECT, TINY, make_own_frame
from world.pages import PageReader, exact

import trainer as trainer_module
import utils
from artifacts.artifact import load_artifact
from artifacts.registry import Registry
from config import Config
from data_loader import TrainingDataLoader
from dataset.builder import build_training_frame, demo_candles
from evaluation.baselines import BOOSTED, LOGISTIC
from files.strict import read_json
from models import create_adapter
from reports import report
from sequence_generator import cut_windows
from settings.sources import load_config
from trainer import StandaloneTrainer

NUM_ROWS = 1200
LIGHT = {"report": "light"}


def pattern(row):
    """A label that nothing but the row number explains."""
    return (row * 7 // 3) % 3


@pytest.fixture(scope="module")
def planted():
    frame = make_own_frame(NUM_ROWS, label=pattern(np.arange(NUM_ROWS)))
    return frame.drop(index=range(850, 870)).reset_index(drop=True)


@pytest.fixture(scope="module")
def finished(planted, tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    config = Config(**TINY | {"outputs_dir": str(outputs)})
    run = StandaloneTrainer(config, frame=planted)
    run.run_training()
    return run


def test_artifact_folder_is_complete(finished):
    folder, tag = finished.artifact_dir, "TESTUSDT_FW005_SL050_TP100"
    assert folder.parent == finished.config.model_dir
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert names == {
        "MANIFEST.json",
        f"calibrator_{tag}.json",
        "config.yaml",
        "confusion_matrix_report.json",
        f"golden_{tag}.json",
        f"preprocessor_{tag}.json",
        f"reference_{tag}.json",
        f"history_{tag}.csv",
        f"metadata_{tag}.json",
        f"model_{tag}.keras",
        f"predictions_{tag}.parquet",
        "report.html",
        "run.log",
        f"scaler_{tag}.json",
        f"scaler_{tag}.pkl",
        "plots/importance.png",
        "plots/label_mix.png",
        "plots/learning_curves.png",
        "plots/thresholds.png",
        *(
            f"plots/{plot.format(part=part)}.png"
            for part in ("validation", "test")
            for plot in (
                "baselines_{part}",
                "confusion_matrix_{part}",
                "confusion_matrix_{part}_signals",
                "equity_{part}",
                "reliability_{part}",
            )
        ),
    }
    assert load_config(str(folder / "config.yaml")) == finished.config
    assert (folder.parent / finished.config.latest_name).resolve() == folder.resolve()
    assert not any(finished.config.runs_dir.iterdir())


def test_the_page_says_what_the_files_say(finished):
    folder = finished.artifact_dir
    files = json.loads((folder / "confusion_matrix_report.json").read_text())
    files["metadata"] = read_json(next(folder.glob("metadata_*.json")))
    numbers = PageReader((folder / "report.html").read_text()).numbers
    assert {key.split(".")[0] for key, _, _ in numbers} >= {"test", "metadata"}
    for key, value, _ in numbers:
        assert value == exact(files, key), key


def test_predictions_line_up_row_by_row(finished, planted):
    table = pd.read_parquet(next(finished.artifact_dir.glob("predictions_*.parquet")))
    rows = table["row"].to_numpy()
    assert (np.diff(rows) > 0).all()
    # `close` was planted as 1000 + the row number before 20 rows were taken out.
    planted_row = table["close"].to_numpy().astype(int) - 1000
    assert np.array_equal(table["label"], pattern(planted_row))
    assert np.array_equal(table["long_return"], planted_row / 1e6)
    minutes = (table["timestamp"] - pd.Timestamp("2024-01-01", tz="UTC")).dt
    assert np.array_equal(minutes.total_seconds() // 60, planted_row)
    assert np.array_equal(table["close"], planted["close"].to_numpy()[rows])


def test_predictions_are_of_the_window_that_ends_at_their_row(finished, planted):
    table = pd.read_parquet(next(finished.artifact_dir.glob("predictions_*.parquet")))
    artifact = load_artifact(finished.artifact_dir)
    raw = planted[list(artifact.scaler.feature_names)].to_numpy(np.float32)
    rows = table["row"].to_numpy()
    windows = cut_windows(artifact.scaler.transform(raw), rows, window_bars=8)
    expected = artifact.load_model().predict(windows, verbose=0)
    columns = ["probability_short", "probability_hold", "probability_long"]
    np.testing.assert_allclose(table[columns], expected, atol=1e-6)


def test_the_stored_policy_repeats_the_signals(finished):
    from evaluation.policies import SignalPolicy

    table = pd.read_parquet(next(finished.artifact_dir.glob("predictions_*.parquet")))
    stored = read_json(next(finished.artifact_dir.glob("calibrator_*.json")))
    again = SignalPolicy.from_dict(stored).add_signals(table)
    pd.testing.assert_frame_equal(again, table)
    assert set(table["signal"].unique()) <= {0, 1, 2}


def test_whole_parts_are_evaluated(finished):
    results = json.loads(
        (finished.artifact_dir / "confusion_matrix_report.json").read_text()
    )
    for part in ("validation", "test"):
        targets = len(finished.data.parts[part].targets)
        assert results[part]["num_samples"] == targets
        assert np.sum(results[part]["confusion_matrix"]) == targets
    assert results["class_names"] == ["SHORT", "HOLD", "LONG"]


def test_report_equals_scikit_learn(finished):
    from sklearn.metrics import (
        confusion_matrix,
        log_loss,
        precision_recall_fscore_support,
    )

    table = finished.predictions[finished.predictions["part"] == "test"]
    result = finished.results["test"]
    columns = ["probability_short", "probability_hold", "probability_long"]
    probabilities = table[columns].to_numpy(np.float64)
    labels, predicted = table["label"], probabilities.argmax(axis=1)
    assert np.array_equal(
        result["confusion_matrix"], confusion_matrix(labels, predicted)
    )
    normal = probabilities / probabilities.sum(axis=1, keepdims=True)
    assert result["log_loss"] == pytest.approx(log_loss(labels, normal), rel=1e-6)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, zero_division=0.0
    )
    for k, name in enumerate(("SHORT", "HOLD", "LONG")):
        scores = result["classes"][name]
        assert scores["precision"] == pytest.approx(precision[k])
        assert scores["recall"] == pytest.approx(recall[k])
        assert scores["f1"] == pytest.approx(f1[k])
        assert scores["support"] == support[k]
    prior = finished.data.class_prior
    reference = -np.log(prior[labels]).mean()
    assert result["skill_vs_train_prior"] == pytest.approx(
        1 - result["log_loss"] / reference
    )


def test_metadata(finished):
    metadata = json.loads(
        next(finished.artifact_dir.glob("metadata_*.json")).read_text()
    )
    assert list(metadata) == [
        *("format", "run_id", "created_at", "experiment_name", "tags", "config"),
        *("data", "features", "split", "alignment", "model", "training", "runtime"),
        *("training_duration_seconds", "metrics", "versions", "code", "hardware"),
        *("system", "lineage", "files", "results"),
    ]
    assert metadata["format"] == 1
    assert len(metadata["code"]["modules_sha256"]) == 64
    assert metadata["hardware"]["cores"] >= 1
    assert metadata["hardware"]["memory_bytes"] > 2**28
    assert metadata["system"]["gpu_available"] is (metadata["hardware"]["gpus"] > 0)
    assert metadata["lineage"] == {
        "training_file_sha256": None,  # of a DataFrame
        "candles_digest": None,
        "dependencies": [],
        "parents": [],
    }
    names = ["sets", "raw_prices", "higher_timeframes", "warm_up_bars"]
    assert metadata["features"] == dict.fromkeys([*names, "source_digests"])
    assert metadata["alignment"]["label_offset"] == 0
    assert metadata["alignment"]["class_names"] == ["SHORT", "HOLD", "LONG"]
    assert metadata["model"]["total_parameters"] == 4 * 4 * (8 + 4 + 1) + 20 + 15
    assert metadata["model"]["trainable_parameters"] == 4 * 4 * (8 + 4 + 1) + 20 + 15
    assert "Trainable params: 243" in metadata["model"]["summary"]
    assert metadata["model"]["optimizer"] == "adam"
    trained = metadata["training"]
    assert trained["completed_epochs"] == 2
    assert trained["final"]["val_loss"] == finished.training_history["val_loss"][-1]
    assert trained["final_validation_loss"] == trained["final"]["val_loss"]
    assert trained["final_training_accuracy"] == trained["final"]["accuracy"]
    assert metadata["metrics"] == trained["best"]
    assert finished.model_output_dir == finished.artifact_dir
    history = pd.read_csv(next(finished.artifact_dir.glob("history_*.csv")))
    assert history["epoch"].tolist() == [1, 2]
    assert history["val_loss"].tolist() == finished.history["val_loss"]


def test_metadata_repeat_the_headlines_of_each_part(finished):
    folder = finished.artifact_dir
    metadata = json.loads(next(folder.glob("metadata_*.json")).read_text())["results"]
    report = json.loads((folder / "confusion_matrix_report.json").read_text())
    assert metadata["verdict"] == report["verdict"]
    for part in ("validation", "test"):
        assert "log_loss" in metadata[part]
        assert metadata[part] == {key: report[part][key] for key in metadata[part]}


def test_metadata_name_what_the_run_was_trained_with(planted, tmp_path):
    fields = {"optimizer": "sgd", "loss": "focal", "epochs": 1}
    config = Config(**TINY | LIGHT | fields | {"outputs_dir": str(tmp_path)})
    folder = StandaloneTrainer(config, frame=planted).run_training()
    model = read_json(next(folder.glob("metadata_*.json")))["model"]
    assert (model["optimizer"], model["loss"]) == ("sgd", "focal")


def test_every_report_says_what_was_looked_for(finished):
    audit = finished.results["audit"]
    assert audit["leaks"] == []
    checks = [finding["check"] for finding in audit["findings"]]
    assert checks == [
        "feature looks ahead",
        "file unlike its functions",
        "unpurged split",
        "fitted beyond train",
        "file scaled as a whole",
        "column copies an outcome",
        "column learned over all rows",
        "price fitted to later rows",
        "column is interpolated",
        "column leads the price",
        "column leads the volatility",
        "column leads the volume",
        "shifted label",
        "column of a later bar",
        "feature too good",
    ]
    assert audit["findings"][0]["outcome"] == "not done"


def test_same_configuration_gives_the_same_weights(finished, planted, tmp_path):
    """And callbacks of one's own see every epoch."""
    config = Config(**TINY | LIGHT | {"outputs_dir": str(tmp_path)})
    again, seen = StandaloneTrainer(config, frame=planted), []
    watch = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs)))
    again.run_training(callbacks=[watch])
    assert [epoch for epoch, _ in seen] == [0, 1] and "val_loss" in seen[0][1]
    first, second = (
        read_json(run.artifact_dir / "MANIFEST.json")["files"][
            "model_TESTUSDT_FW005_SL050_TP100.keras"
        ]["weights_sha256"]
        for run in (finished, again)
    )
    assert first == second


def test_steps_out_of_order_name_the_missing_one(tmp_path):
    run = StandaloneTrainer(Config(**TINY | {"outputs_dir": str(tmp_path)}))
    with pytest.raises(AttributeError, match=r"load_and_validate_data\(\): call that"):
        run.create_generators()
    with pytest.raises(AttributeError, match=r"build_model\(\): call that first"):
        run.setup_callbacks()
    with pytest.raises(AttributeError) as caught:
        run.train_model()
    message = "callbacks is made by setup_callbacks(): call that first"
    assert str(caught.value) == message and not hasattr(run, "artifact_dir")
    run.artifact_dir = tmp_path
    assert run.artifact_dir is tmp_path
    with pytest.raises(AttributeError, match=r"^table is made by prepare\(\): call"):
        create_adapter(Config(model="logistic")).learn()


def test_failing_report_keeps_the_model(planted, tmp_path, monkeypatch):
    plain = {"baseline_model": False, "importance_windows": None}
    config = Config(**TINY | plain | {"outputs_dir": str(tmp_path)})

    def fail(*_, **__):
        raise ZeroDivisionError("in the report")

    monkeypatch.setattr(report, "write_report", fail)
    run = StandaloneTrainer(config, frame=planted)
    with pytest.raises(ZeroDivisionError):
        run.run_training()
    assert run.run.path.is_dir()
    assert list(run.run.path.glob("model_*.keras"))
    assert not config.model_dir.exists()
    code = utils.run_command_line(run.generate_confusion_matrix_report)
    assert code == 70
    monkeypatch.undo()
    run.generate_confusion_matrix_report()
    assert load_artifact(run.artifact_dir)


def command_line(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(PROJECT / "trainer.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_missing_file_ends_with_66_and_leaves_nothing(tmp_path):
    result = command_line("--pair", "ETHUSDT", cwd=tmp_path)
    assert result.returncode == 66
    assert "to build it: python dataset_builder.py" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.keras"))
    assert not (tmp_path / "outputs" / "runs").exists()


def test_one_class_ends_with_65(tmp_path):
    path = tmp_path / "flat.feather"
    make_own_frame(1000, label=np.ones(1000, int)).to_feather(path)
    tiny = ("--sequence-length", "8", "--future-window", "5", "--pair", "TESTUSDT")
    result = command_line("--training-file", str(path), *tiny, cwd=tmp_path)
    assert result.returncode == 65
    assert "at least two classes" in result.stderr
    assert "Traceback" not in result.stderr


def test_unwritable_outputs_end_with_74(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = command_line("--outputs-dir", str(tmp_path / "file" / "x"), cwd=tmp_path)
    assert result.returncode == 74
    assert "file/x" in result.stderr
    assert "Traceback" not in result.stderr


def test_command_line_runs_a_file_end_to_end(tmp_path):
    config = Config(**TINY | LIGHT)
    path = tmp_path / "inputs" / config.expected_filename
    path.parent.mkdir()
    make_own_frame(1000).to_feather(path)
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    words = ("--config", "run.yaml", "--epochs", "1")
    result = command_line(*words, "--register", "--alias", "champion", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "true / predicted" in result.stdout
    assert "registered: lstm_TESTUSDT-1m-signal_v1.0.0, grade ungraded" in result.stdout
    assert result.stderr == ""
    folder = tmp_path / "outputs/models/TESTUSDT/lstm" / config.latest_name
    assert load_artifact(folder).metadata["config"]["epochs"] == 1
    champion = Registry(tmp_path / "outputs").open("lstm/TESTUSDT-1m-signal@champion")
    assert champion.path == folder.resolve()


DEMO = {
    "pair": "DEMOUSDT",
    "sequence_length": 30,
    "lstm_units": (16,),
    "dense_units": (16,),
    "epochs": 1,
    "batch_size": 64,
    "learning_rate": 0.003,
    "windows_per_epoch": 8_000,
    "validation_windows": 2_000,
    "tensorboard": False,
    **LIGHT,
}


@pytest.mark.parametrize(("strength", "found"), [(1.0, True), (0.0, False)])
def test_planted_direction_is_found_and_noise_is_not(tmp_path, strength, found):
    config = Config(**DEMO | {"outputs_dir": str(tmp_path)})
    candles = demo_candles(num_bars=100_000, strength=strength)
    frame, _ = build_training_frame(candles, config)
    run = StandaloneTrainer(config, frame=frame)
    run.run_training()
    skill = run.results["test"]["direction_skill_vs_train_prior"]
    assert skill > 0.1 if found else skill < 0.03


def test_model_that_is_not_finite_is_never_saved(planted, tmp_path):
    config = Config(**TINY | {"outputs_dir": str(tmp_path), "epochs": 1})
    run = StandaloneTrainer(config, frame=planted)
    for step in ("initialize_components", "load_and_validate_data"):
        getattr(run, step)()
    run.create_generators()
    run.build_model()
    run.setup_callbacks()
    run.train_model()
    weights = run.model.network.get_weights()
    weights[0][0, 0] = np.nan
    run.model.network.set_weights(weights)
    with pytest.raises(utils.UserError, match="expected a finite model"):
        run.save_model_and_metadata()
    assert not list(tmp_path.rglob("model_*.keras"))


def test_refused_data_leaves_no_folder(tmp_path):
    config = Config(**TINY | {"outputs_dir": str(tmp_path / "outputs")})
    frame = make_own_frame(1000, label=np.ones(1000, int))
    with pytest.raises(utils.DataError):
        StandaloneTrainer(config, frame=frame).run_training()
    assert list(tmp_path.iterdir()) == []


def test_exit_codes_of_the_command_line(capsys):
    def refuse():
        raise utils.DataError("expected x. Received: y")

    def interrupt():
        raise KeyboardInterrupt

    def fail():
        raise ZeroDivisionError

    assert utils.run_command_line(lambda: None) == 0
    assert utils.run_command_line(refuse) == 65
    assert utils.run_command_line(interrupt) == 130
    assert utils.run_command_line(fail) == 70
    assert trainer_module.main(["--epochs", "0"]) == 2
    assert "epochs: expected >= 1" in capsys.readouterr().err


def test_loader_and_trainer_take_the_same_frame(planted):
    config = Config(**TINY)
    data = TrainingDataLoader.from_frame(planted, config=config).load_training_data()
    assert data.num_rows == NUM_ROWS - 20


def test_a_light_report_is_numbers_alone(tmp_path):
    own = {"outputs_dir": str(tmp_path), "model": "logistic", "report": "light"}
    trainer = StandaloneTrainer(Config(**TINY | own), frame=make_own_frame(900))
    folder = trainer.run_training()
    kinds = {path.name.split("_")[0] for path in folder.iterdir()}
    assert kinds >= {"predictions", "metadata", "model", "confusion"}
    assert not kinds & {"plots", "report.html", "trades"}
    (metadata,) = folder.glob("metadata_*.json")
    results = json.loads((folder / "confusion_matrix_report.json").read_text())
    assert json.loads(metadata.read_text())["results"]["verdict"] == results["verdict"]
    assert "importance" not in results
    assert not {BOOSTED, LOGISTIC} & set(results["test"]["baselines"])
    assert load_artifact(folder).metadata["config"]["report"] == "light"


def test_a_finished_run_that_was_changed_is_refused(tmp_path):
    own = {"outputs_dir": str(tmp_path), "model": "logistic"}
    config, frame = Config(**TINY | LIGHT | own), make_own_frame(900)
    folder = StandaloneTrainer(config, frame=frame).run_training()

    def resume(how, **fields):
        again = StandaloneTrainer(config.replace(**fields), frame=frame, resume=how)
        return again.run_training()

    assert resume(folder) == resume("newest") == folder
    message = (
        "this run, which is finished. Received another: "
        f"epochs: began with {config.epochs}, now 9; seed: began with 42, now 5. "
        "Start anew"
    )
    with pytest.raises(utils.ConfigError, match=message):
        resume(folder, seed=5, epochs=9)
    [model] = folder.glob("model_*.npz")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    for how in (folder, "newest"):
        with pytest.raises(utils.RefusedArtifactError, match="changed after"):
            resume(how)


def test_a_finished_run_is_not_taken_for_one_of_another_file(tmp_path):
    path = tmp_path / "rows.feather"
    frame = make_own_frame(900)
    frame.to_feather(path)
    fields = {"outputs_dir": str(tmp_path / "outputs"), "training_file": str(path)}
    config = Config(**TINY | LIGHT | fields | {"model": "logistic"})
    folder = StandaloneTrainer(config).run_training()
    again = StandaloneTrainer(config, resume="newest")
    assert again.run_training() == folder
    frame.assign(high_change=0.5 * frame["high_change"]).to_feather(path)
    with pytest.raises(
        utils.DataError, match="expected the training file that the finished"
    ):
        StandaloneTrainer(config, resume="newest").run_training()
    assert StandaloneTrainer(config).run_training() != folder
