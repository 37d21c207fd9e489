"""Presets are fields of `Config`; their groups train from one file of candles."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from world import commands
from world.frames import TINY, make_own_frame

import trainer
from candles.synthetic import synthetic_candles
from config import Config
from experiments import analyst_table, analysts
from experiments.__main__ import main
from experiments.series import Outcome
from settings.presets import GROUPS, PRESETS, preset_values
from utils import ConfigError, MissingInputError


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_is_a_run(name):
    config = Config(**PRESETS[name])
    assert config.model == PRESETS[name]["model"]


def test_groups_name_presets():
    assert {preset for preset, _ in GROUPS.values()} <= set(PRESETS)
    assert GROUPS["analysts"][1] == ("1h", "15m", "5m", "1m")


def test_an_unknown_preset_has_a_suggestion():
    assert preset_values(None) == {}
    with pytest.raises(ConfigError, match="Did you mean 'analyst'"):
        preset_values("analist")


def test_flags_overlay_a_preset(capsys):
    words = ["--preset", "analyst", "--num-trees", "7", "--config-test"]
    assert commands.train(words) == 0
    shown = capsys.readouterr().out
    assert "num_trees: 7" in shown and "model: random_forest" in shown


def test_analysts_train_from_one_file_of_minutes(tmp_path, capsys):
    minutes = synthetic_candles(40_000, seed=1)
    path = tmp_path / "TESTUSDT-1m.parquet"
    minutes.to_parquet(path)
    words = [str(path), "--pair", "TESTUSDT", "--groups", "analysts"]
    words += ["--timeframes", "15m", "5m", "--num-trees", "5", "--n-splits", "2"]
    words += ["--inputs-dir", str(tmp_path / "in"), "--report", "light"]
    words += ["--outputs-dir", str(tmp_path / "out")]
    assert main(["analysts", *words]) == 0, capsys.readouterr().err
    (folder,) = (tmp_path / "out" / "analysts" / "TESTUSDT").iterdir()
    written = json.loads((folder / "analysts.json").read_text())
    text = json.dumps(written)
    assert '"15m"' in text and '"5m"' in text and "random_forest" in text
    assert "15m" in capsys.readouterr().out


def test_candles_that_are_not_there_are_missing_and_no_pair_is_asked_for(capsys):
    assert main(["analysts", "nofile.csv"]) == 66
    assert "nofile.csv: expected a candle file" in capsys.readouterr().err


def test_a_yaml_file_and_flags_overlay_a_preset_in_this_order(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text("num_trees: 7\nmax_depth: 4\n")
    words = ["--preset", "analyst", "--config", str(path), "--max-depth", "5"]
    assert commands.train([*words, "--config-test"]) == 0
    shown = capsys.readouterr().out
    assert "num_trees: 7" in shown and "max_depth: 5" in shown
    assert "scaler_type: standard" in shown


def test_a_group_has_a_run_for_each_timeframe_that_is_wanted():
    configs = analysts.group_configs(
        ["analysts", "tacticians"], timeframes=["1m", "15m"], max_depth=2, num_trees=7
    )
    assert list(configs) == ["analysts 15m", "analysts 1m", "tacticians 1m"]
    assert [run.timeframe for run in configs.values()] == ["15m", "1m", "1m"]
    assert {(run.max_depth, run.num_trees) for run in configs.values()} == {(2, 7)}
    assert configs["tacticians 1m"].model == PRESETS["tactician"]["model"]


@pytest.mark.parametrize(
    ("groups", "timeframes", "message"),
    [
        (["analysts", "analysts"], None, "--groups: expected some of .* each once"),
        (["analists"], None, "Received: analists"),
        (["analysts"], ["5m", "5m"], "--timeframes: expected .* Received: 5m 5m"),
        (["analysts"], ["7m"], "--timeframes: expected some of 1h, 15m, 5m, 1m"),
        (["tacticians"], ["1h"], "expected one that tacticians have"),
    ],
)
def test_groups_that_do_not_exist_are_refused(groups, timeframes, message):
    with pytest.raises(ConfigError, match=message):
        analysts.group_configs(groups, timeframes=timeframes)


def test_scores_of_a_group_are_those_of_long(tmp_path):
    sides = np.random.default_rng(0).choice([0, 2], 2500, p=[0.4, 0.6])
    fields = {"class_balancing_method": "none", "report": "light"}
    fields |= {"num_trees": 5, "outputs_dir": str(tmp_path)}
    config = Config(**TINY | fields, model="random_forest")
    frame = make_own_frame(2500, label=sides)
    folder = trainer.StandaloneTrainer(config, frame=frame).run_training()
    entry = analyst_table.summarise(
        "analysts 1m", Outcome(config=config, folder=folder, error=None, seconds=1.0)
    )
    table = pd.read_parquet(next(folder.glob("predictions_*.parquet")))
    test = table[table["part"] == "test"]
    columns = [f"probability_{name}" for name in ("short", "hold", "long")]
    truth, said = test["label"], test[columns].to_numpy().argmax(axis=1)
    assert set(truth) == set(said) == {0, 2}
    assert entry["num_samples"] == len(test)
    assert entry["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert entry["prior_accuracy"] == pytest.approx((truth == 2).mean())
    for name, score in (
        ("precision", precision_score),
        ("recall", recall_score),
        ("f1", f1_score),
    ):
        expected = score(truth, said, labels=[2], average="macro")
        assert entry[name] == pytest.approx(expected), name
    assert sum(entry["feature_importance"].values()) == pytest.approx(1.0)


def test_a_timeframe_that_fails_is_told_and_resume_repeats_it_alone(tmp_path, capsys):
    path = tmp_path / "TESTUSDT-1m.parquet"
    synthetic_candles(4000, seed=1).to_parquet(path)  # 66 hours are not enough
    words = [str(path), "--groups", "analysts", "--timeframes", "1h", "5m"]
    words += ["--num-trees", "3", "--n-splits", "none", "--report", "light"]
    words += ["--inputs-dir", str(tmp_path / "in")]
    words += ["--outputs-dir", str(tmp_path / "out")]
    assert main(["analysts", *words]) != 0
    assert "1 of 2 runs failed: analysts 1h" in capsys.readouterr().err
    (written,) = (tmp_path / "out").glob("analysts/TESTUSDT/*/analysts.json")
    entries = json.loads(written.read_text())["models"]
    assert [entry["status"] for entry in entries] == ["failed", "completed"]
    assert main(["analysts", *words, "--resume"]) != 0
    runs = (tmp_path / "out").glob("models/TESTUSDT/random_forest/*/MANIFEST.json")
    assert len({run.parent.resolve() for run in runs}) == 1


def test_nested_settings_train_load_and_tell(tmp_path):
    small = {"num_trees": 3, "n_splits": 2}
    settings = {
        "ray": {"num_cpus": 1, "num_gpus": 0, "logging_level": "info"},
        "model_trainer": {
            "enable_analyst_models": True,
            "enable_tactician_models": False,
            "model_directory": str(tmp_path / "models"),
            "analyst_models": {"timeframes": ["1h", "5m"], **small},
        },
    }
    fields = {"inputs_dir": str(tmp_path / "in"), "report": "light"}
    group = analysts.from_settings(settings, **fields)
    told = {
        "is_training": False,
        "trained_models_count": 0,
        "analyst_models_enabled": True,
        "tactician_models_enabled": False,
        "ray_cluster_info": {"num_cpus": 1, "num_gpus": 0, "is_initialized": False},
    }
    assert group.status() == told
    asked = {"symbol": "TESTUSDT", "exchange": "demo", "timeframe": "1m"}
    asked["lookback_days"] = 2
    with group:
        assert group.status()["ray_cluster_info"]["is_initialized"]
        found = group.train(asked, synthetic_candles(5760, seed=1))
    assert found["training_input"] == asked and found["tactician_models"] == {}
    long, short = (found["analyst_models"][frame] for frame in ("1h", "5m"))
    assert long["training_status"] == "failed" and long["exit_code"] == 65
    assert short["training_status"] == "completed"
    names = ["accuracy", "precision", "recall", "f1", "cv_mean", "cv_std"]
    assert list(short["model_metrics"]) == names
    assert 0.2 < short["model_metrics"]["cv_mean"] < 0.8
    assert sum(short["feature_importance"].values()) == pytest.approx(1.0)
    assert group.status() == told | {"trained_models_count": 1}
    model = group.load("analyst", "5m")
    assert short["model_path"].startswith(str(model.path))
    assert str(model.config.start_date) == "2024-01-02"
    with pytest.raises(MissingInputError):
        group.load("analysts", "1h")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"model_trainer": {"analyst_model": {}}}, "Did you mean 'analyst_models'"),
        ({"ray": {"num_cpu": 4}}, "Did you mean 'num_cpus'"),
        ({"ray": {"num_cpus": 0}}, "a worker or more"),
        ({"model_trainer": {"analyst_models": {"timeframes": ["7m"]}}}, "timeframes"),
        (
            {
                "model_trainer": {
                    "enable_analyst_models": False,
                    "enable_tactician_models": False,
                }
            },
            "neither",
        ),
    ],
)
def test_settings_that_train_nothing_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        analysts.from_settings(settings)


def test_an_input_without_days_is_refused():
    asked = {"symbol": "TESTUSDT", "exchange": "demo", "timeframe": "1m"}
    with pytest.raises(ConfigError, match="lookback_days"):
        analysts.from_settings({}).train(asked | {"lookback_days": 0})
