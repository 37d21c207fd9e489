import hashlib
import json
import subprocess
import sys

import pytest
from world.frames import PROJECT

from config import Config, ConfigError, build_config


def run(*arguments, cwd=PROJECT):
    return subprocess.run(
        [sys.executable, str(PROJECT / "trainer.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_documented_defaults():
    config = Config()
    assert (config.sequence_length, config.future_window) == (120, 120)
    assert config.lstm_units == (128, 64, 32)
    assert config.dense_units == (32, 16)
    assert (config.dropout_rate, config.recurrent_dropout) == (0.3, 0.0)
    assert (config.learning_rate, config.epochs, config.batch_size) == (1e-3, 100, 256)
    assert (config.validation_split, config.test_split) == (0.2, 0.1)
    assert (config.early_stopping_patience, config.reduce_lr_patience) == (10, 5)
    assert (config.reduce_lr_factor, config.min_learning_rate) == (0.5, 1e-7)
    assert (config.long_tp_pct, config.long_sl_pct) == (1.0, 0.5)
    assert (config.short_tp_pct, config.short_sl_pct) == (1.0, 0.5)
    assert (config.scaler_type, config.monitor) == ("robust", "val_loss")
    assert config.class_balancing_method == "systematic_undersampling"
    assert (config.tie_policy, config.max_fill_bars) == ("pessimistic", 60)


def test_standard_names():
    config = Config(pair="ETHUSDT")
    assert config.expected_filename == (
        "ETHUSDT_TF-1m__FW-120__SL-050__TP-100__training_ready.feather"
    )
    assert config.tag == "ETHUSDT_FW120_SL050_TP100"
    assert (
        Config(long_sl_pct=0.29, short_sl_pct=0.29).tag == "BTCUSDT_FW120_SL029_TP100"
    )
    odd = Config(short_tp_pct=2.0, tie_policy="optimistic", max_fill_bars=0)
    assert odd.expected_filename == (
        "BTCUSDT_TF-1m__FW-120__SL-050__TP-100__SSL-050__STP-200__FILL-000"
        "__TIE-optimistic__training_ready.feather"
    )


def test_all_problems_are_refused_in_one_list():
    with pytest.raises(ConfigError) as caught:
        build_config({"epoch": 3, "batch_size": "x", "dropout_rate": 2, "pair": "B/T"})
    text = str(caught.value)
    assert "unknown field 'epoch'. Did you mean 'epochs'?" in text
    assert "batch_size: expected a whole number. Received: 'x'" in text
    assert "dropout_rate: expected < 1. Received: 2.0" in text


def test_a_broken_value_hides_no_other_problem():
    with pytest.raises(ConfigError) as caught:
        build_config({"long_tp_pct": "abc", "timeframe": "1x", "end_date": "soon"})
    for name in ("long_tp_pct", "timeframe", "end_date"):
        assert f"  - {name}: expected" in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"epochs": True},
        {"epochs": 1.5},
        {"learning_rate": float("nan")},
        {"validation_split": 0.6, "test_split": 0.4},
        {"lstm_units": []},
        {"lstm_units": [10**10]},
        {"pair": "../etc"},
        {"pair": "BTC"},
        {"timeframe": "1x"},
        {"timeframe": "30s"},
        {"timeframe": "61m"},
        {"timeframe": "36h"},
        {"timeframe": "1h", "higher_timeframes": ["7h"]},
        {"start_date": "2024-13-01"},
        {"end_date": "9999-12-31"},
        {"start_date": "2024-02-01", "end_date": "2024-01-01"},
        {"long_tp_pct": 0},
        {"short_sl_pct": 101},
        {"class_balancing_method": "focal"},
        {"manual_class_weights": [1, 2, 3]},
        {"manual_class_weights": [1, 2], "class_balancing_method": "class_weights"},
        {"min_learning_rate": 1.0},
        {"inputs_dir": ""},
    ],
)
def test_impossible_values_are_refused(values):
    with pytest.raises(ConfigError, match="cannot be run"):
        build_config(values)


def test_digest_follows_the_values():
    assert Config().digest() == Config().digest()
    assert Config().digest() != Config(seed=1).digest()
    assert Config(tags=["a"], experiment_name="b").digest() == Config().digest()


def test_a_configuration_keeps_its_name_and_its_order():
    config = Config(
        pair="ETHUSDT",
        timeframe="60m",
        model="cnn_lstm",
        loss="combined",
        loss_parts=("focal", "cross_entropy"),
        n_splits=3,
        max_fill_bars=5,
        start_date="2024-01-01",
    )
    # Runs are resumed and compared by it: a new field changes it, its place does not.
    assert config.digest() == (
        "7a1098bc944f92c20d59790a870edbcebfdd4dc64274d02fea88bdb2a9bf9271"
    )
    assert hashlib.sha256(config.to_yaml().encode()).hexdigest() == (
        "24b99fba6b99b12195ff2d3e7a2f26b2ca794e5b9d479cd1f54eb4a6ab77de35"
    )


def test_a_name_that_no_field_has_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="'epoch'. Did you mean 'epochs'") as caught:
        Config(epoch=1, batch_size=0)
    assert "batch_size: expected >= 1" in str(caught.value)


def test_config_test_prints_and_imports_little(tmp_path):
    result = run("--config-test", "--inputs-dir", str(tmp_path), "--epochs", "7")
    assert result.returncode == 0, result.stderr
    assert "epochs: 7" in result.stdout
    assert "BTCUSDT_TF-1m__FW-120__SL-050__TP-100__training_ready" in result.stdout
    assert "not there" in result.stdout
    code = (
        "import sys, json, trainer\n"
        "status = trainer.main(['--config-test'])\n"
        "print(json.dumps([status, sorted(sys.modules)]))"
    )
    probe = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT
    )
    status, loaded = json.loads(probe.stdout.splitlines()[-1])
    assert status == 0
    modules = {name.split(".")[0] for name in loaded}
    project = {path.stem for path in PROJECT.glob("*.py")}
    project |= {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    light = {"trainer", "config", "settings", "utils", "files", "dataset"}
    assert project & modules == light
    assert {name for name in loaded if name.startswith("dataset.")} == {
        "dataset.barriers"
    }
    heavy = {"tensorflow", "keras", "pandas", "pyarrow", "sklearn", "matplotlib"}
    assert not heavy & modules


def test_config_test_says_what_cannot_work(tmp_path):
    result = run("--config-test", "--inputs-dir", str(tmp_path), "--fee-bps", "30")
    assert [line for line in result.stdout.splitlines() if "doubtful" in line] == [
        "doubtful: stop loss of both sides, 0.5 %: not above the costs of a round "
        "trip, 0.7 %",
    ]


def test_usage_errors_exit_with_2(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("epoch: 3\n")
    result = run("--config", str(file))
    assert result.returncode == 2
    assert "Did you mean 'epochs'?" in result.stderr
    assert "Traceback" not in result.stderr
    assert run("--config", str(tmp_path / "none.yaml")).returncode == 66
    assert run("--bath-size", "3").returncode == 2
