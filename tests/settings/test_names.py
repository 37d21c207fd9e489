import pytest

from config import Config
from settings.names import filename_mismatches, find_training_file


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT_TF-1m__FW-120__SL-050__TP-100__training_ready.feather",
        "BTCUSDT_TF-1m__FW-120__SL-50__TP-100__single_label.feather",
        "BTCUSDT_TF-1m__FW-120__SL-050__TP-100__training_ready.parquet",
        "anything.feather",
    ],
)
def test_names_that_fit(name):
    assert filename_mismatches(name, Config()) == []


def test_names_that_do_not_fit_are_told_one_by_one():
    name = "ETHUSDT_TF-5m__FW-060__SL-050__TP-100__training_ready.feather"
    assert filename_mismatches(name, Config()) == [
        "pair: the configuration says BTCUSDT, the file name says ETHUSDT",
        "timeframe: the configuration says 1m, the file name says 5m",
        "FW: the configuration says 120, the file name says 060",
    ]


def test_percent_cut_by_v3_is_accepted():
    config = Config(long_sl_pct=0.57, short_sl_pct=0.57)
    assert config.expected_filename.split("__")[2] == "SL-057"
    name = "BTCUSDT_TF-1m__FW-120__SL-056__TP-100__training_ready.feather"
    assert filename_mismatches(name, config) == []
    assert filename_mismatches(name.replace("056", "055"), config)


def test_find_training_file_prefers_the_standard_name(tmp_path):
    config = Config(inputs_dir=str(tmp_path))
    assert find_training_file(config) is None
    other = tmp_path / "BTCUSDT_TF-1m__FW-120__SL-50__TP-100__single_label.feather"
    other.write_bytes(b"x")
    assert find_training_file(config) == other
    config.expected_path.write_bytes(b"x")
    assert find_training_file(config) == config.expected_path


def test_a_name_carries_the_days_that_are_cut_off(tmp_path):
    whole = Config(inputs_dir=str(tmp_path))
    days = {"start_date": "2024-01-04", "end_date": "2024-03-31"}
    cut = whole.replace(**days)
    end = "__FROM-20240104__TO-20240331__training_ready.feather"
    assert cut.expected_filename.endswith(end)
    assert filename_mismatches(cut.expected_filename, whole) == []
    whole.expected_path.write_bytes(b"x")
    assert find_training_file(cut) == whole.expected_path  # its loader cuts the rows
    cut.expected_path.write_bytes(b"x")
    assert find_training_file(cut) == cut.expected_path
    whole.expected_path.unlink()
    assert find_training_file(whole) is None
    assert find_training_file(cut.replace(end_date="2024-04-30")) is None
