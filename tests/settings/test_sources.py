import argparse

import pytest

from config import DATASET_FIELDS, Config, ConfigError
from settings import options, sources
from settings.names import filename_mismatches
from settings.sources import load_config
from utils import MissingInputError


def parse(*arguments):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--config")
    options.add_config_arguments(parser)
    return options.parse_arguments(parser, arguments)[1]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("60m", "1h"), ("24h", "1d"), ("7d", "1w"), ("90m", "90m"), ("01m", "1m")],
)
def test_a_timeframe_has_one_spelling(given, kept):
    config = parse("--timeframe", given)
    assert config == Config(timeframe=kept)
    assert f"_TF-{kept}__" in config.expected_filename
    old = config.expected_filename.replace(f"TF-{kept}", f"TF-{given}")
    assert filename_mismatches(old, config) == []
    assert filename_mismatches(old, Config(timeframe="3m"))
    config = Config(higher_timeframes=("240m",))
    assert config.higher_timeframes == ("4h",)


def test_precedence_is_default_then_yaml_then_command_line(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("epochs: 7\nbatch_size: 32\nlstm_units: [8, 4]\n")
    config = parse("--config", str(file), "--batch-size", "64")
    assert (config.epochs, config.batch_size, config.lstm_units) == (7, 64, (8, 4))


def test_command_line_values():
    config = parse(
        *("--lstm-units", "16", "8", "--windows-per-epoch", "none"),
        *("--no-tensorboard", "--long-tp-pct", "2", "--dense-units"),
    )
    assert config.lstm_units == (16, 8)
    assert config.windows_per_epoch is None
    assert config.tensorboard is False
    assert config.long_tp_pct == 2.0
    assert config.dense_units == ()


def test_misspelt_flag_and_value_together():
    with pytest.raises(ConfigError) as caught:
        parse("--epoch", "3", "--scaler-type", "robst")
    assert "unknown argument '--epoch'. Did you mean '--epochs'?" in str(caught.value)
    assert "Did you mean 'robust'?" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "- 1\n",
        "a: &x [1]\nb: *x\n",
        "epochs: 1\nepochs: 2\n",
        "a: [",
        "epochs: !!python/x 1",
    ],
)
def test_yaml_that_is_not_a_flat_mapping_is_refused(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_config(str(file))


def test_yaml_round_trip(tmp_path):
    config = Config(pair="ETHUSDT", lstm_units=(8,), start_date="2024-01-01")
    file = tmp_path / "run.yaml"
    file.write_text(config.to_yaml())
    assert load_config(str(file)) == config
    file.write_text("start_date: 2024-01-01\n")  # YAML reads this as a date
    assert load_config(str(file)).start_date == "2024-01-01"


def test_command_flags_repeat_a_configuration():
    config = Config(feature_sets=("core8", "ray12"), raw_prices=True, future_window=60)
    assert sources.command_flags(config, DATASET_FIELDS) == [
        *("--feature-sets", "core8", "ray12", "--raw-prices", "--future-window", "60"),
    ]


def test_a_folder_is_no_yaml_file(tmp_path):
    with pytest.raises(MissingInputError, match="which is a folder"):
        load_config(str(tmp_path))
