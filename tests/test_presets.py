"""Presets are fields of `Config`; their groups train from one file of candles."""

import json

import pytest

import analysts
import trainer
from candles import synthetic_candles
from config import Config
from presets import GROUPS, PRESETS, preset_values
from utils import ConfigError


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
    assert trainer.main(words) == 0
    shown = capsys.readouterr().out
    assert "num_trees: 7" in shown and "model: random_forest" in shown


def test_analysts_train_from_one_file_of_minutes(tmp_path, capsys):
    minutes = synthetic_candles(40_000, seed=1)
    path = tmp_path / "TESTUSDT-1m.parquet"
    minutes.to_parquet(path)
    words = [str(path), "--pair", "TESTUSDT", "--groups", "analysts"]
    words += ["--timeframes", "15m", "5m", "--num-trees", "5", "--n-splits", "2"]
    words += ["--inputs-dir", str(tmp_path / "in"), "--no-baseline-model"]
    words += ["--outputs-dir", str(tmp_path / "out"), "--importance-windows", "none"]
    assert analysts.main(words) == 0, capsys.readouterr().err
    (folder,) = (tmp_path / "out" / "analysts" / "TESTUSDT").iterdir()
    written = json.loads((folder / "analysts.json").read_text())
    text = json.dumps(written)
    assert '"15m"' in text and '"5m"' in text and "random_forest" in text
    assert "15m" in capsys.readouterr().out
