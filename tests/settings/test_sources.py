import argparse
import re

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


@pytest.mark.parametrize("words", [("8,4",), ("8", ",4"), ("8", "4"), ("8, 4",)])
def test_lists_have_spaces_or_commas(words, tmp_path):
    assert parse("--lstm-units", *words).lstm_units == (8, 4)
    file = tmp_path / "run.yaml"
    file.write_text(f"lstm_units: {' '.join(words)}\n")
    assert load_config(str(file)).lstm_units == (8, 4)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("learning_rate: 1e-3", "learning_rate", 0.001),
        ("learning_rate: 5E-4", "learning_rate", 0.0005),
        ("epochs: 1e2", "epochs", 100),
        ("epochs: 1_000", "epochs", 1000),
        ("epochs: 010", "epochs", 10),
        ("lstm_units: 64", "lstm_units", (64,)),
        ("windows_per_epoch: null", "windows_per_epoch", None),
        ("windows_per_epoch: none", "windows_per_epoch", None),
        ("class_balancing_method: null", "class_balancing_method", "none"),
        ("higher_timeframes: none", "higher_timeframes", ()),
        ("symbols: [ETHUSDT]", "pair", "ETHUSDT"),
        ("interval: 15m", "timeframe", "15m"),
        ("target_horizon: 7", "future_window", 7),
    ],
)
def test_yaml_as_people_write_it(tmp_path, text, name, value):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    assert getattr(load_config(str(file)), name) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 0x" + "f" * 9999, "epochs: expected a whole number. Received: '0xff"),
        ("epochs: " + "1:" * 2000 + "60.5", "epochs: expected a whole number"),
        ("learning_rate: 1" + "0" * 400, "learning_rate: expected a finite number"),
        ("symbols: [A]\npair: B", "symbols: another word for pair. Received: both"),
        ("symbols: [BTCUSDT, ETHUSDT]", "pair: one run takes one pair. Received: BTC"),
    ],
)
def test_yaml_that_says_no_value_is_refused_in_short(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_config(str(file))
    assert len(str(caught.value)) < 400


def test_words_of_other_systems():
    config = parse(
        *("--symbols", "ETHUSDT", "--models", "gru", "--interval", "15m"),
        *("--target-type", "return", "--target-horizon", "1", "--embargo", "100"),
        *("--output-dir", "models"),
    )
    assert config == Config(
        pair="ETHUSDT",
        model="gru",
        timeframe="15m",
        target="return",
        future_window=1,
        embargo_bars=100,
        outputs_dir="models",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--symbols BTCUSDT ETHUSDT", "one run takes one pair. Received: BTCUSDT ETH"),
        ("--pair BTCUSDT,ETHUSDT", "one run takes one pair. Received: BTCUSDT ETH"),
        (
            "--models lstm gru",
            "one run takes one model. Received: lstm gru. `--compare",
        ),
        ("--models lstm gru", "`python -m experiments sweep --models A B` trains each"),
        ("--symbols A B", "`python -m experiments sweep --pairs A B` builds their"),
        ("--importance-windows 0", "expected >= 10, or none. Received: 0"),
        ("--batch-size 0", "batch_size: expected >= 1. Received: 0"),
        ("--long-tp-pct 1%", "Received: '1%'. Write digits alone, such as 64 or 1e-3"),
    ],
)
def test_a_run_takes_one_and_says_what_takes_more(words, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(*words.split())


def test_a_list_does_not_swallow_files(tmp_path):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("candles", nargs="*")
    options.add_config_arguments(parser)
    folder = tmp_path / "months"
    folder.mkdir()
    words = ["first.csv", "--feature-sets", "ray12", "a.zip", str(folder), "--pair"]
    parsed, config = options.parse_arguments(parser, [*words, "ETHUSDT"])
    assert parsed.candles == ["first.csv", "a.zip", str(folder)]
    assert (config.feature_sets, config.pair) == (("ray12",), "ETHUSDT")
    words = ["--manual-class-weights", "1.0", "2", "1.e0", "x.csv"]
    words += ["--class-balancing-method", "class_weights"]
    parsed, config = options.parse_arguments(parser, words)
    assert parsed.candles == ["x.csv"]
    assert config.manual_class_weights == (1.0, 2.0, 1.0)


def test_a_file_without_a_flag_is_told_its_flag():
    with pytest.raises(ConfigError, match="stands behind --training-file"):
        options.parse(["--lstm-units", "8", "mine.feather"])


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


def test_of_several_files_a_later_one_wins(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("epochs: 3\nbatch_size: 64\nseed: 1\n")
    second.write_text("epochs: 5\nseed: 2\n")
    found = load_config([str(first), str(second)], {"seed": 3})
    assert (found.epochs, found.batch_size, found.seed) == (5, 64, 3)
    words = ["--config", str(first), str(second), "--seed", "4"]
    _, found = options.parse(words)
    assert (found.epochs, found.batch_size, found.seed) == (5, 64, 4)
    _, found = options.parse(["--config", str(second), "--config", str(first)])
    assert (found.epochs, found.seed) == (3, 1)
