"""Small files that would take much, and names that would steer what shows them."""

import logging
import os
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from keras import layers
from world.frames import PROJECT

import utils
from artifacts import keras_files
from candles import formats
from config import Config
from files import strict, tables
from settings.sources import load_config
from utils import ConfigError, DataError, RefusedArtifactError

# Networks


def repeat(x):
    return layers.RepeatVector(10_000_000)(layers.Flatten()(x))


def repeat_in_steps(x):
    for _ in range(2):
        x = layers.UpSampling1D(1_000)(x)
    return x


def pad(x):
    return layers.Cropping1D(299_999)(layers.ZeroPadding1D(300_000)(x))


def pad_inside(x):
    return layers.Conv1D(1, 2, padding="causal", dilation_rate=5_000_000)(x)


def pair_all(x):
    x = layers.UpSampling1D(3_000)(x)
    return layers.Attention()([x, x])


def multiply_all(x):
    x = layers.UpSampling1D(3_000)(x)
    return layers.Dot(axes=2)([x, x])


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (repeat, "expected numbers up to 262144. Received: n = 10000000"),
        (repeat_in_steps, "expected layers that make at most 262144 steps"),
        (pad, "expected numbers up to 262144. Received: (padding|cropping)"),
        (pad_inside, "expected numbers up to 262144. Received: dilation_rate"),
        (pair_all, "and 268435456 numbers of a window"),
        (multiply_all, "and 268435456 numbers of a window"),
    ],
)
def test_a_network_that_makes_much_of_a_window_is_refused(tmp_path, middle, message):
    given = keras.Input((10, 2))
    made = middle(given)
    found = layers.Dense(3)(layers.GlobalAveragePooling1D()(made))
    keras.Model(given, found).save(tmp_path / "m.keras")
    data = (tmp_path / "m.keras").read_bytes()
    assert len(data) < 400_000
    with pytest.raises(RefusedArtifactError, match=message):
        keras_files.load_keras_model(data, "m.keras")


def test_a_network_of_no_fixed_length_is_refused(tmp_path):
    given = keras.Input((None, 2))
    keras.Model(given, layers.LSTM(2)(given)).save(tmp_path / "m.keras")
    with pytest.raises(RefusedArtifactError, match="Received: 'input"):
        keras_files.load_keras_model((tmp_path / "m.keras").read_bytes(), "m.keras")


# HDF5

ROW = [("index", "i8"), ("date", "i8"), ("values_block_0", "f8", (5,))]


@pytest.mark.parametrize(
    ("row", "shape", "options", "message"),
    [
        (
            [*ROW, ("x", "f8", (1_000_000,))],
            (575,),
            {},
            "4600032200 bytes in a file of",
        ),
        (ROW, (100_000_000,), {"chunks": (1000,)}, "5600000000 bytes in a file of"),
        (
            ROW,
            (10,),
            {"chunks": (10_000_000,), "maxshape": (None,)},
            "560000000 bytes in a file of",
        ),
        ([*ROW, ("x", h5py.string_dtype())], (10,), {}, "columns that are no numbers"),
        (ROW, (), {}, r"a table of shape \(\)"),
    ],
)
def test_hdf5_that_stands_for_much_is_not_read(tmp_path, row, shape, options, message):
    path = tmp_path / "BTC_USDT-1h.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("BTC_USDT/table", shape, np.dtype(row), **options)
        made.attrs["values_block_0_kind"] = b"open high low close volume"
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=message):
        formats.read_file(path)


# Names

NAMES = ["a\x1b[31m", "a\nb", "a\rb", "a\x00b", "a\u202eb", "a\x9bb", "a\u2028b"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_steer_a_terminal_are_refused(tmp_path, name):
    times = pd.date_range("2024-01-01", periods=3, freq="min", tz="UTC")
    frame = pd.DataFrame({"timestamp": times, "close": 1.0, name: 2.0})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pa.feather.write_feather(table, str(tmp_path / "a.feather"))
    pq.write_table(table, tmp_path / "a.parquet")
    table = table.rename_columns(["timestamp", "close", name])
    pa.csv.write_csv(table, tmp_path / "a.csv")
    readers = [
        lambda: tables.from_pandas(frame),
        lambda: formats.read_frame(frame),
    ]
    for suffix in ("feather", "parquet", "csv"):
        path = tmp_path / f"a.{suffix}"
        readers.append(lambda path=path: tables.open_table(path))
        readers.append(lambda path=path: formats.read_file(path))
    for read in readers:
        with pytest.raises(DataError) as caught:
            read()
        assert utils.is_plain_text(str(caught.value))
        # Text with a NUL is none, and lines that break have other cells.
        is_no_table = read in readers[-2:] and name in ("a\nb", "a\rb", "a\x00b")
        assert is_no_table or ascii(name)[1:-1] in str(caught.value)


def test_what_steers_a_terminal_is_shown_as_an_escape():
    text = "row\n\tprice \u00fc \x1b[2J\r\u202e\udcff"
    record = logging.LogRecord("x", logging.INFO, "", 1, "%s", (text,), None)
    shown = utils.PlainFormatter("%(message)s").format(record)
    assert shown == "row\n\tprice \u00fc \\x1b[2J\\r\\u202e\\udcff"


def test_a_time_zone_of_other_bytes_is_refused(tmp_path):
    times = pd.date_range("2024-01-01", periods=3, freq="min", tz="Etc/UTC")
    path = tmp_path / "BTCUSDT-1m.feather"
    pd.DataFrame({"timestamp": times, "close": 1.0}).to_feather(
        path, compression="uncompressed"
    )
    for zone in (b"Etc/\xff\xfeC", b"Etc\x1b[0m"):
        path.write_bytes(path.read_bytes().replace(b"Etc/UTC", zone))
        for read in (tables.open_table, formats.read_file):
            with pytest.raises(DataError) as caught:
                read(path)
            assert utils.is_plain_text(str(caught.value))
        path.write_bytes(path.read_bytes().replace(zone, b"Etc/UTC"))


def test_half_a_character_is_no_json():
    assert strict.parse_json(b'["\\ud83d\\ude00"]', "x") == ["\U0001f600"]
    with pytest.raises(DataError, match="expected strict JSON"):
        strict.parse_json(b'["\\ud800"]', "x")


# Configurations


def test_thousands_of_unknown_keys_are_answered_with_the_first_ten(tmp_path):
    path = tmp_path / "many.yaml"
    path.write_text("\n".join(f"k{i}: 1" for i in range(12_000)))
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert time.process_time() - started < 5
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  - unknown field 'k0'.") and len(lines) == 12
    assert lines[-1] == "  - and 11,990 more unknown fields"


@pytest.mark.parametrize("value", ["a\0b", "a\x1b[0m", "a\nb", "\udcff"])
def test_text_that_steers_a_terminal_is_no_value(value):
    with pytest.raises(ConfigError, match="training_file: expected printable text"):
        Config(training_file=value)


@pytest.mark.parametrize(
    "text", ["seed: !!int 0x", "seed: !!float 1:" + "9:" * 300 + "9", "a: !!float ''"]
)
def test_yaml_that_its_reader_fails_on_is_refused(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match="expected valid YAML"):
        load_config(str(tmp_path / "a.yaml"))


def test_a_terminal_without_the_letters_shows_escapes(tmp_path):
    result = subprocess.run(
        [sys.executable, "trainer.py", "--config-test", "--outputs-dir", "/tmp/\u00e9"],
        cwd=PROJECT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0 and result.stderr == ""
    assert "output:  /tmp/\\xe9/models" in result.stdout
