"""Which candles of a file give rows: its days, its segments, its timeframe."""

import logging

import numpy as np
import pandas as pd
import pytest
from world import commands

import dataset_builder
from candles.synthetic import synthetic_candles
from data_loader import TrainingDataLoader
from dataset import features
from dataset.builder import DatasetBuilder, write_training_file
from reports.dataset import format_summary
from utils import ConfigError, DataError, MissingInputError

FIELDS = {
    **{"pair": "TESTUSDT", "timeframe": "5m", "future_window": 12},
    **{"long_tp_pct": 0.2, "long_sl_pct": 0.1},
    **{"short_tp_pct": 0.2, "short_sl_pct": 0.1},
}


@pytest.fixture(scope="module")
def market():
    """Ten days from 2024-01-01 00:00 on."""
    return synthetic_candles(2880, seed=3, timeframe="5m")


@pytest.fixture(scope="module", autouse=True)
def slow():
    @features.feature_set("slow", warm_up_bars=288)
    def slow(candles, context):
        mean = candles["close"].rolling(289).mean()
        return pd.DataFrame({"price_to_mean289": candles["close"] / mean})

    yield
    del features._REGISTRY["slow"]


def build(tmp_path, candles, **fields):
    made = DatasetBuilder(
        **FIELDS | {"inputs_dir": str(tmp_path), "feature_sets": ("slow",)} | fields
    )
    return made, made.build_dataset(candles=candles)


def test_rows_begin_on_the_first_day_and_nothing_is_read_after_the_last(
    tmp_path, market
):
    _, whole = build(tmp_path, market)
    days = {"start_date": "2024-01-04", "end_date": "2024-01-06"}
    _, built = build(tmp_path, market, **days)
    times = built.frame["timestamp"]
    assert str(times.iloc[0]) == "2024-01-04 00:00:00+00:00"  # its warm-up lies before
    assert str(times.iloc[-1]) == "2024-01-06 22:55:00+00:00"
    later = market.assign(close=market["close"].where(market.index < 6 * 288, 1.0))
    later["low"] = np.minimum(later["low"], later["close"])
    _, other = build(tmp_path, later, **days)
    pd.testing.assert_frame_equal(other.frame, built.frame)
    ours = whole.frame[whole.frame["timestamp"].isin(times)].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, built.frame)
    assert built.metadata["dates"] == {"start": "2024-01-04", "end": "2024-01-06"}
    assert built.metadata["num_candles"] == 6 * 288


def test_a_cut_file_has_its_days_in_its_name_and_is_found_by_them(tmp_path, market):
    made, built = build(tmp_path, market, start_date="2024-01-04")
    path = made.write_dataset(built)
    assert "__FROM-20240104__" in path.name
    config = made.config
    data = TrainingDataLoader(config=config, sequence_length=2)
    assert data.read_rows().source["path"] == str(path)
    with pytest.raises(MissingInputError, match=f"{path.name}: --start-date 2024-01"):
        TrainingDataLoader(config=config, start_date=None).read_rows()
    misnamed = str(path).replace("20240104", "20240105")
    with pytest.raises(ConfigError, match="days: the file name says others"):
        DatasetBuilder(config, training_file=misnamed).write_dataset(built)


def test_a_file_of_which_a_third_is_missing_is_built_with_a_doubt(tmp_path, market):
    rows = np.arange(len(market)) % 5
    _, built = build(tmp_path, market[rows < 3], max_fill_bars=2)
    assert built.metadata["doubts"] == [
        "40% of the candles are missing; 40% of the bars that rows are made of are "
        "filled: they repeat the last close, without volume"
    ]
    _, built = build(tmp_path, market[rows < 4], max_fill_bars=2)
    assert built.metadata["doubts"] == []


def test_days_are_part_of_what_is_cached(tmp_path, market):
    path = tmp_path / "TESTUSDT-5m.parquet"
    market.to_parquet(path)
    counts = [
        len(build(tmp_path, path, **days)[1].frame)
        for days in ({}, {"end_date": "2024-01-06"}, {"start_date": "2024-01-06"}, {})
    ]
    assert counts == [2880 - 288 - 12, 5 * 288 - 12, 5 * 288 - 12, 2880 - 288 - 12]


@pytest.mark.parametrize(
    "days", [{"end_date": "2023-12-31"}, {"start_date": "2025-01-01"}]
)
def test_days_without_a_candle_are_refused_with_those_there_are(tmp_path, market, days):
    with pytest.raises(DataError, match="candles from 2024-01-01 to 2024-01-10"):
        build(tmp_path, market, **days)


def test_every_segment_that_gives_no_row_is_named(tmp_path, market, caplog):
    caplog.set_level(logging.INFO)
    holes = np.r_[288:400, 700:800, 1090:1200, 1490:1600]
    gappy = market.drop(index=holes).reset_index(drop=True)
    made, built = build(tmp_path, gappy, start_date="2024-01-07")
    write_training_file(made, built)
    said = [
        record.getMessage().strip()
        for record in caplog.records
        if "not used" in record.getMessage()
    ]
    assert said == [
        "not used: segment 1 of 5, 2024-01-01 to 2024-01-01, 288 bars: shorter than "
        "the warm-up",
        "not used: segment 2 of 5, 2024-01-02 to 2024-01-03, 300 bars: shorter than "
        "the warm-up and the bars of a label",
        "not used: segment 3 of 5, 2024-01-03 to 2024-01-04, 290 bars: shorter than "
        "the warm-up and the bars of a label",
        "not used: segment 4 of 5, 2024-01-05 to 2024-01-06, 290 bars: shorter than "
        "the warm-up and the bars of a label",
    ]
    text = format_summary(built)
    assert "segment 4 of 5, 2024-01-05 to 2024-01-06" in text


def test_a_summary_counts_over_all_candles(tmp_path, market):
    still = market.assign(volume=market["volume"].where(market.index >= 144, 0.0))
    _, built = build(tmp_path, still.drop(index=[2000]).reset_index(drop=True))
    text = " ".join(format_summary(built).split())
    assert "89.55% traded, 0.03% filled, 10.42% unused (warm-up, no outcome)" in text
    assert "300 of all 2,880 bars are no row" in text
    assert "144 without volume (5.00%)" in text


@pytest.mark.parametrize("name", ["TESTUSDT-15m.parquet", "candles.parquet"])
def test_the_timeframe_is_that_of_the_name_or_of_the_bars(tmp_path, market, name):
    path = tmp_path / name
    market.to_parquet(path)
    words = [str(path), "--pair", "TESTUSDT", "--inputs-dir", str(tmp_path)]
    levels = ["--future-window", "5", "--feature-sets", "slow", "--max-fill-bars", "0"]
    assert commands.build([*words, *levels]) == 0
    timeframe = "15m" if "15m" in name else "5m"
    assert list(tmp_path.glob(f"TESTUSDT_TF-{timeframe}__FW-005*.feather"))


def test_several_files_are_described(capsys):
    seen = []
    words = ["describe", "a.feather", "b.feather"]
    assert dataset_builder.main(words, describe=lambda *each: seen.append(each)) == 0
    assert seen == [("a.feather", None), ("b.feather", None)]
    assert dataset_builder.main([*words, "--output", "a.png"], describe=print) == 2
    assert "--output: expected one file" in capsys.readouterr().err
