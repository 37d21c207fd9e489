import errno
import json
import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from world import commands
from world.frames import CORE8, PROJECT, make_frame

from artifacts.metadata import format_data
from candles import checks
from candles.synthetic import synthetic_candles
from config import Config, ConfigError, build_config
from data_loader import TrainingDataLoader
from dataset import builder as dataset_builder
from dataset import cache as dataset_cache
from dataset import dataset as datasets
from dataset import features, fingerprints
from dataset.builder import DatasetBuilder, build_training_frame
from dataset.cache import DatasetCache
from dataset.dataset import Dataset
from files.atomic import sha256_file
from files.strict import sha256_json
from reports import dataset as dataset_report
from reports import dataset_plots
from settings.names import filename_mismatches
from utils import DataError, MissingInputError

# 5-minute bars: a warm-up of 8,639 rows instead of 43,199.
FIVE = {
    **{"pair": "TESTUSDT", "timeframe": "5m", "future_window": 12},
    **{"long_tp_pct": 0.2, "long_sl_pct": 0.1},
    **{"short_tp_pct": 0.2, "short_sl_pct": 0.1},
}
WARM_UP = 8639


@pytest.fixture(scope="module")
def market():
    return synthetic_candles(11_000, seed=3, timeframe="5m")


@pytest.fixture(scope="module")
def quick():
    """A feature set of the user's with a short warm-up, in five lines."""

    @features.feature_set("quick", warm_up_bars=3)
    def quick(candles, context):
        mean = candles["close"].rolling(4).mean()
        return pd.DataFrame({"price_to_mean4": candles["close"] / mean})

    yield "quick"
    del features._REGISTRY["quick"]


def builder(tmp_path, **fields):
    return DatasetBuilder(**FIVE | {"inputs_dir": str(tmp_path)} | fields)


def main(*arguments):
    return commands.build([str(word) for word in arguments])


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(PROJECT / "dataset_builder.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
    )


# Configuration


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "FW-120__SL-050__TP-100"),
        ({"feature_sets": ["core8", "ray12"]}, "FW-120__SL-050__TP-100__F-core8+ray12"),
        ({"raw_prices": True}, "FW-120__SL-050__TP-100__RAW-prices"),
        ({"higher_timeframes": ["15m", "1h"]}, "FW-120__SL-050__TP-100__HTF-15m+1h"),
        (
            {"target": "direction", "dead_zone_pct": 0.05, "future_window": 15},
            "FW-015__TARGET-direction__DZ-0.05",
        ),
        ({"target": "return", "max_fill_bars": 5}, "FW-120__FILL-005__TARGET-return"),
        ({"accept_jumps": True}, "FW-120__SL-050__TP-100__JUMPS-accepted"),
    ],
)
def test_what_is_not_default_is_in_the_name_and_read_back(fields, name):
    config = build_config(fields)
    assert config.expected_filename == f"BTCUSDT_TF-1m__{name}__training_ready.feather"
    assert filename_mismatches(config.expected_filename, config) == []
    if fields:
        assert filename_mismatches(config.expected_filename, Config())
        assert filename_mismatches(Config().expected_filename, config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"feature_sets": ["cor8"]}, "Did you mean 'core8'"),
        ({"feature_sets": ["window_stat"]}, "Did you mean 'window_stats'"),
        ({"feature_sets": []}, "at least one name"),
        ({"feature_sets": ["a__b"]}, "joined by single _"),
        ({"feature_sets": ["ray12", "ray12"]}, "expected each once"),
        ({"higher_timeframes": ["1m"]}, "whole multiples of timeframe 1m"),
        ({"higher_timeframes": ["8m"], "timeframe": "5m"}, "whole multiples"),
        ({"higher_timeframes": ["1y"]}, "higher_timeframes: expected a whole number"),
        ({"target": "prices"}, "Did you mean 'price'"),
        ({"dead_zone_pct": 0.1}, "expected target 'direction' with it"),
    ],
)
def test_impossible_datasets_are_refused_by_the_configuration(fields, message):
    with pytest.raises(ConfigError, match=message):
        build_config(fields)


def test_a_set_of_ones_own_is_looked_up_when_it_is_computed(tmp_path, market):
    with pytest.raises(ConfigError, match="expected names out of core8"):
        builder(tmp_path, feature_sets=("foo",)).build_dataset(candles=market)
    assert main("--demo", "--feature-sets", "foo", "--inputs-dir", tmp_path) == 2


# Rows


@pytest.mark.parametrize("target", ["signal", "direction", "return", "price"])
def test_targets_drop_the_rows_without_an_outcome(tmp_path, market, target):
    built = builder(tmp_path, target=target).build_dataset(candles=market)
    assert len(built.frame) == 11_000 - WARM_UP - 12
    assert built.timestamps.iloc[0] == market["timestamp"].iloc[WARM_UP]
    assert built.timestamps.iloc[-1] == market["timestamp"].iloc[-13]
    close = market["close"].to_numpy()
    row = 100
    now, later = close[WARM_UP + row], close[WARM_UP + row + 12]
    if target == "return":
        assert built.target[row] == pytest.approx(np.log(later / now))
    elif target == "price":
        assert built.target[row] == later
    elif target == "direction":
        assert built.target[row] == (2 if later > now else 0)
    assert built.feature_names == features.feature_names(("core8",), "5m")
    assert DatasetBuilder().validate_dataset(built) == []


def test_direction_file_is_loaded_like_a_signal_file(tmp_path, market):
    made = builder(tmp_path, target="direction", dead_zone_pct=0.05)
    path = made.write_dataset(made.build_dataset(candles=market))
    assert path.name == (
        "TESTUSDT_TF-5m__FW-012__TARGET-direction__DZ-0.05__training_ready.feather"
    )
    config = made.config.replace(sequence_length=10)
    data = TrainingDataLoader(config=config).load_training_data()
    assert data.num_features == 8
    with pytest.raises(DataError, match="target: the configuration says signal"):
        TrainingDataLoader(
            path, config=config, target="signal", dead_zone_pct=0.0
        ).load_training_data()


def test_sidecar_parameters_are_compared_as_the_configuration_has_them(
    tmp_path, market, quick
):
    made = builder(tmp_path, feature_sets=(quick,), higher_timeframes=("15m",))
    made.write_dataset(made.build_dataset(candles=market))
    config = made.config.replace(sequence_length=10)
    assert TrainingDataLoader(config=config).load_training_data().feature_names == (
        "price_to_mean4",
        "price_to_mean4_15m",
    )
    other = tmp_path / "other.feather"
    shutil.copy(made.config.expected_path, other)
    shutil.copy(f"{made.config.expected_path}.json", f"{other}.json")
    with pytest.raises(DataError, match="feature_sets: the configuration says"):
        TrainingDataLoader(
            other, config=config, feature_sets=("core8",)
        ).load_training_data()


def test_number_target_is_no_feature_and_no_label(tmp_path, market):
    made = builder(tmp_path, target="price")
    path = made.write_dataset(made.build_dataset(candles=market))
    assert "target" not in datasets.read_dataset(path).feature_names
    data = TrainingDataLoader(config=made.config).load_training_data()
    assert data.is_regression and "target" not in data.feature_names
    other = made.config.replace(target="signal", training_file=str(path))
    with pytest.raises(DataError, match="target: the configuration says signal"):
        TrainingDataLoader(config=other).load_training_data()


def test_higher_timeframe_knows_closed_bars_alone(tmp_path, quick):
    market = synthetic_candles(600, seed=1)
    fields = {
        "feature_sets": (quick,),
        "higher_timeframes": ("15m",),
        "timeframe": "1m",
    }
    whole = builder(tmp_path, **fields).build_dataset(candles=market).frame
    # What happens after row t changes nothing of row t.
    changed = market.copy()
    changed.loc[301:, ["open", "high", "low", "close"]] *= 1.02
    other = builder(tmp_path, **fields).build_dataset(candles=changed).frame
    known = whole["timestamp"] <= market["timestamp"][300]
    names = ["price_to_mean4", "price_to_mean4_15m"]
    assert known.sum() > 200
    pd.testing.assert_frame_equal(whole.loc[known, names], other.loc[known, names])
    assert not whole[names].equals(other[names])
    # 00:59 closes the fourth quarter: the first row with a mean of four.
    assert str(whole["timestamp"].iloc[0]) == "2024-01-01 00:59:00+00:00"


def jumped(rows, factor, columns=("open", "high", "low", "close")):
    table = synthetic_candles(6000, seed=1)
    table.loc[rows, list(columns)] *= factor
    return table


@pytest.mark.parametrize("timeframe", ["1m", "1h"])
def test_labels_cross_no_jump_unless_it_is_accepted(tmp_path, quick, timeframe):
    """Row 3,000 opens an hour; features and labels are of one side of it."""
    fields = {"feature_sets": (quick,), "timeframe": timeframe, "future_window": 5}
    market = jumped(slice(3000, None), 1e-3)
    built = builder(tmp_path, **fields).build_dataset(candles=market)
    bar = pd.Timedelta(timeframe)
    moment = market["timestamp"][3000]
    beside = built.timestamps[(built.timestamps - moment).abs() < 6 * bar]
    # Three bars of warm-up behind it, five whose future would cross it before it.
    assert [(t - moment) / bar for t in beside] == [3, 4, 5]
    assert built.metadata["doubts"][0].startswith("the price jumps and stays: 1, row 3")
    # The file says so, and another run does not take it.
    accepted = builder(tmp_path, **fields, accept_jumps=True)
    whole = accepted.build_dataset(candles=market)
    assert len(whole.frame) == len(built.frame) + 8
    assert whole.frame["long_return"].min() < -0.9 < built.frame["long_return"].min()
    path = accepted.write_dataset(whole)
    config = accepted.config.replace(accept_jumps=False, training_file=str(path))
    with pytest.raises(DataError, match="accept_jumps: the configuration says False"):
        TrainingDataLoader(config=config).load_training_data()


def test_a_jump_that_leaves_no_warm_up_is_told(tmp_path):
    market = jumped(slice(3000, None), 1e-3).iloc[2800:3200].reset_index(drop=True)
    made = builder(tmp_path, feature_sets=("ray12",), timeframe="1m")
    told = "jumps of the price or gaps .* into 2 segments; .*row 200 .* --accept-jumps"
    with pytest.raises(DataError, match=told):
        made.build_dataset(candles=market)


def test_a_glitch_costs_the_targets_that_it_decides(tmp_path, quick, caplog):
    fields = {"feature_sets": (quick,), "timeframe": "1m", "future_window": 5}
    market = jumped([3000], 1e6, ["high"])
    made = builder(tmp_path, **fields)
    built = made.build_dataset(candles=market)
    frame = built.frame.set_index("timestamp")
    lost = frame.index[~frame["is_target"]]
    assert list(lost) == list(market["timestamp"][2995:3001])
    path = dataset_builder.write_training_file(made, built)
    assert "doubtful: a high or low far from its bar: 1, row 3000 " in caplog.text
    summary = dataset_report.format_summary(datasets.read_dataset(path))
    assert "doubtful: a high or low far from its bar: 1, row 3000" in summary
    config = made.config.replace(sequence_length=10)
    data = TrainingDataLoader(path, config=config).load_training_data()
    assert "\n  doubtful: a high or low far from its bar" in format_data(data, config)
    # Of hours as well: the bar that holds it, and five before it.
    hours = builder(tmp_path, **fields | {"timeframe": "1h"})
    frame = hours.build_dataset(candles=market).frame
    assert (~frame["is_target"]).sum() == 6


def test_an_outage_that_reopens_far_away_is_not_filled(tmp_path, quick):
    fields = {"feature_sets": (quick,), "timeframe": "1m", "future_window": 5}
    far = jumped(slice(3000, None), 1.3).drop(index=range(2990, 3000))
    near = jumped([], 1.0).drop(index=range(2990, 3000))
    built = [builder(tmp_path, **fields).build_dataset(candles=c) for c in (far, near)]
    assert [each.metadata["num_filled_bars"] for each in built] == [0, 10]
    assert [each.metadata["num_segments"] for each in built] == [2, 1]


def test_a_file_whose_column_names_another_pair_is_refused(tmp_path, quick):
    path = tmp_path / "candles.csv"
    synthetic_candles(100, seed=1).assign(symbol="ETHUSDT").to_csv(path, index=False)
    made = builder(tmp_path, feature_sets=(quick,), timeframe="1m", future_window=5)
    with pytest.raises(DataError, match="candles of TESTUSDT. Received: 'ETHUSDT' in"):
        made.build_dataset(candles=path)
    assert len(made.build_dataset("ETHUSDT", candles=path).frame) == 92


def test_wall_clock_candles_are_doubtful_until_their_zone_is_named(tmp_path, quick):
    market = synthetic_candles(200, seed=1, timeframe="1h", start="2024-03-08")
    local = market["timestamp"].dt.tz_convert("America/New_York").dt.tz_localize(None)
    path = tmp_path / "candles.csv"
    market.assign(timestamp=local).to_csv(path, index=False)
    fields = {"feature_sets": (quick,), "timeframe": "1h", "future_window": 5}
    taken = builder(tmp_path, **fields).build_dataset(candles=path)
    assert "say --timezone America/New_York" in taken.metadata["doubts"][0]
    zoned = builder(tmp_path, **fields, timezone="America/New_York")
    built = zoned.build_dataset(candles=path)
    assert built.metadata["doubts"] == [] and built.metadata["num_filled_bars"] == 0
    assert built.timestamps.tolist() == market["timestamp"][3:195].tolist()


def test_exchanged_columns_are_refused(tmp_path, quick):
    market = jumped([], 1.0).rename(columns={"open": "close", "close": "open"})
    made = builder(tmp_path, feature_sets=(quick,), timeframe="1m", future_window=5)
    with pytest.raises(DataError, match="open and close look exchanged in 6000 rows"):
        made.build_dataset(candles=market)


def test_a_minute_without_a_trade_does_not_cost_its_hour(tmp_path, quick):
    market = synthetic_candles(6000, seed=1).drop(index=[100, 1500, 1501])
    made = builder(tmp_path, feature_sets=(quick,), timeframe="1h", future_window=5)
    frame = made.build_dataset(candles=market).frame
    assert len(frame) == 100 - 3 - 5
    assert frame["is_target"].all()


def test_build_training_frame_is_the_uncached_dataset(tmp_path, market):
    frame, description = build_training_frame(market, Config(**FIVE))
    built = builder(tmp_path).build_dataset(candles=market)
    pd.testing.assert_frame_equal(frame, built.frame)
    assert description["num_rows"] == len(frame)
    assert description["features"] == list(built.feature_names)


def test_real_minutes_and_their_five_minutes_agree(shared_data, tmp_path):
    fields = {"feature_sets": ("ray12",), "timeframe": "5m", "pair": "BTCUSDT"}
    made = builder(tmp_path, **fields)
    fine = made.build_dataset(candles=shared_data / "BTCUSDT-1m.parquet").frame
    own = made.build_dataset(candles=shared_data / "BTCUSDT-5m.parquet").frame
    shared = fine.merge(own, on="timestamp", suffixes=("", "_own"))
    assert len(shared) == len(fine) == 17_568 - 255 - 12
    assert (shared["close"] == shared["close_own"]).all()
    assert (shared["label"] == shared["label_own"]).all()


# Cache


def names(cache):
    return sorted(entry["name"].split("-")[0] for entry in cache.info()["tables"])


def test_cached_dataset_is_the_built_one(tmp_path, market):
    made = builder(tmp_path)
    first = made.build_dataset(candles=market)
    assert names(made.cache) == ["features", "outcomes"]
    again = builder(tmp_path).build_dataset(candles=market)
    pd.testing.assert_frame_equal(first.frame, again.frame)
    assert first.metadata == again.metadata
    again.frame.loc[0, "close"] = 1.0  # writable, and nobody else's
    assert builder(tmp_path).build_dataset(candles=market).frame["close"][0] != 1.0


@pytest.mark.parametrize("target", ["signal", "price"])
def test_cached_columns_are_those_of_the_whole(tmp_path, market, target):
    made = builder(tmp_path, target=target)
    built = made.build_dataset(candles=market)
    cached = made.build_dataset(candles=market)
    pd.testing.assert_frame_equal(cached.features, built.features)
    np.testing.assert_array_equal(cached.target, built.target)
    pd.testing.assert_series_equal(cached.timestamps, built.timestamps)
    mixed = ["close", built.feature_names[1], "timestamp"]
    pd.testing.assert_frame_equal(cached.columns(mixed), built.columns(mixed))
    with pytest.raises(KeyError, match="no_such"):
        cached.columns(["no_such"])


def test_cached_features_are_read_alone(tmp_path, market, monkeypatch):
    made = builder(tmp_path)
    made.build_dataset(candles=market)
    cached, read = made.build_dataset(candles=market), []
    file_read = dataset_cache.pa.parquet.ParquetFile.read
    monkeypatch.setattr(
        dataset_cache.pa.parquet.ParquetFile,
        "read",
        lambda self, names: read.extend(names) or file_read(self, names),
    )
    assert cached.features.shape[1] == 8 and len(cached.target)
    assert read == [*cached.feature_names, "label"]


def test_another_target_uses_the_same_features(tmp_path, market, monkeypatch):
    builder(tmp_path).build_dataset(candles=market)
    monkeypatch.setattr(features, "compute_features", None)
    built = builder(tmp_path, target="return").build_dataset(candles=market)
    assert names(builder(tmp_path).cache) == ["features", "outcomes", "outcomes"]
    assert len(built.frame) == 11_000 - WARM_UP - 12


def keys(source, **fields):
    return fingerprints.dataset_keys(source, Config(**FIVE | fields), {})


def test_key_follows_bytes_parameters_and_code(market, quick, monkeypatch):
    own = keys(market)
    assert keys(market.copy()) == own
    changed = market.copy()
    changed.loc[5000, "volume"] = np.nextafter(changed.loc[5000, "volume"], np.inf)
    assert keys(changed)["features"] != own["features"]
    moved = market.assign(timestamp=market["timestamp"] + pd.Timedelta("5min"))
    assert keys(moved)["features"] != own["features"]
    for field in (
        {"max_fill_bars": 5},
        {"raw_prices": True},
        {"feature_sets": (quick,)},
        {"higher_timeframes": ("1h",)},
        {"timeframe": "15m"},
    ):
        assert keys(market, **field)["features"] != own["features"]
    for field in (
        *({"long_tp_pct": 2.0}, {"long_sl_pct": 2.0}),
        *({"short_tp_pct": 2.0}, {"short_sl_pct": 2.0}),
        *({"future_window": 13}, {"tie_policy": "optimistic"}),
        *({"pair": "OTHERUSDT"}, {"target": "price"}, {"target": "direction"}),
    ):
        other = keys(market, **field)
        assert other["features"] == own["features"]
        assert other["outcomes"] != own["outcomes"]
    narrow, wide = (
        keys(market, target="direction", dead_zone_pct=pct) for pct in (0.1, 0.2)
    )
    assert narrow["outcomes"] != wide["outcomes"]
    monkeypatch.setattr(features, "FEATURE_VERSION", "other")
    assert keys(market)["features"] != own["features"]


def test_key_of_files_is_their_bytes(tmp_path, market):
    path = tmp_path / "TESTUSDT-5m.parquet"
    market.to_parquet(path)
    own = fingerprints.files_fingerprint([path])
    os.utime(path, (1, 1))
    assert fingerprints.files_fingerprint([path]) == own
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert fingerprints.files_fingerprint([path]) != own


def test_a_file_that_was_touched_is_read_again(tmp_path, quick):
    """Written before its last bar was over, it has a bar less."""
    path = tmp_path / "TESTUSDT-5m.parquet"
    synthetic_candles(400, seed=3, timeframe="5m").to_parquet(path)
    made, counts = builder(tmp_path, feature_sets=(quick,)), []
    for minutes in (1999, 2001):  # of 400 bars
        written = pd.Timestamp("2024-01-01") + pd.Timedelta(minutes, "min")
        os.utime(path, (written.timestamp(), written.timestamp()))
        built = made.build_dataset(candles=path)
        counts.append((built.metadata["num_candles"], built.metadata["digests"]))
    assert [count for count, _ in counts] == [399, 400]
    assert counts[0][1] == counts[1][1]


def test_functions_of_the_user_are_told_apart():
    def make(bars, data):
        def function(candles, context):
            return candles["close"].rolling(bars).mean() + data[0]

        return function

    digest = fingerprints.function_fingerprint
    assert digest(make(5, np.zeros(3))) == digest(make(5, np.zeros(3)))
    assert digest(make(5, np.zeros(3))) != digest(make(6, np.zeros(3)))
    assert digest(make(5, np.zeros(3))) != digest(make(5, np.ones(3)))
    assert digest(make(5, np.zeros(3))) is not None
    assert digest(make(object(), np.zeros(3))) is None
    assert digest(len) is None
    made_of_text = {}
    exec("def hidden(candles, context): return 1", made_of_text)
    assert digest(made_of_text["hidden"]) is None


@pytest.fixture
def hidden():
    """A set whose source nobody can read; it names its one column `column[0]`."""
    space = {"column": ["level"]}
    source = "return candles[['open']].rename(columns={'open': column[0]})"
    exec(f"def hidden(candles, context): {source}", space)
    features.register_feature_set("hidden", space["hidden"], warm_up_bars=0)
    yield space["column"]
    del features._REGISTRY["hidden"]


def test_a_set_without_a_source_is_built_but_not_cached(tmp_path, market, hidden):
    made = builder(tmp_path, feature_sets=("hidden",))
    assert len(made.build_dataset(candles=market).frame) == 11_000 - 12
    assert made.get_cache_info()["tables"] == []


def test_a_feature_must_not_take_a_name_of_the_file(tmp_path, market, hidden):
    hidden[0] = "close"
    with pytest.raises(DataError, match="Received: close. Rename"):
        builder(tmp_path, feature_sets=("hidden",)).build_dataset(candles=market)


def small_table(rows=1000):
    return pa.table(
        {
            "a": np.arange(rows, dtype=np.float32),
            "b": np.arange(rows, dtype=np.int64),
            "time": pd.date_range("2024", periods=rows, freq="min", tz="UTC"),
        }
    )


def test_every_damaged_byte_is_noticed_or_harmless(tmp_path, caplog):
    cache, table = DatasetCache(tmp_path), small_table()
    caplog.set_level(logging.CRITICAL)
    cache.store("kind", "0" * 64, table, {"x": [1, "y"]})
    (path,) = tmp_path.glob("*.parquet")
    whole, noticed = path.read_bytes(), 0
    rng = np.random.default_rng(0)
    for position in [*rng.integers(0, len(whole), 300), *range(1, 200)]:
        content = bytearray(whole)
        content[-position] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        found = cache.load("kind", "0" * 64)
        if found is None:
            noticed += 1
            assert not path.exists()
        else:
            assert found[0].equals(table) and found[1] == {"x": [1, "y"]}
    assert noticed > 300
    path.write_bytes(whole[:-100])
    assert cache.load("kind", "0" * 64) is None


def test_facts_that_were_edited_are_not_believed(tmp_path):
    cache = DatasetCache(tmp_path)
    cache.store("kind", "0" * 64, small_table(), {"rows": "all"})
    (path,) = tmp_path.glob("*.parquet")
    table = pq.read_table(path)
    noted = dict(table.schema.metadata)
    for facts in (b"all", b"few"):
        noted[b"content"] = noted[b"content"].replace(b"all", facts)
        pq.write_table(table.replace_schema_metadata(noted), path)
        found = cache.facts("kind", "0" * 64)
        assert found == ({"rows": "all"} if facts == b"all" else None)


def test_corrupted_cache_is_noticed_and_rebuilt(tmp_path, market, caplog):
    made = builder(tmp_path)
    first = made.build_dataset(candles=market)
    for path in (tmp_path / ".cache").glob("*.parquet"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    again = made.build_dataset(candles=market)
    pd.testing.assert_frame_equal(first.frame, again.frame)
    assert "is damaged and is made again" in caplog.text
    caplog.clear()
    pd.testing.assert_frame_equal(first.frame, made.build_dataset(candles=market).frame)
    assert caplog.text == ""


def test_rows_that_went_before_they_were_read_are_built_again(tmp_path, market):
    made, source = builder(tmp_path), tmp_path / "five.feather"
    market.to_feather(source)
    first = made.build_dataset(candles=source)
    opened = made.build_dataset(candles=source)
    made.clear_cache()
    pd.testing.assert_frame_equal(opened.frame, first.frame)
    opened = made.build_dataset(candles=source)
    made.clear_cache()
    market[1:].to_feather(source)
    with pytest.raises(DataError, match="the cache has lost the rows"):
        opened.frame  # noqa: B018


def test_a_file_under_another_key_is_not_taken(tmp_path):
    cache = DatasetCache(tmp_path)
    cache.store("kind", "0" * 64, small_table(), {})
    (tmp_path / f"kind-{'0' * 32}.parquet").rename(
        tmp_path / f"kind-{'1' * 32}.parquet"
    )
    assert cache.load("kind", "1" * 64) is None


def test_least_recently_used_goes_first(tmp_path):
    cache, table = DatasetCache(tmp_path), small_table()
    for k in range(3):
        cache.store("kind", str(k) * 64, table, {})
        os.utime(cache._path("kind", str(k) * 64), (1000 + k, 1000 + k))
    cache.load("kind", "0" * 64)
    size = cache.info()["tables"][0]["bytes"]
    cache.max_bytes = int(3.5 * size)
    cache.store("kind", "3" * 64, table, {})
    left = [entry["name"][5] for entry in cache.info()["tables"]]
    assert sorted(left) == ["0", "2", "3"]
    cache.max_bytes = 10
    cache.store("kind", "4" * 64, table, {})
    assert cache.load("kind", "4" * 64) is None


def test_clear_and_leftovers(tmp_path):
    cache = DatasetCache(tmp_path)
    (tmp_path / "mine.parquet").write_bytes(b"x")
    old = tmp_path / f".tmp-0a-kind-{'2' * 32}.parquet"
    young = tmp_path / f".tmp-0b-kind-{'2' * 32}.parquet"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (1000, 1000))
    cache.store("kind", "0" * 64, small_table(), {})
    assert not old.exists() and young.exists()
    assert cache.clear() == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.parquet"]
    assert DatasetCache(tmp_path / "none").clear() == 0


def build_in_process(folder, barrier, queue):
    market = synthetic_candles(11_000, seed=3, timeframe="5m")
    barrier.wait()
    for _ in range(3):
        made = builder(folder)
        frame = made.build_dataset(candles=market).frame
        made.clear_cache()
    queue.put(sha256_json(frame["high_change"].tolist()))


def test_concurrent_builders_do_not_disturb_each_other(tmp_path, market):
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(3), context.Queue()
    workers = [
        context.Process(target=build_in_process, args=(tmp_path, barrier, queue))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    digests = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    frame = builder(tmp_path).build_dataset(candles=market).frame
    assert digests == {sha256_json(frame["high_change"].tolist())}
    assert not list((tmp_path / ".cache").glob(".tmp-*"))


def test_levels_that_cannot_work_are_doubtful(tmp_path, market, caplog):
    made = builder(tmp_path, long_tp_pct=50.0, short_tp_pct=0.2)
    built = made.build_dataset(candles=market)
    usual = built.metadata["usual_move_pct"]
    assert 0 < usual < 50
    dataset_builder.write_training_file(made, built)
    assert [line for line in caplog.messages if "take profit" in line] == [
        "  doubtful: take profit of long, 50 %: hardly ever reached, 99 of 100 moves "
        f"over {made.config.future_window} bars stay below {usual:.2g} %",
        "  doubtful: take profit of short, 0.2 %: not above the costs of a round "
        "trip, 0.3 %",
    ]


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, market, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    made = builder(tmp_path, cache_dir=blocked)
    assert len(made.build_dataset(candles=market).frame) == 11_000 - WARM_UP - 12
    assert "not cached" in caplog.text


def test_no_cache(tmp_path, market):
    builder(tmp_path, use_cache=False).build_dataset(candles=market)
    assert not (tmp_path / ".cache").exists()


# Several pairs, candles by name


def test_multi_symbol(tmp_path, market):
    other = synthetic_candles(10_000, seed=4, timeframe="5m")
    built = builder(tmp_path).build_multi_symbol_dataset(
        {"AAAUSDT": market, "BBBUSDT": other}
    )
    assert [len(item.frame) for item in built.values()] == [2349, 1349]
    assert built["BBBUSDT"].metadata["parameters"]["pair"] == "BBBUSDT"


def test_multi_symbol_refuses_all_together(tmp_path, market):
    made = builder(tmp_path)
    with pytest.raises(DataError, match="expected each pair once. Received: AAA"):
        made.build_multi_symbol_dataset([("AAAUSDT", market), ("AAA_USDT", market)])
    with pytest.raises(DataError) as caught:
        made.build_multi_symbol_dataset(
            [("AAAUSDT", market), ("BBBUSDT", market[:50]), ("CCCUSDT", market[:60])]
        )
    assert "2 of 3 pairs refused" in str(caught.value)
    assert "BBBUSDT: no segment holds a warm-up" in str(caught.value)
    with pytest.raises(MissingInputError, match="expected candles of DDDUSDT"):
        made.build_multi_symbol_dataset(["DDDUSDT"])


def test_candles_are_found_by_their_name(tmp_path, market, quick):
    for name in ("AAA_USDT-5m-2024-01.parquet", "AAAUSDT-1h.parquet", "AAA-5m.parquet"):
        market.to_parquet(tmp_path / name)
    (tmp_path / "AAAUSDT-5m-2024-01.zip.CHECKSUM").write_text("x")
    made = builder(tmp_path, data_dir=tmp_path, feature_sets=(quick,))
    assert len(made.build_dataset("AAAUSDT", "15m").frame) == 11_000 // 3 - 3 - 12
    with pytest.raises(MissingInputError, match="4 other files"):
        made.build_dataset("AAAUSDT", "1m")


def test_downloaded_archives_are_found_in_their_folder(tmp_path, market, quick):
    spot, futures = tmp_path / "spot", tmp_path / "futures"
    for folder in (spot, futures):
        folder.mkdir()
    market.to_feather(spot / "AAAUSDT-5m-2024-01.feather")
    made = builder(tmp_path, data_dir=tmp_path, feature_sets=(quick,))
    assert len(made.build_dataset("AAAUSDT").frame) == 11_000 - 3 - 12
    market.to_feather(futures / "AAAUSDT-5m-2024-01.feather")
    with pytest.raises(ConfigError, match=f"Choose --data-dir {futures} or --data-dir"):
        made.build_dataset("AAAUSDT")
    (spot / "AAAUSDT-5m-2024-01.feather").rename(tmp_path / "AAAUSDT-5m.feather")
    with pytest.raises(ConfigError, match="expected candles of AAAUSDT in one folder"):
        made.build_dataset("AAAUSDT")


# The pair that a file's name states


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("ETHUSDT-5m.feather", "ETHUSDT"),
        ("ETH_USDT-5m.feather", "ETHUSDT"),
        ("eth_usdt-5m.feather", "OTHERUSDT"),  # words in lower case state nothing
        ("candles-5m.feather", "OTHERUSDT"),
        ("five.feather", "OTHERUSDT"),
        ("BTCUSD_BITFINEX-5m.feather", "BTCUSD_BITFINEX"),
        ("BTCUSD_BITFINEX-5m.feather", "BTCUSD"),
        ("BTCUSDT_PERP-5m-2025-01.feather", "BTCUSDT"),
        ("BTC_USDT_USDT-5m-futures.feather", "BTCUSDT"),
    ],
)
def test_names_that_agree_with_the_pair(tmp_path, market, quick, name, pair):
    market[:500].to_feather(tmp_path / name)
    made = builder(tmp_path, feature_sets=(quick,), pair=pair)
    built = made.build_dataset(candles=tmp_path / name)
    assert built.metadata["parameters"]["pair"] == pair


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("BTCUSDT-5m.feather", "BTCUSDT"),
        ("BTCUSDT-5m-2025-01.feather", "BTCUSDT"),
        ("BTCUSDT_TF-5m.feather", "BTCUSDT"),
        ("ETHUSDTUP-5m.feather", "ETHUSDTUP"),
        ("ETHUSD-5m.feather", "ETHUSD"),
    ],
)
def test_a_file_of_another_pair_is_refused(tmp_path, market, capsys, name, stated):
    market[:500].to_feather(tmp_path / name)
    flags = ("--pair", "ETHUSDT", "--timeframe", "5m", "--inputs-dir", tmp_path / "in")
    assert main(tmp_path / name, *flags) == 65
    text = capsys.readouterr().err
    assert (
        f"expected candles of ETHUSDT. Received: a file that is named after {stated}"
        in text
    )
    assert f"Give --pair {stated}" in text
    assert not (tmp_path / "in").exists()
    assert main("multi", f"ETHUSDT={tmp_path / name}", *flags[2:]) == 65


def test_the_name_gives_the_pair_where_the_user_does_not(tmp_path, market, capsys):
    market.to_feather(tmp_path / "ETHUSDT-5m.feather")
    market.to_feather(tmp_path / "five.feather")
    flags = ("--timeframe", "5m", "--inputs-dir", tmp_path / "in")
    assert main(tmp_path / "ETHUSDT-5m.feather", *flags) == 0
    (file,) = (tmp_path / "in").glob("*.feather")
    assert file.name.startswith("ETHUSDT_TF-5m__")
    assert main(tmp_path / "five.feather", *flags) == 2
    assert "expected --pair, or candle files that are named" in capsys.readouterr().err
    market.to_feather(tmp_path / "BTCUSDT-5m.feather")
    both = (tmp_path / "ETHUSDT-5m.feather", tmp_path / "BTCUSDT-5m.feather")
    assert main(*both, *flags) == 2
    assert "Received: BTCUSDT and ETHUSDT" in capsys.readouterr().err
    (tmp_path / "run.yaml").write_text("pair: ADAUSDT\n")
    assert (
        main(tmp_path / "five.feather", *flags, "--config", tmp_path / "run.yaml") == 0
    )
    assert list((tmp_path / "in").glob("ADAUSDT_*.feather"))


# Names and formats of what is written


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".feather"])
def test_a_training_file_has_the_format_of_its_name(tmp_path, market, quick, suffix):
    path = tmp_path / f"mine{suffix}"
    made = builder(
        tmp_path, feature_sets=(quick,), training_file=str(path), sequence_length=10
    )
    built = made.build_dataset(candles=market)
    made.write_dataset(built)
    magic = {".parquet": b"PAR1", ".csv": b'"time', ".feather": b"ARRO"}[suffix]
    assert path.read_bytes()[:4] == magic[:4]
    again = datasets.read_dataset(path)
    assert again.metadata["sha256"] == sha256_file(path)
    np.testing.assert_array_equal(again.target, built.target)
    np.testing.assert_array_equal(again.features.astype(np.float32), built.features)
    data = TrainingDataLoader(config=made.config).load_training_data()
    assert data.num_rows == len(built.frame)


def test_a_format_that_is_not_read_back_is_refused_first(tmp_path, market, capsys):
    flags = ("--demo", "--training-file", tmp_path / "in" / "mine.xlsx")
    assert main(*flags) == 2
    assert "expected a name in .feather, .parquet, .csv" in capsys.readouterr().err
    assert not (tmp_path / "in").exists()


def test_a_dataset_is_written_under_its_own_name(tmp_path, market, quick):
    fields = {"target": "direction", "future_window": 30, "dead_zone_pct": 0.05}
    built = builder(tmp_path, feature_sets=(quick,), **fields).build_dataset(
        candles=market
    )
    plain = DatasetBuilder(inputs_dir=str(tmp_path))
    assert plain.write_dataset(built).name == (
        "TESTUSDT_TF-5m__FW-030__TARGET-direction__DZ-0.05__F-quick"
        "__training_ready.feather"
    )
    signal = builder(tmp_path, feature_sets=(quick,)).build_dataset(candles=market)
    other = DatasetBuilder(inputs_dir=str(tmp_path), **fields)
    name = "TESTUSDT_TF-5m__FW-012__SL-010__TP-020__F-quick__training_ready.feather"
    assert other.write_dataset(signal).name == name
    false = DatasetBuilder(training_file=str(tmp_path / name))
    with pytest.raises(ConfigError, match="is the name of another dataset"):
        false.write_dataset(built)
    foreign = Dataset(frame=built.frame, metadata={"parameters": {"pair": "AAAUSDT"}})
    with pytest.raises(DataError, match="states what it was built with"):
        plain.write_dataset(foreign)


def test_sparse_candles_are_settled_by_the_timeframe(tmp_path, quick):
    whole = synthetic_candles(3000, seed=1)
    rng = np.random.default_rng(0)
    keep = np.sort(rng.choice(3000, 900, replace=False))
    sparse = whole.iloc[keep].reset_index(drop=True)
    steps = sparse["timestamp"].diff().value_counts()
    assert steps.index[0] == pd.Timedelta("1min")
    # Every second minute and some between: the smallest step is not the most common.
    keep = np.union1d(np.arange(0, 3000, 2), [101, 1501])
    sparse = whole.iloc[keep].reset_index(drop=True)
    sparse.to_feather(tmp_path / "TESTUSDT-1m.feather")
    made = builder(tmp_path, timeframe="1m", feature_sets=(quick,))
    for source in (tmp_path / "TESTUSDT-1m.feather", sparse):
        built = made.build_dataset(candles=source)
        assert built.metadata["candles"]["timeframe"] == "1m"
        assert built.metadata["candles"]["missing_bars"] == 2999 - len(sparse)
        assert built.metadata["num_filled_bars"] == 2999 - len(sparse)


@pytest.mark.parametrize("num_files", [1, 2])
def test_candles_are_checked_once(tmp_path, quick, monkeypatch, num_files):
    reports = []

    class Counted(checks.CandleReport):
        def __init__(self, **values):
            reports.append(values["num_bars"])
            super().__init__(**values)

    monkeypatch.setattr(checks, "CandleReport", Counted)
    # Minute 700 is missing within a file, minutes 1000 to 1002 between two.
    market = synthetic_candles(2000, seed=1)
    market.loc[[4, 1500], "volume"] = 0.0
    market = market.drop(index=[700, 1000, 1001, 1002])
    files = [tmp_path / "TESTUSDT-1m.feather", tmp_path / "TESTUSDT-1m.2.feather"]
    edges = [0, 999, 1996] if num_files == 2 else [0, 1996]
    for file, first, stop in zip(files, edges, edges[1:], strict=False):
        market[first:stop].reset_index(drop=True).to_feather(file)
    made = builder(tmp_path, timeframe="1m", feature_sets=(quick,))
    built = made.build_dataset(candles=files[:num_files])
    assert reports == ([1996] if num_files == 1 else [999, 997])
    facts = built.metadata["candles"]
    assert (
        facts
        | {
            "first": "2024-01-01T00:00:00+00:00",
            "last": "2024-01-02T09:19:00+00:00",
            "num_gaps": 2,
            "missing_bars": 4,
            "longest_gap_bars": 3,
            "zero_volume_bars": 2,
        }
        == facts
    )
    made.build_dataset(candles=market.assign(volume=2.0).reset_index(drop=True))
    assert reports[num_files:] == [1996]


def test_levels_of_a_hundred_percent_are_built(tmp_path, market, quick):
    far = {
        f"{side}_{kind}_pct": 100 for side in ("long", "short") for kind in ("tp", "sl")
    }
    made = builder(tmp_path, feature_sets=(quick,), **far)
    frame = made.build_dataset(candles=market).frame
    assert (frame["label"] == 1).all()
    assert np.isfinite(frame[["long_return", "short_return"]]).all(axis=None)


def test_a_table_with_faults_is_refused_whole(tmp_path, market):
    bad = market.copy()
    bad.loc[3, "high"] = np.nan
    bad.loc[4, "close"] = -1.0
    with pytest.raises(DataError) as caught:
        builder(tmp_path).build_dataset(candles=bad)
    assert "'high': 1 (rows 3)" in str(caught.value)
    assert "'close': 1 (rows 4)" in str(caught.value)
    words = market.assign(open="much")
    with pytest.raises(DataError, match="'open'. Received: 'much' in row 0, "):
        builder(tmp_path).build_dataset(candles=words)


# Metadata and validation


def test_metadata(shared_data, tmp_path):
    made = DatasetBuilder(pair="ETHUSDT", timeframe="5m", inputs_dir=str(tmp_path))
    built = made.build_dataset(candles=shared_data / "ETHUSDT-5m.parquet")
    facts = json.loads(json.dumps(built.metadata, allow_nan=False))
    assert facts["candles"]["num_gaps"] == 1
    assert facts["candles"]["missing_bars"] == 33_351
    assert (
        facts["candles"]["longest_gaps"]
        == [{"after": "2024-09-06T00:00:00+00:00", "bars": 33_351}]
        or facts["candles"]["longest_gaps"][0]["bars"] == 33_351
    )
    assert facts["candles"]["filled_share"] == 0
    assert facts["num_segments"] == 2
    assert sum(m["rows"] for m in facts["label_mix_by_month"].values()) == 112_139
    assert "2024-10" not in facts["label_mix_by_month"]
    for month in facts["label_mix_by_month"].values():
        assert month["SHORT"] + month["HOLD"] + month["LONG"] == pytest.approx(1)
    column = built.frame["volume_change"].to_numpy(np.float64)
    assert facts["feature_statistics"]["volume_change"] == pytest.approx(
        {
            "null_share": 0,
            "min": column.min(),
            "max": column.max(),
            "mean": column.mean(),
            "std": column.std(),
        },
        rel=1e-5,
    )
    assert set(facts["digests"]) == {"candles", "code", "features", "outcomes"}


def test_statistics_of_odd_columns():
    nan = np.array([np.nan, 1, 3, np.inf], np.float32)
    assert datasets.column_statistics(nan) == {
        **{"null_share": 0.5, "min": 1, "max": 3, "mean": 2, "std": 1},
    }
    assert datasets.column_statistics(np.array([np.nan]))["null_share"] == 1
    far = np.full(1000, 1e6, np.float32)
    far[::2] += 1
    assert datasets.column_statistics(far)["std"] == pytest.approx(0.5)
    assert datasets.column_statistics(np.array([0, 255], np.uint8))["std"] == 127.5


def test_validation_reports_everything_at_once(tmp_path, market):
    made = builder(tmp_path)
    built = made.build_dataset(candles=market)
    assert made.validate_dataset(built) == []
    frame = built.frame.copy()
    frame.loc[7, "high_change"] = np.nan
    frame["low_change"] = np.float32(2)
    frame.loc[3, "label"] = 7
    frame.loc[9, "close"] = 0
    frame.loc[5, "label_end"] = -1
    frame.loc[20:, "timestamp"] += pd.Timedelta("5min")
    frame.loc[30, "timestamp"] = frame.loc[29, "timestamp"]
    frame = frame.iloc[:900]
    found = made.validate_dataset(Dataset(frame=frame, metadata=built.metadata))
    assert found == [
        "timestamp: expected strictly increasing times. Received: 1 row (30)",
        "segment: expected no gap inside one. Received: 1 row (20)",
        "high_change: expected finite numbers. Received: 1 row (7)",
        "low_change: expected values that differ. Received: 2",
        "label: expected 0 (SHORT), 1 (HOLD), 2 (LONG). Received others: 1 row (3)",
        "close: expected finite values. Received: 1 row (9)",
        "label_end: expected at least 1 bar. 1 row (5)",
        "metadata: expected 2349 rows. Received: 900",
        "rows: expected at least 1000. Received: 900",
    ]
    always = built.frame[built.frame["label"] != 1]
    assert built.metadata["label_version"] == "2"
    missing = ["label: expected every class. Missing: HOLD"]
    for target, expected in (("signal", missing), ("direction", [])):
        metadata = {"parameters": {"timeframe": "5m", "target": target}}
        lost = Dataset(frame=always.drop(columns="segment"), metadata=metadata)
        assert [x for x in made.validate_dataset(lost) if "label" in x] == expected
    assert made.validate_dataset(pd.DataFrame()) == [
        "timestamp: expected a column with rows. Received: none"
    ]


# Command line


def test_command_line_builds_describes_and_lists(tmp_path, market, capsys):
    source, folder = tmp_path / "TESTUSDT-5m.feather", tmp_path / "in"
    market.to_feather(source)
    flags = ("--pair", "TESTUSDT", "--timeframe", "5m", "--inputs-dir", folder)
    assert main(source, *flags, "--target", "direction", "--horizon", 6) == 0
    (file,) = folder.glob("*.feather")
    assert "__TARGET-direction__" in file.name
    assert main("describe", file) == 0
    text = capsys.readouterr().out
    assert "direction over 6 bars" in text
    assert "21.41% traded" in text  # all but the warm-up of 8,639 and 6 bars
    assert "findings      none" in text
    assert "too short     the test part will have 0.8 days and 39 horizons" in text
    assert "days of candles are the warm-up: core8_7d takes 7" in " ".join(text.split())
    assert len(text.splitlines()) < 40
    assert file.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert main("cache", "--inputs-dir", folder) == 0
    assert "2 tables" in capsys.readouterr().out
    assert main("cache", "--inputs-dir", folder, "--clear") == 0
    assert "0 tables" in capsys.readouterr().out
    assert main("describe", file, "--output", tmp_path / "x.pdf") == 2
    assert main("describe", tmp_path / "none.feather") == 66
    assert main("describe", source) == 65
    assert f"python -m candles check {source} describes them" in capsys.readouterr().err


def test_command_line_multi(tmp_path, market, capsys):
    for pair in ("AAAUSDT", "BBBUSDT"):
        market.to_feather(tmp_path / f"{pair}-5m.feather")
    folder = tmp_path / "in"
    flags = ("--timeframe", "5m", "--inputs-dir", folder, "--data-dir", tmp_path)
    named = f"BBBUSDT={tmp_path / 'BBBUSDT-5m.feather'}"
    assert main("multi", "AAAUSDT", named, *flags) == 0
    assert sorted(path.name[:7] for path in folder.glob("*.feather")) == [
        "AAAUSDT",
        "BBBUSDT",
    ]
    assert main("multi", "AAAUSDT", named, "BBB-USDT", *flags) == 65
    assert "expected each pair once" in capsys.readouterr().err
    assert main("multi", "CCCUSDT", *flags) == 66
    assert main("multi", "CCCUSDT", "DDDUSDT", *flags) == 66
    assert main("multi", "CCCUSDT", "DDDUSDT", *flags, "--config", folder / "x") == 66


def broken_files(folder, market):
    market.to_csv(folder / "csv.feather", index=False)
    (folder / "empty.feather").write_bytes(b"")
    (folder / "header.csv").write_text("timestamp,open,high,low,close,volume\n")
    market.to_feather(folder / "five.feather")
    market.to_feather(folder / "cut.feather")
    content = (folder / "cut.feather").read_bytes()
    (folder / "cut.feather").write_bytes(content[:-1000])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["csv.feather"], 65, "feather"),
        (["empty.feather"], 65, "empty.feather"),
        (["header.csv"], 65, "header.csv"),
        (["cut.feather"], 65, "cut.feather"),
        (["five.feather", "--timeframe", "1m"], 65, "Received: candles of 5m"),
        (["five.feather", "five.feather"], 65, "expected each file once"),
        (["none.feather"], 66, "none.feather"),
        ([], 2, "Received: neither"),
        (
            ["five.feather", "--feature-set", "core8"],
            2,
            "Did you mean '--feature-sets'",
        ),
        (
            ["five.feather", "--target", "direction", "--dead-zone-pct", "x"],
            2,
            "finite",
        ),
    ],
)
def test_bad_input_leaves_nothing(tmp_path, market, capsys, words, code, message):
    broken_files(tmp_path, market)
    names = [tmp_path / w if w.endswith((".feather", ".csv")) else w for w in words]
    flags = ["--pair", "TESTUSDT"]
    flags += ["--timeframe", "5m"] if "--timeframe" not in words else []
    assert main(*names, "--inputs-dir", tmp_path / "in", *flags) == code
    text = capsys.readouterr().err
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "in").exists()


def test_gaps_that_leave_no_warm_up_are_the_reason(shared_data, tmp_path):
    result = run(
        *(shared_data / "broken" / "LINKUSDT-1m.parquet", "--pair", "LINKUSDT"),
        *("--inputs-dir", tmp_path / "in"),
    )
    assert result.returncode == 65
    assert "no segment holds a warm-up" in result.stderr
    assert (
        "524 gaps longer than max_fill_bars (60) cut the candles into 525 segments; "
        "the longest has 276 bars" in result.stderr
    )
    assert "43199 before the first value of core8" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "in").exists()


def test_unwritable_folder(tmp_path, market, capsys):
    market.to_feather(tmp_path / "five.feather")
    (tmp_path / "file").write_text("")
    blocked = tmp_path / "file" / "in"
    flags = ("--pair", "TESTUSDT", "--timeframe", "5m", "--inputs-dir")
    for folder in (blocked, tmp_path / "file", blocked / "deeper"):
        assert main(tmp_path / "five.feather", *flags, folder) == 74
        # One line, before anything is read or built.
        output, text = capsys.readouterr()
        assert text == (
            f"error: cannot write {folder}: {tmp_path / 'file'} is a file, not a "
            "folder. Choose another folder.\n"
        )
        assert output == ""
        assert main("multi", "AAAUSDT", *flags[2:], folder) == 74
        assert f"cannot write {folder}" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "five.feather"]


def test_a_full_disk_is_told_once(tmp_path, market, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28]")

    market.to_feather(tmp_path / "TESTUSDT-5m.feather")
    monkeypatch.setattr(pa.parquet, "write_table", full)
    monkeypatch.setattr(pa.feather, "write_feather", full)
    flags = ("--timeframe", "5m", "--inputs-dir", tmp_path / "in")
    assert main(tmp_path / "TESTUSDT-5m.feather", *flags) == 74
    (line,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"error: cannot write .*training_ready.feather: No space left on device. "
        r"[\d.]+ [MG]B are free. Check .*",
        line,
    )


def test_help_of_each_command(capsys):
    for words, present, absent in (
        (["--help"], ["--training-file", "  describe  print a summary"], []),
        (["multi", "--help"], ["--inputs-dir"], ["--training-file", "--pair"]),
    ):
        with pytest.raises(SystemExit):
            main(*words)
        text = capsys.readouterr().out
        assert all(word in text for word in present)
        assert not any(word in text for word in absent)


# Figures


@pytest.mark.usefixtures("rendered_pictures")
@pytest.mark.parametrize("fields", [{}, {"target": "return"}])
def test_figures(tmp_path, market, fields):
    built = builder(tmp_path, **fields).build_dataset(candles=market)
    page = dataset_plots.plot_dataset(built)
    assert len(page.axes) == 6
    for plot in (
        dataset_plots.plot_price,
        dataset_plots.plot_label_mix,
        dataset_plots.plot_gaps,
        dataset_plots.plot_features,
    ):
        plot(built).savefig(tmp_path / "x.png")


def test_warm_up_is_not_missing(tmp_path, market, quick):
    gappy = market.drop(index=range(5000, 5200))
    made = builder(tmp_path, feature_sets=(quick,))
    built = made.build_dataset(candles=gappy)
    # Of 11,000 bars 3 + 12 are before and after the rows; 3 + 12 around the hole.
    total = 11_000 - 15
    traded, filled, unused, missing = dataset_plots._bar_shares(built)
    assert (traded, filled) == ((total - 215) / total, 0)
    assert (unused, missing) == pytest.approx((15 / total, 200 / total))
    text = dataset_report.format_summary(built)
    assert "0.27% unused (warm-up, no outcome), 1.82% missing" in text  # of 11,000
    assert "3 of warm-up before the first row, 12 without an outcome" in text
    legend = dataset_plots.plot_gaps(built).axes[0].get_legend()
    assert legend.get_texts()[3].get_text() == "1.82% missing"
    figure = dataset_plots.plot_gaps(built)
    figure.canvas.draw()
    axes = figure.axes[0]
    assert axes.get_legend().get_window_extent().y0 >= axes.bbox.y1 - 1


def test_findings_name_the_rows_of_the_loader_once(tmp_path):
    from world.frames import make_own_frame

    frame = make_own_frame(1500)
    frame.loc[30, "timestamp"] = frame.loc[29, "timestamp"]
    found = [x for x in datasets.find_problems(Dataset(frame=frame, metadata={}))]
    assert [x for x in found if "timestamp" in x or "segment" in x] == [
        "timestamp: expected strictly increasing times. Received: 1 row (30)"
    ]
    with pytest.raises(DataError, match="row 30 repeats"):
        TrainingDataLoader.from_frame(frame).load_training_data()


@pytest.mark.usefixtures("rendered_pictures")
def test_an_unordered_file_is_described_with_its_finding(tmp_path, capsys):
    from world.frames import make_own_frame

    path = tmp_path / "mine.feather"
    frame = make_own_frame(1500).sample(frac=1, random_state=1)
    frame.reset_index(drop=True).to_feather(path)
    assert main("describe", path) == 0
    text = capsys.readouterr().out
    assert "findings      timestamp: expected strictly increasing times" in text
    assert "segment: expected no gap" not in text
    built = datasets.read_dataset(path)
    for plot in (dataset_plots.plot_gaps, dataset_plots.plot_label_mix):
        plot(built).savefig(tmp_path / "x.png")


@pytest.mark.usefixtures("rendered_pictures")
def test_summary_and_figure_of_a_foreign_file(tmp_path):
    from world.frames import make_frame

    path = tmp_path / "anything.csv"
    frame = make_frame(1500).drop(index=range(400, 700))
    frame.loc[3, "low_change"] = np.nan
    frame.to_csv(path, index=False)
    built = datasets.read_dataset(path)
    text = dataset_report.format_summary(built)
    assert "a file without a description" in text
    assert "80.00% traded, 0.00% filled" in text
    assert "20.00% missing" in text
    assert "low_change: expected finite numbers. Received: 1 row (3)" in text
    dataset_plots.plot_dataset(built).savefig(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--demo", "--demo-strength", "-3"], "at least 0 (no signal). Received: -3"),
        (["describ", "x.csv"], "Received: describ. Did you mean 'describe'?"),
    ],
)
def test_refused_words(words, message, capsys):
    assert main(*words) == 2
    assert message in capsys.readouterr().err


def test_a_file_of_others_is_described_as_a_run_reads_it(tmp_path):
    words = np.array(["SHORT", "HOLD", "LONG"])[np.arange(1200) % 3]
    words[-24:] = ""
    frame = make_frame(1200).drop(columns=["label_0", "label_1", "label_2"])
    frame.insert(0, "", np.arange(1200))
    path = tmp_path / "mine.csv"
    frame.assign(label=words).to_csv(path, index=False)
    dataset = datasets.read_dataset(path)
    assert dataset.feature_names == CORE8
    assert dataset.target[:4].tolist() == [0, 1, 2, 0]
    assert datasets.find_problems(dataset) == [
        "not read as features: 'Unnamed: 0' (without a name)"
    ]
